/* SPDX-License-Identifier: BSD-2-Clause
 *
 * scheme, host, port and weight of a server's text.
 */
#include "base/endpoint.h"

#include <stdio.h>
#include <string.h>

#define HOST_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

static enum fae_err wrong(const char *what, char *why, size_t size)
{
    snprintf(why, size, "must be %s", what);
    return FAE_BAD_CONFIG;
}

/* Digits alone, 1 to max; 0 when it is not. */
static unsigned number(const char *text, size_t len, unsigned max)
{
    unsigned n = 0;

    if (len == 0 || len > 6)
        return 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        n = n * 10 + (unsigned)(text[i] - '0');
    }
    return n <= max ? n : 0;
}

/* Cuts a "*2" off the end. */
static bool cut_weight(const char *text, size_t *len_io, unsigned *weight_out)
{
    const char *star = memrchr(text, '*', *len_io);

    *weight_out = 1;
    if (!star)
        return true;
    *weight_out = number(star + 1, *len_io - (size_t)(star + 1 - text), FAE_ENDPOINT_WEIGHT_MAX);
    *len_io = (size_t)(star - text);
    return *weight_out > 0;
}

static enum fae_err unix_path(struct fae_endpoint *e, const char *path, size_t len, char *why, size_t size)
{
    if (len == 0 || *path != '/' || len > 107)
        return wrong("an absolute path of at most 107 bytes after unix:", why, size);
    memcpy(e->host, path, len);
    e->host[len] = '\0';
    snprintf(e->text, sizeof e->text, "unix:%s", e->host);
    return FAE_OK;
}

/* host:port, [v6]:port. */
static enum fae_err host_port(struct fae_endpoint *e, const char *text, size_t len, char *why, size_t size)
{
    bool v6 = len > 0 && *text == '[';
    const char *host = text + v6, *end = v6 ? memchr(text, ']', len) : memchr(text, ':', len), *rest;
    size_t host_len;

    if (v6 && !end)
        return wrong("[ADDRESS]:PORT", why, size);
    host_len = end ? (size_t)(end - host) : len;
    rest = host + host_len + v6;
    if (host_len == 0 || host_len >= 128)
        return wrong("HOST:PORT, tls://HOST:PORT or unix:/PATH", why, size);
    memcpy(e->host, host, host_len);
    e->host[host_len] = '\0';
    if (strspn(e->host, v6 ? HOST_CHARS ":%" : HOST_CHARS) != host_len)
        return wrong("HOST:PORT, tls://HOST:PORT or unix:/PATH", why, size);
    if (rest < text + len && *rest == ':')
        e->port = number(rest + 1, (size_t)(text + len - rest) - 1, 65535);
    if (e->port == 0)
        return wrong("HOST:PORT with a port of 1 to 65535", why, size);
    snprintf(e->text, sizeof e->text, "%s://%s%s%s:%u", e->tls ? "tls" : "tcp", v6 ? "[" : "", e->host, v6 ? "]" : "",
             e->port);
    return FAE_OK;
}

enum fae_err fae_endpoint_parse(struct fae_endpoint *endpoint_out, const char *text, char *why, size_t size)
{
    struct fae_endpoint e = { 0 };
    size_t len = strlen(text);
    enum fae_err err;

    if (len >= FAE_ENDPOINT_TEXT)
        return wrong("shorter than 160 bytes", why, size);
    if (!cut_weight(text, &len, &e.weight))
        return wrong("a server and a weight of 1 to 1000, as in 10.0.0.1:11211*2", why, size);
    if (len >= 5 && memcmp(text, "unix:", 5) == 0) {
        err = unix_path(&e, text + 5, len - 5, why, size);
    } else if (len >= 1 && *text == '/') {
        err = unix_path(&e, text, len, why, size);
    } else {
        size_t scheme = len >= 6 && (memcmp(text, "tcp://", 6) == 0 || memcmp(text, "tls://", 6) == 0) ? 6 : 0;

        e.tls = scheme && text[1] == 'l';
        err = host_port(&e, text + scheme, len - scheme, why, size);
    }
    if (!err)
        *endpoint_out = e;
    return err;
}
