/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a line to fae.ctl does. A verb answers with lines of text and one last line, either at once or, when it has to
 * wait for others, later (control.c knows for what a client waits).
 */
#ifndef FAE_PROC_CONTROL_VERBS_H
#define FAE_PROC_CONTROL_VERBS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct fae_control_client;
struct fae_node;

/* Runs the line (without its end). */
void fae_control_run(struct fae_node *node, struct fae_control_client *client, const char *line);

/* Adds lines of text; such as would pass for a last line are indented. */
void fae_control_lines(struct fae_buf *out, const char *text, size_t len);
/* The last line. */
void fae_control_ok(struct fae_control_client *client, const char *text);
void fae_control_err(struct fae_control_client *client, enum fae_err err, const char *text);

#endif
