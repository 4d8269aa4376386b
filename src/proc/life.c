/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors over a SOCK_SEQPACKET pair: one message, one ticket, one descriptor.
 */
#include "proc/life.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

enum fae_err fae_life_pair(int *supervisor_out, int *child_out)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return FAE_SYSTEM;
    *supervisor_out = fds[0];
    *child_out = fds[1];
    return FAE_OK;
}

enum fae_err fae_life_send(int life, uint64_t ticket, int fd)
{
    union control control = { 0 };
    struct iovec part = { .iov_base = &ticket, .iov_len = sizeof ticket };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
    };
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    ssize_t n;

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    do
        n = sendmsg(life, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof ticket ? FAE_OK : FAE_UNAVAILABLE;
}

enum fae_err fae_life_recv(int life, uint64_t *ticket_out, int *fd_out)
{
    union control control = { 0 };
    uint64_t ticket = 0;
    struct iovec part = { .iov_base = &ticket, .iov_len = sizeof ticket };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
    };
    struct cmsghdr *head;
    ssize_t n;

    do
        n = recvmsg(life, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return FAE_NOT_FOUND;
    if (n <= 0)
        return FAE_CLOSED;
    head = CMSG_FIRSTHDR(&msg);
    /* A descriptor can be missing when this process is out of them: the ticket alone says that one was sent. */
    if (n != (ssize_t)sizeof ticket || !head || head->cmsg_type != SCM_RIGHTS ||
        head->cmsg_len != CMSG_LEN(sizeof(int)))
        return FAE_SYSTEM;
    memcpy(fd_out, CMSG_DATA(head), sizeof *fd_out);
    *ticket_out = ticket;
    return FAE_OK;
}
