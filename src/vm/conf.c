/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A config file from its bytes to rows or errors: read it, run it in a bounded Lua state, list what was wrong.
 */
#include "vm/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "vm/conf_state.h"

#define FILE_MAX (1u * FAE_MIB)    /* far beyond any config; a log given by mistake is not read whole */
#define MEMORY_MAX (64u * FAE_MIB) /* of the Lua state */
#define CHUNK "conf"               /* the chunk's name, which Lua puts before its messages */

/* ---- errors ---- */

static bool is_known_error(const struct fae_conf *conf, unsigned line, const char *text)
{
    for (unsigned i = 0; i < conf->n_errors; i++)
        if (conf->errors[i].line == line && strcmp(conf->errors[i].text, text) == 0)
            return true;
    return false;
}

void fae_conf_fail(struct fae_conf *conf, unsigned line, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    unsigned at;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (is_known_error(conf, line, text))
        return;
    if (conf->n_errors == FAE_CONF_ERRORS_MAX) {
        conf->n_more++;
        return;
    }
    for (at = conf->n_errors++; at && conf->errors[at - 1].line > line; at--)
        conf->errors[at] = conf->errors[at - 1];
    conf->errors[at] = (struct fae_conf_error){ line, fae_strdup(text) };
}

static void write_errors(const struct fae_conf *conf, const char *path, struct fae_buf *out)
{
    for (unsigned i = 0; i < conf->n_errors; i++)
        if (conf->errors[i].line)
            fae_buf_printf(out, "%s:%u: %s\n", path, conf->errors[i].line, conf->errors[i].text);
        else
            fae_buf_printf(out, "%s: %s\n", path, conf->errors[i].text);
    if (conf->n_more)
        fae_buf_printf(out, "%s: and %u more\n", path, conf->n_more);
}

/* ---- running it ---- */

/* Notes "conf:12: text" as an error of line 12; a message that names no line as one of `line`. */
static void fail_lua(struct fae_conf *conf, const char *message, unsigned line)
{
    unsigned named;
    int skip = 0;

    if (!message)
        message = "the file raised an error that is no text";
    if (sscanf(message, CHUNK ":%u: %n", &named, &skip) == 1 && skip)
        line = named;
    fae_conf_fail(conf, line, "%s", message + skip);
}

static int l_explain(lua_State *L)
{
    fail_lua(fae_conf_of(L), lua_tostring(L, 1), fae_conf_line(L, ""));
    return 0;
}

/* Inside lua_cpcall, so that running out of memory while setting up is an error like others. */
static int run(lua_State *L)
{
    struct fae_conf *conf = lua_touserdata(L, 1);
    int status;

    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_pushlightuserdata(L, conf);
    lua_pushcclosure(L, l_explain, 1);
    if (luaL_loadbufferx(L, conf->source.text, conf->source.len, "=" CHUNK, "t")) {
        fail_lua(conf, lua_tostring(L, -1), 0);
        return 0;
    }
    fae_conf_push_world(L, conf);
    lua_setfenv(L, 3);
    lua_settop(L, 3);
    status = lua_pcall(L, 0, 0, 2);
    if (status == LUA_ERRMEM)
        return lua_error(L);
    if (status == LUA_ERRERR)
        fae_conf_fail(conf, 0, "an error while telling of an error");
    return 0;
}

static void *bounded_alloc(void *arg, void *mem, size_t old_bytes, size_t new_bytes)
{
    size_t *used = arg;
    void *moved;

    if (new_bytes == 0) {
        free(mem);
        *used -= old_bytes;
        return NULL;
    }
    if (new_bytes > old_bytes && new_bytes - old_bytes > MEMORY_MAX - *used)
        return NULL;
    moved = realloc(mem, new_bytes);
    if (moved)
        *used += new_bytes - old_bytes;
    return moved;
}

static void evaluate(struct fae_conf *conf)
{
    lua_State *L = lua_newstate(bounded_alloc, &conf->memory_bytes);

    FAE_ASSERT(L);
    if (lua_cpcall(L, run, conf))
        fae_conf_fail(conf, 0, "needs more than %u MiB of memory", MEMORY_MAX / FAE_MIB);
    lua_close(L);
}

/* ---- the file ---- */

static bool read_all(int fd, struct fae_buf *out)
{
    ssize_t n;

    do {
        n = read(fd, fae_buf_room(out, 16 * FAE_KIB), 16 * FAE_KIB);
        if (n > 0)
            out->len += (size_t)n;
    } while ((n > 0 && out->len <= FILE_MAX) || (n < 0 && errno == EINTR));
    return n >= 0;
}

static enum fae_err read_file(struct fae_conf *conf, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum fae_err err = FAE_BAD_CONFIG;

    if (fd < 0) {
        if (errno == ENOENT)
            err = FAE_NOT_FOUND;
        fae_conf_fail(conf, 0, "%s", strerror(errno));
        return err;
    }
    if (!read_all(fd, &conf->text))
        fae_conf_fail(conf, 0, "%s", strerror(errno));
    else if (conf->text.len > FILE_MAX)
        fae_conf_fail(conf, 0, "is larger than %u KiB", FILE_MAX / FAE_KIB);
    else if (conf->text.len && conf->text.data[0] == '\x1b')
        fae_conf_fail(conf, 0, "is compiled Lua; only text is read");
    else
        err = FAE_OK;
    close(fd);
    conf->source = (struct fae_conf_source){ fae_buf_text(&conf->text), conf->text.len };
    return err;
}

static void conf_free(struct fae_conf **conf)
{
    for (unsigned i = 0; i < (*conf)->n_errors; i++)
        free((*conf)->errors[i].text);
    fae_config_fini(&(*conf)->config);
    fae_buf_fini(&(*conf)->text);
    fae_buf_fini(&(*conf)->rows);
    fae_buf_fini(&(*conf)->json);
    fae_buf_fini(&(*conf)->words);
    free(*conf);
    *conf = NULL;
}

enum fae_err fae_conf_eval_some(const char *path, struct fae_buf *rows_out, struct fae_buf *errors_out)
{
    struct fae_conf *conf = fae_zalloc(sizeof *conf);
    enum fae_err err;

    FAE_ASSERT(fae_config_n_opts <= FAE_CONF_OPTS_MAX);
    FAE_ASSERT(fae_config_n_sections <= FAE_CONF_SECTIONS_MAX);
    fae_config_init(&conf->config);
    err = read_file(conf, path);
    if (!err) {
        evaluate(conf);
        fae_conf_check_whole(conf);
    }
    if (conf->n_errors && !err)
        err = FAE_BAD_CONFIG;
    write_errors(conf, path, errors_out);
    fae_config_rows_end(&conf->rows);
    fae_buf_add(rows_out, conf->rows.data, conf->rows.len);
    conf_free(&conf);
    return err;
}

enum fae_err fae_conf_eval(const char *path, struct fae_buf *rows_out, struct fae_buf *errors_out)
{
    struct fae_buf rows = { 0 };
    enum fae_err err = fae_conf_eval_some(path, &rows, errors_out);

    if (!err)
        fae_buf_add(rows_out, rows.data, rows.len);
    fae_buf_fini(&rows);
    return err;
}
