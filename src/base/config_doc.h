/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Text made from the option tables: the sample file and the reference page, so that neither can forget an option.
 */
#ifndef FAE_BASE_CONFIG_DOC_H
#define FAE_BASE_CONFIG_DOC_H

#include "base/buf.h"

void fae_config_doc_defaults(struct fae_buf *out);  /* conf/fae.lua */
void fae_config_doc_reference(struct fae_buf *out); /* conf/README.md */

#endif
