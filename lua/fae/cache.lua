-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.cache: the cache of lc and all servants, one a node.
return require("fae.lcache").open "cache"
