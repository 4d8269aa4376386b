/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What answers take while they are read, all together in a worker: mysql_results_max. An answer counts with its rows, with
 * the row that is coming, which the library keeps in a buffer of its own, and with what came before the rows. It counts
 * until it is handed over, and no less when it is handed over in parts; a small one does not count at all.
 */
#include "backend/backends.h"
#include "backend/mysql_conn_impl.h"

#define GRAIN (64u * FAE_KIB)

bool fae_mysql_room_take(struct fae_mysql_conn *c)
{
    struct fae_backend_room *room = c->site->room;
    size_t now = c->head_read + c->run->rows.len + c->step_read, more;

    if (now <= c->held + GRAIN)
        return true;
    more = now - c->held;
    if (room->held + more > room->max) {
        c->full = true;
        return false;
    }
    room->held += more;
    c->held = now;
    return true;
}

static void keep(struct fae_mysql_conn *c, size_t n)
{
    if (c->held <= n)
        return;
    c->site->room->held -= c->held - n;
    c->held = n;
}

void fae_mysql_room_rest(struct fae_mysql_conn *c)
{
    keep(c, fae_mysql_conn_is_bloated(c) ? c->my->net.max_packet : 0);
}

void fae_mysql_room_leave(struct fae_mysql_conn *c)
{
    keep(c, 0);
}
