/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Folders to bundle, bundle to verdict.
 */
#include "proc/servants.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/config_report.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/opt.h"
#include "proc/runconf.h"
#include "proc/stored.h"
#include "vm/vm.h"

#define DEPTH_MAX 8     /* folders inside each other; also ends a loop of links */
#define FILES_MAX 10000 /* of one folder */
#define PATH_BYTES 512

struct reader {
    struct fae_buf *bundle, *why;
    const char *folder, *prefix; /* on the disk, and what stands for it in the bundle */
    bool failed;
};

/* ---- reading ---- */

/* Names the file as the operator knows it. */
static void fail(struct reader *r, const char *path, const char *what)
{
    r->failed = true;
    fae_buf_printf(r->why, "%s%s:0: %s\n", r->folder, path + strlen(r->prefix), what);
}

static void read_file(struct reader *r, int dir, const char *name, const char *path)
{
    /* Not blocking: a fifo with a good name would hold us for ever. */
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct fae_buf body = { 0 };
    struct stat st;
    ssize_t n = 0;

    if (fd < 0) {
        fail(r, path, strerror(errno));
        return;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        fail(r, path, "not a regular file");
        goto done;
    }
    while (body.len <= FAE_BUNDLE_MAX) {
        n = read(fd, fae_buf_room(&body, 64 * FAE_KIB), 64 * FAE_KIB);
        if (n > 0)
            body.len += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    if (n < 0)
        fail(r, path, strerror(errno));
    else if (r->bundle->len + body.len + PATH_BYTES > FAE_BUNDLE_MAX)
        fail(r, path, "all files of a generation together are limited to 64 MiB");
    else
        fae_bundle_add(r->bundle, path, body.data, body.len);

done:
    fae_buf_fini(&body);
    close(fd);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, so that the same folder always makes the same bundle. The caller frees. */
static char **list_folder(struct reader *r, DIR *dir, const char *path, unsigned *n_out)
{
    char **names = NULL;
    struct dirent *entry;

    *n_out = 0;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        if (*n_out == FILES_MAX) {
            fail(r, path, "too many files in one folder");
            break;
        }
        if ((*n_out & (*n_out + 1)) == 0)
            names = fae_realloc(names, 2 * (*n_out + 1) * sizeof *names);
        names[(*n_out)++] = fae_strdup(entry->d_name);
    }
    if (*n_out)
        qsort(names, *n_out, sizeof *names, by_name);
    return names;
}

static bool is_lua(const char *name)
{
    size_t len = strlen(name);

    return len > 4 && strcmp(name + len - 4, ".lua") == 0;
}

static void read_folder(struct reader *r, int fd, const char *path, unsigned depth);

static void read_entry(struct reader *r, int dir, const char *name, const char *folder, unsigned depth)
{
    char path[PATH_BYTES];
    struct stat st;
    int fd;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) {
        fail(r, folder, "a path in it is too long");
        return;
    }
    if (is_lua(name)) {
        read_file(r, dir, name, path);
        return;
    }
    if (fstatat(dir, name, &st, 0) != 0 || !S_ISDIR(st.st_mode))
        return; /* a README, an editor's leftovers */
    if (depth == DEPTH_MAX) {
        fail(r, path, "folders are nested too deep");
        return;
    }
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fail(r, path, strerror(errno));
    else
        read_folder(r, fd, path, depth + 1);
}

/* Takes fd. */
static void read_folder(struct reader *r, int fd, const char *path, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    char **names;
    unsigned n;

    if (!dir) {
        fail(r, path, strerror(errno));
        close(fd);
        return;
    }
    names = list_folder(r, dir, path, &n);
    for (unsigned i = 0; i < n; i++) {
        read_entry(r, fd, names[i], path, depth);
        free(names[i]);
    }
    free(names);
    closedir(dir);
}

/* A folder that only its default names may be missing: the built-in servants serve. */
static bool is_default(const char *option, const char *value)
{
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, option);

    return opt && strcmp(opt->init, value) == 0;
}

static void read_root(struct reader *r, const char *option, const char *folder, const char *prefix)
{
    int fd;

    if (!*folder)
        return;
    r->folder = folder;
    r->prefix = prefix;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        read_folder(r, fd, prefix, 0);
    } else if (errno != ENOENT || !is_default(option, folder)) {
        r->failed = true;
        fae_buf_printf(r->why, "%s:0: cannot open the folder (%s): %s\n", folder, option, strerror(errno));
    }
}

enum fae_err fae_servants_read(const struct fae_config *config, struct fae_buf *bundle_out, struct fae_buf *why)
{
    struct reader r = { .bundle = bundle_out, .why = why };

