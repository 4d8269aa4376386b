/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Both read and write shared memory; nobody is asked.
 */
#include "proc/control_backends.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "backend/upstream_show.h"
#include "base/clock.h"
#include "proc/control_verbs.h"
#include "proc/node.h"

void fae_control_do_backends(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_buf table = { 0 };
    unsigned n = fae_upstreams_table(node->shared.upstreams, fae_now_ms(), &table);

    (void)arg;
    (void)tail;
    fae_control_lines(&client->out, (const char *)table.data, table.len);
    fae_buf_fini(&table);
    fae_control_ok(client, n ? "" : "no pool, and no breaker of a servant");
}

/* What operators copy from the log or the table has blanks where the name has its first two slashes. */
static bool is_meant(const struct fae_upstream *up, const char *text, size_t len)
{
    const char *name = fae_upstream_name(up);
    unsigned n_slashes = 0;
    size_t i = 0;

    for (; i < len && name[i]; i++) {
        bool slash = name[i] == '/' && n_slashes < 2;

        if (text[i] != name[i] && !(slash && text[i] == ' '))
            return false;
        n_slashes += slash;
    }
    /* All of it, or "redis/main": all servers of that pool. */
    return i == len && (!name[i] || (name[i] == '/' && n_slashes == 1));
}

static void force(struct fae_node *node, struct fae_control_client *client, const char *name, size_t len,
                  enum fae_breaker_mode mode)
{
    struct ucred ucred = { .uid = (uid_t)-1 };
    socklen_t size = sizeof ucred;
    unsigned n = 0, n_done = 0;
    char text[64];

    getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &ucred, &size);
    snprintf(text, sizeof text, "uid %ld (pid %ld)", (long)ucred.uid, (long)ucred.pid);
    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        struct fae_upstream *up = fae_upstreams_at(node->shared.upstreams, i);

        if (!up || !is_meant(up, name, len))
            continue;
        n++;
        if (!fae_upstream_force_as(up, mode, text, fae_now_ms()))
            break; /* it waited: no more of that in the supervisor */
        n_done++;
    }
    snprintf(text, sizeof text, "%u breaker%s", n_done, n_done == 1 ? "" : "s");
    if (n == 0)
        fae_control_err(client, FAE_NOT_FOUND, "no such server, pool or breaker: `backends` lists them");
    else if (n_done < n)
        fae_control_err(client, FAE_UNAVAILABLE, "a process is stopped that holds it; try again in some seconds");
    else
        fae_control_ok(client, text);
}

void fae_control_do_breaker(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    static const struct {
        const char *word;
        enum fae_breaker_mode mode;
    } modes[] = {
        { "open", FAE_BREAKER_FORCED_OPEN },
        { "close", FAE_BREAKER_FORCED_CLOSED },
        { "auto", FAE_BREAKER_AUTO },
    };
    const char *last = strrchr(tail, ' ');

    (void)arg;
    for (unsigned i = 0; last && i < sizeof modes / sizeof *modes; i++)
        if (strcmp(last + 1, modes[i].word) == 0) {
            force(node, client, tail, (size_t)(last - tail), modes[i].mode);
            return;
        }
    fae_control_err(client, FAE_BAD_ARGS, "usage: breaker NAME open|close|auto");
}
