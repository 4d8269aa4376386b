/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Configurations told to people: what differs between two, what one says. Secrets are told of, never shown.
 */
#ifndef FAE_BASE_CONFIG_REPORT_H
#define FAE_BASE_CONFIG_REPORT_H

#include "base/buf.h"
#include "base/config.h"

/* A line for each thing that is another in `to`: "log_level: info -> debug", "limit shop.*: changed", and
 * "workers: 4 -> 8 needs a restart" for what only a start can change. */
void fae_config_diff(struct fae_buf *out, const struct fae_config *from, const struct fae_config *to);
/* Gives to `into` what `from` has wherever only a start can change it. */
void fae_config_keep(struct fae_config *into, const struct fae_config *from);
/* "log_level info", "limit "shop.*" rate 100": a line for each option, and each one of each entry. */
void fae_config_show(struct fae_buf *out, const struct fae_config *config);

#endif