    fae_bundle_begin(bundle_out);
    read_root(&r, "lua_dir", config->lua_dir, "lua");
    read_root(&r, "servants_dir", config->servants_dir, "servants");
    return r.failed ? FAE_BAD_SERVANT : FAE_OK;
}

/* ---- checking ---- */

enum fae_err fae_servants_check(const struct fae_config *config, const struct fae_bundle *bundle, uint32_t generation,
                                struct fae_buf *why)
{
    const unsigned one = 1;
    /* Its own, so that a servant that is refused leaves no trace in the node's counters. */
    struct fae_slots *slots = fae_zalloc(fae_slots_size(&one) + 64);
    struct fae_stats *stats = fae_zalloc(fae_stats_size(&one) + 64);
    struct fae_vm_opts opts = { .config = config };
    struct fae_vm *vm;
    enum fae_err err = FAE_NO_MEMORY;

    opts.slots = (struct fae_slots *)(((uintptr_t)slots + 63) & ~(uintptr_t)63);
    opts.stats = (struct fae_stats *)(((uintptr_t)stats + 63) & ~(uintptr_t)63);
    fae_slots_init(opts.slots, &one);
    fae_stats_init(opts.stats, &one);
    vm = fae_vm_new(&opts);
    if (vm) {
        err = fae_vm_prepare(vm, bundle, generation, why);
        fae_vm_free(&vm);
    }
    free(stats);
    free(slots);
    return err;
}

static enum fae_err write_fd(int fd, const struct fae_buf *bytes)
{
    size_t done = 0;
    ssize_t n;

    while (done < bytes->len) {
        n = write(fd, bytes->data + done, bytes->len - done);
        if (n < 0 && errno != EINTR)
            return FAE_SYSTEM;
        if (n > 0)
            done += (size_t)n;
    }
    return FAE_OK;
}

/* ---- the job ---- */

static enum fae_err fill(const struct fae_servants_job *job, const struct fae_config *config, struct fae_buf *why)
{
    struct fae_buf bytes = { 0 };
    enum fae_err err = fae_servants_read(config, &bytes, why);

    if (!err) {
        if (job->opts->conf_path)
            fae_runconf_store(&bytes, config);
        err = write_fd(job->fd, &bytes);
        if (err)
            fae_buf_printf(why, "cannot store the servants: %s\n", strerror(errno));
    }
    fae_buf_fini(&bytes);
    return err;
}

/* What an earlier generation ran with. */
static enum fae_err load_kept(const struct fae_servants_job *job, struct fae_config *next, struct fae_buf *text)
{
    struct fae_bundle bundle;
    char why[512];
    enum fae_err err = fae_stored_map(job->fd, &bundle);

    if (err) {
        fae_buf_printf(text, "cannot map the servants: %s\n", fae_err_text(err));
        return err;
    }
    err = fae_runconf_load(next, &bundle, why, sizeof why);
    fae_stored_unmap(&bundle);
    if (err == FAE_NOT_FOUND) {
        fae_config_copy(next, job->config);
        return FAE_OK;
    }
    if (err)
        fae_buf_printf(text, "%s\n", why);
    else
        fae_config_diff(text, job->config, next);
    return err;
}

static enum fae_err configure(const struct fae_servants_job *job, struct fae_config *next, struct fae_buf *text)
{
    if (job->from == FAE_SERVANTS_KEPT)
        return load_kept(job, next, text);
    if (job->from == FAE_SERVANTS_RELOAD && job->opts->conf_path)
        return fae_runconf_reread(next, job->opts, job->config, text);
    fae_config_copy(next, job->config);
    return FAE_OK;
}

static enum fae_err check(const struct fae_servants_job *job, const struct fae_config *config, struct fae_buf *why)
{
    struct fae_bundle bundle;
    enum fae_err err = job->from == FAE_SERVANTS_KEPT ? FAE_OK : fill(job, config, why);

    if (err)
        return err;
    err = fae_stored_map(job->fd, &bundle);
    if (err) {
        fae_buf_printf(why, "cannot map the servants: %s\n", fae_err_text(err));
        return err;
    }
    err = fae_servants_check(config, &bundle, job->generation, why);
    fae_stored_unmap(&bundle);
    return err;
}

enum fae_err fae_servants_job(void *arg, struct fae_buf *out)
{
    const struct fae_servants_job *job = arg;
    struct fae_config *next = fae_alloc(sizeof *next);
    struct fae_buf changes = { 0 };
    enum fae_err err = configure(job, next, &changes);

    if (!err) {
        err = check(job, next, out);
        fae_config_fini(next);
    } else {
        fae_buf_add(out, changes.data, changes.len);
    }
    if (!err)
        fae_buf_add(out, changes.data, changes.len);
    fae_buf_fini(&changes);
    free(next);
    return err;
}
