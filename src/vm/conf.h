/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The config file: Lua that is run once, in a state of its own, in a checker process. It can compute and read the
 * environment and nothing else; all it leaves behind is rows (base/config_rows.h).
 */
#ifndef FAE_VM_CONF_H
#define FAE_VM_CONF_H

#include "base/buf.h"
#include "base/err.h"

/* Runs the file. OK: its rows are added to rows_out. BAD_CONFIG, or NOT_FOUND when there is no such file: rows_out is
 * as it was and errors_out has a line for every error, "conf/fae.lua:12: what". Bounded in memory; whoever calls
 * bounds the time, by doing it in a process that can be killed. */
enum fae_err fae_conf_eval(const char *path, struct fae_buf *rows_out, struct fae_buf *errors_out);
/* The same, but rows_out gets what was right even when other things were wrong: for a check that goes on from there. */
enum fae_err fae_conf_eval_some(const char *path, struct fae_buf *rows_out, struct fae_buf *errors_out);

#endif
