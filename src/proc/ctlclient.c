/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A blocking client: how long an answer takes is bounded by the node, and its end is always seen.
 */
#include "proc/ctlclient.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/addr.h"
#include "proc/control.h"
#include "wire/ctlline.h"

#define CONNECT_MS 5000
#define ANSWER_MAX (64u * FAE_MIB)

static enum fae_err connect_to(const char *run_dir, int *fd_out, struct fae_buf *why)
{
    char text[2 * FAE_OPT_TEXT], reason[300];
    struct fae_addr addr;
    enum fae_err err;

    snprintf(text, sizeof text, "unix:%s/" FAE_CONTROL_NAME, run_dir);
    err = fae_addr_parse(text, &addr, reason, sizeof reason);
    if (err) {
        fae_buf_printf(why, "%s", reason);
        return err;
    }
    if (!fae_addr_connect(&addr, CONNECT_MS, fd_out))
        return FAE_OK;
    if (errno == ENOENT || errno == ECONNREFUSED)
        fae_buf_printf(why, "no node runs in %s (--run-dir says where it does)", run_dir);
    else
        fae_buf_printf(why, "%s/" FAE_CONTROL_NAME ": %s", run_dir, strerror(errno));
    return FAE_UNAVAILABLE;
}

static bool send_line(int fd, const char *line)
{
    struct fae_buf out = { 0 };
    size_t done = 0;
    ssize_t n;

    fae_buf_printf(&out, "%s\n", line);
    while (done < out.len) {
        n = send(fd, out.data + done, out.len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0)
            done += (size_t)n;
    }
    done = out.len - done;
    fae_buf_fini(&out);
    return done == 0;
}

/* False at end of file. */
static bool receive(int fd, struct fae_buf *in)
{
    ssize_t n;

    do
        n = recv(fd, fae_buf_room(in, 16 * FAE_KIB), 16 * FAE_KIB, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        in->len += (size_t)n;
    return n > 0;
}

/* Lines that tell how far it is, which begin with "... ", are shown as they come. */
static void show_progress(struct fae_buf *in)
{
    const uint8_t *nl;
    size_t n;

    while (in->len >= 4 && memcmp(in->data, "... ", 4) == 0 && (nl = memchr(in->data, '\n', in->len))) {
        n = (size_t)(nl - in->data) + 1;
        fwrite(in->data, 1, n, stderr);
        fae_buf_shift(in, n);
    }
}

static enum fae_err converse(int fd, const char *line, bool to_the_end, struct fae_buf *text_out,
                             struct fae_buf *last_out)
{
    struct fae_buf in = { 0 }, rest = { 0 };
    struct fae_ctlline last;
    enum fae_err err = FAE_CLOSED;
    bool whole;

    send_line(fd, line); /* a node that has too many clients says so and closes before it could be sent */
    while (!(whole = fae_ctlline_last(&in, &last)) && in.len < ANSWER_MAX && receive(fd, &in))
        show_progress(&in);
    if (whole) {
        err = last.err;
        fae_buf_add(last_out, last.text, last.len);
        fae_buf_add(text_out, in.data, last.at);
        while (to_the_end && !err && receive(fd, &rest))
            rest.len = 0;
    } else {
        fae_buf_printf(last_out, "the node went away before it answered");
    }
    fae_buf_fini(&in);
    fae_buf_fini(&rest);
    return err;
}

static enum fae_err ask(const char *run_dir, const char *line, bool to_the_end, struct fae_buf *text_out,
                        struct fae_buf *last_out)
{
    enum fae_err err;
    int fd;

    err = connect_to(run_dir, &fd, last_out);
    if (err)
        return err;
    err = converse(fd, line, to_the_end, text_out, last_out);
    close(fd);
    return err;
}

enum fae_err fae_ctl_ask(const char *run_dir, const char *line, struct fae_buf *text_out, struct fae_buf *last_out)
{
    return ask(run_dir, line, false, text_out, last_out);
}

enum fae_err fae_ctl_stop(const char *run_dir, struct fae_buf *text_out, struct fae_buf *last_out)
{
    return ask(run_dir, "stop", true, text_out, last_out);
}
