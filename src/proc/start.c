/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One step a function; `steps` has their order.
 */
#include "proc/start.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config_rows.h"
#include "base/memlimit.h"
#include "net/tls.h"
#include "proc/checker.h"
#include "proc/node.h"
#include "proc/privs.h"
#include "proc/runconf.h"
#include "proc/servants.h"
#include "rpc/access.h"
#include "vm/conf.h"

#define EXIT_CONFIG 78
#define TAKEOVER_MS 3000 /* children of a supervisor that was killed are gone after 1000 */
#define RETRY_MS 20
#define ADMIN_BACKLOG 64

static int complain(int code, const char *text)
{
    fprintf(stderr, "fae: %s\n", text);
    return code;
}

/* ---- config ---- */

static int read_file(struct fae_node *node)
{
    struct fae_buf why = { 0 };
    enum fae_err err = FAE_OK;

    if (node->opts.conf_path)
        err = fae_runconf_read(&node->config, node->opts.conf_path, &why);
    fwrite(fae_buf_text(&why), 1, why.len, stderr);
    fae_buf_fini(&why);
    return err ? EXIT_CONFIG : 0;
}

static int apply_flags(struct fae_node *node)
{
    struct fae_buf why = { 0 };
    enum fae_err err = fae_runconf_flags(&node->config, &node->opts, &why);

    fwrite(fae_buf_text(&why), 1, why.len, stderr);
    fae_buf_fini(&why);
    return err ? EXIT_CONFIG : 0;
}

static unsigned n_cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static int step_config(struct fae_node *node)
{
    int code;

    fae_config_init(&node->config);
    code = read_file(node);
    if (code)
        return code;
    code = apply_flags(node);
    if (code)
        return code;
    node->n_workers = node->opts.single ? 1 : (unsigned)node->config.workers;
    if (node->n_workers == 0)
        node->n_workers = n_cores();
    if (node->n_workers > FAE_WORKERS_MAX)
        node->n_workers = FAE_WORKERS_MAX;
    node->n_children = node->n_workers + 1;
    node->log = (struct fae_log_opts){ .level = (enum fae_log_level)node->config.log_level,
                                       .json = node->config.log_format == 1 };
    fae_log_init(&node->log, node->opts.single ? "single" : "supervisor");
    return 0;
}

/* ---- run folder ---- */

static int open_dir(struct fae_node *node, struct fae_rundir *dir, const char *option, const char *path)
{
    char why[600];
    enum fae_err err;
    uid_t uid;
    gid_t gid;

    err = fae_privs_account(node->config.user, &uid, &gid, why, sizeof why);
    if (err)
        return complain(EXIT_CONFIG, why);
    err = fae_rundir_open(dir, option, path, uid, gid, why, sizeof why);
    if (err)
        return complain(EXIT_FAILURE, why);
    if (fae_privs_may_write(node->config.user, dir->path))
        return 0;
    snprintf(why, sizeof why, "%s %s: the account \"%s\" cannot write there", option, dir->path, node->config.user);
    return complain(EXIT_CONFIG, why);
}

static int step_run_dir(struct fae_node *node)
{
    return open_dir(node, &node->run, "run_dir", node->config.run_dir);
}

static int step_data_dir(struct fae_node *node)
{
    char path[sizeof node->run.path + sizeof "/data"];

    snprintf(path, sizeof path, "%s", node->config.data_dir);
    if (!*path)
        snprintf(path, sizeof path, "%s/data", node->run.path);
    return open_dir(node, &node->data, "data_dir", path);
}

/* ---- listeners ---- */

/* A relative path of a unix socket starts in the run folder. */
static enum fae_err parse_listen(const struct fae_node *node, const char *text, struct fae_addr *addr_out, char *why,
                                 size_t size)
{
    char whole[2 * FAE_OPT_TEXT];

    if (strncmp(text, "unix:", 5) != 0 || text[5] == '/' || text[5] == '\0')
        return fae_addr_parse(text, addr_out, why, size);
    snprintf(whole, sizeof whole, "unix:%s/%s", node->run.path, text + 5);
    return fae_addr_parse(whole, addr_out, why, size);
}

/* Read now, since the account that workers change to may not read keys. */
static int open_tls(struct fae_listener *ln, const char *what, const struct fae_tls_opts *opts)
{
    char why[700], text[1200];

    if (!fae_tls_ctx_new(&ln->tls, opts, why, sizeof why))
        return 0;
    snprintf(text, sizeof text, "%s: %s", what, why);
    return complain(EXIT_CONFIG, text);
}

static int open_admin_tls(struct fae_node *node)
{
    const struct fae_tls_opts tls = { .cert = node->config.admin_cert, .key = node->config.admin_key, .client_ca = "" };

    return *tls.cert ? open_tls(&node->admin, "admin", &tls) : 0;
}

static int open_listen_tls(struct fae_listener *ln, const struct fae_config_listen *from)
{
    const struct fae_tls_opts tls = { .cert = from->cert,
                                      .key = from->key,
                                      .client_ca = from->client_ca,
                                      .client_cert_required = from->client_cert_required };
    char text[FAE_OPT_TEXT + 64];

    if (!ln->addr.tls)
        return 0;
    snprintf(text, sizeof text, "listen: %s", from->addr);
    if (*from->cert && *from->key)
        return open_tls(ln, text, &tls);
    snprintf(text, sizeof text, "listen: %s needs cert and key", from->addr); /* it came from the command line */
    return complain(EXIT_CONFIG, text);
}

static int parse_admin(struct fae_node *node)
{
    char why[512], text[700];

    node->has_admin = node->config.admin[0] && !node->opts.single;
    if (!node->has_admin)
        return 0;
    if (fae_addr_parse(node->config.admin, &node->admin.addr, why, sizeof why)) {
        snprintf(text, sizeof text, "admin: %s", why);
        return complain(EXIT_CONFIG, text);
    }
    if (fae_addr_is_loopback(&node->admin.addr) ||
        (*node->config.admin_token && *node->config.admin_cert && *node->config.admin_key))
        return open_admin_tls(node);
    snprintf(text, sizeof text,
             "admin: %s is not a loopback address, which needs admin_token, admin_cert and admin_key",
             node->config.admin);
    return complain(EXIT_CONFIG, text);
}

static int parse_listeners(struct fae_node *node)
{
    char why[512];
    int code = parse_admin(node);
    uid_t account = geteuid();
    gid_t gid;

    fae_privs_account(node->config.user, &account, &gid, why, sizeof why); /* it was asked before */
    fae_runconf_listeners(&node->config, &node->opts);
    for (unsigned i = 0; i < node->config.n_listen; i++) {
        const struct fae_config_listen *from = &node->config.listen[i];
        struct fae_listener *ln = &node->listeners[i];

        *ln = (struct fae_listener){
            .half_close = from->half_close, .mode = (mode_t)from->mode, .group = from->group, .account = account
        };
        if (parse_listen(node, from->addr, &ln->addr, why, sizeof why)) {
            fprintf(stderr, "fae: listen: %s\n", why);
            code = EXIT_CONFIG;
        } else if (open_listen_tls(ln, from)) {
            code = EXIT_CONFIG;
        }
    }
    return code;
}

/* After a node that was killed, its children may hold the address for another second. */
static enum fae_err open_listener(struct fae_node *node, struct fae_listener *ln, unsigned n_fds, int backlog,
                                  uint64_t until_ms)
{
    char why[512];
    enum fae_err err;

    for (;;) {
        err = fae_listener_open(ln, n_fds, backlog, why, sizeof why);
        if (err != FAE_ADDR_IN_USE || !node->run.stale || fae_now_ms() >= until_ms)
            break;
        usleep(RETRY_MS * 1000);
    }
    if (err)
        complain(EXIT_FAILURE, why);
    return err;
}

static void give_socket(struct fae_node *node, const struct fae_listener *ln)
{
    uid_t uid;
    gid_t gid;
    char why[256];

    if (geteuid() != 0 || ln->given || !fae_addr_is_unix(&ln->addr) ||
        fae_privs_account(node->config.user, &uid, &gid, why, sizeof why))
        return;
    if (ln->group && *ln->group)
        gid = (gid_t)-1; /* given already */
    if (uid != 0 && chown(((const struct sockaddr_un *)&ln->addr.sa)->sun_path, uid, gid) != 0)
        fprintf(stderr, "fae: %s: cannot give it to \"%s\": %s\n", ln->text, node->config.user, strerror(errno));
}

static int step_listen(struct fae_node *node)
{
    uint64_t until_ms = fae_now_ms() + TAKEOVER_MS;
    int code = parse_listeners(node);

    if (code)
        return code;
    for (; node->n_listeners < node->config.n_listen; node->n_listeners++) {
        struct fae_listener *ln = &node->listeners[node->n_listeners];
        enum fae_err err = open_listener(node, ln, node->n_workers, (int)node->config.backlog, until_ms);

        if (err)
            return err == FAE_BAD_CONFIG ? EXIT_CONFIG : EXIT_FAILURE;
        give_socket(node, ln);
    }
    if (node->has_admin && open_listener(node, &node->admin, 1, ADMIN_BACKLOG, until_ms)) {
        node->has_admin = false;
        return EXIT_FAILURE;
    }
    return 0;
}

/* ---- log ---- */

static int step_log(struct fae_node *node)
{
    const char *path = node->config.log_file;
    char text[600];
    uid_t uid;
    gid_t gid;

    node->log_fd = STDERR_FILENO;
    if (!*path)
        return 0;
    node->log_fd = open(path, FAE_LOG_OPEN_FLAGS, FAE_LOG_OPEN_MODE);
    if (node->log_fd < 0) {
        node->log_fd = STDERR_FILENO;
        snprintf(text, sizeof text, "log_file %s: %s", path, strerror(errno));
        return complain(EXIT_FAILURE, text);
    }
    /* So that it can be opened again after it was rotated. */
    if (geteuid() == 0 && !fae_privs_account(node->config.user, &uid, &gid, text, sizeof text) && uid != 0 &&
        fchown(node->log_fd, uid, gid) != 0)
        fprintf(stderr, "fae: log_file %s: cannot give it to \"%s\": %s\n", path, node->config.user, strerror(errno));
    fae_log_to_fd(node->log_fd);
    return 0;
}

static void tell_certificate(const struct fae_listener *ln, const char *what)
{
    char text[400];
    long days;

    if (!ln->tls)
        return;
    fae_tls_ctx_describe(ln->tls, text, sizeof text);
    days = fae_tls_ctx_days_left(ln->tls);
    if (days < FAE_TLS_WARN_DAYS)
        FAE_WARN("%s: certificate %s: %ld days are left", what, text, days);
    else
        FAE_INFO("%s: certificate %s", what, text);
}

static int step_tell(struct fae_node *node)
{
    for (unsigned i = 0; i < node->n_listeners; i++)
        tell_certificate(&node->listeners[i], node->listeners[i].text);
    tell_certificate(&node->admin, "admin");
    if (geteuid() == 0 && !*node->config.user)
        FAE_WARN("runs as root and stays root: set `user` to an account of its own");
    return 0;
}

/* ---- shared memory, servants, privileges ---- */

static void tell_memory(const char *option, uint64_t asked, uint64_t left, uint64_t limit)
{
    if (asked > left)
        FAE_WARN("%s: %" PRIu64 " MiB, of the %" PRIu64 " that are asked for: there are %" PRIu64
                 " MiB of memory in all",
                 option, left / FAE_MIB, asked / FAE_MIB, limit / FAE_MIB);
}

/* The kernel would end a process that takes more; these make calls or clients fail instead. */
static void fit_memory(struct fae_node *node, uint64_t limit)
{
    struct fae_slots *slots = node->shared.slots;
    uint64_t caches[FAE_CACHES];

    if (limit == UINT64_MAX)
        return;
    slots->lua_max = fae_memlimit_lua(limit, node->n_workers);
    slots->results_max = fae_memlimit_results(limit, node->n_workers);
    slots->io_max = fae_memlimit_io(limit);
    tell_memory("lua_memory_max", node->config.lua_memory_max, slots->lua_max, limit);
    tell_memory("mysql_results_max", node->config.mysql_results_max, slots->results_max, limit);
    tell_memory("in_max", node->config.in_max, slots->io_max, limit);
    fae_shared_caches(&node->config, limit, caches);
    tell_memory("cache_size", node->config.cache_size, caches[FAE_CACHE_COMMON], limit);
    tell_memory("query_cache_size", node->config.query_cache_size, caches[FAE_CACHE_QUERY], limit);
    tell_memory("out_max", node->config.out_max, slots->io_max, limit);
}

static int step_shared(struct fae_node *node)
{
    uint64_t limit = fae_memlimit("");
    char text[200];

    if (!fae_shared_open(&node->shared, node->n_workers, &node->config, limit)) {
        atomic_store(&node->shared.slots->log_level, (uint32_t)node->config.log_level);
        fae_log_follow(&node->shared.slots->log_level);
        fit_memory(node, limit);
        return 0;
    }
    snprintf(text, sizeof text, "cannot make the shared memory: %s", strerror(errno));
    return complain(EXIT_FAILURE, text);
}

static int step_servants(struct fae_node *node)
{
    struct fae_servants_job job = { .config = &node->config, .opts = &node->opts, .from = FAE_SERVANTS_START };
    struct fae_checker c;
    enum fae_err err;

    job.generation = 1;
    job.fd = fae_stored_new();
    if (job.fd < 0)
        return complain(EXIT_FAILURE, "cannot make a memfd for the servants");
    err = fae_checker_run(&c, "servants", fae_servants_job, &job, NULL, NULL);
    if (err)
        fwrite(fae_buf_text(&c.out), 1, c.out.len, stderr);
    fae_checker_fini(&c);
    node->committed = (struct fae_stored){ .fd = job.fd, .generation = 1 };
    if (err)
        return err == FAE_BAD_SERVANT ? EXIT_CONFIG : EXIT_FAILURE;
    if (fae_stored_seal(job.fd))
        return complain(EXIT_FAILURE, "cannot seal the servants");
    atomic_store(&node->shared.slots->generation, 1);
    return 0;
}

static int step_drop(struct fae_node *node)
{
    char why[600];

    if (fae_privs_drop(node->config.user, why, sizeof why))
        return complain(EXIT_CONFIG, why);
    fae_privs_cores(node->config.core_dumps, node->opts.single);
    return 0;
}

/* What they write belongs to the account that the node runs as from here on. */
static int step_stores(struct fae_node *node)
{
    char why[600];

    node->shared.stores.data_dir = node->data.path;
    if (!fae_stores_open(&node->shared.stores, &node->config, why, sizeof why))
        return 0;
    node->shared.stores.data_dir = ""; /* what is on disk stays as it is */
    return complain(EXIT_FAILURE, why);
}

/* ---- the order ---- */

static int (*const steps[])(struct fae_node *node) = {
    step_config, step_run_dir, step_data_dir, step_listen, step_log,
    step_tell,   step_shared,  step_servants, step_drop,   step_stores,
};

int fae_start(struct fae_node *node, const struct fae_serve_opts *opts)
{
    int code = 0;

    *node = (struct fae_node){ .opts = *opts, .log_fd = STDERR_FILENO, .signal_fd = -1 };
    node->run.pid_fd = node->data.pid_fd = -1;
    node->committed = node->previous = FAE_STORED_NONE;
    for (unsigned i = 0; i <= FAE_WORKERS_MAX; i++)
        node->children[i].life = -1;
    fae_clock_init();
    fae_privs_limits();
    umask(027);
    for (unsigned i = 0; i < sizeof steps / sizeof *steps && !code; i++)
        code = steps[i](node);
    if (code)
        fae_start_undo(node);
    return code;
}

void fae_start_undo(struct fae_node *node)
{
    for (unsigned i = 0; i < node->n_listeners; i++)
        fae_listener_close(&node->listeners[i], true);
    node->n_listeners = 0;
    for (unsigned i = 0; i < FAE_LISTENERS_MAX; i++)
        fae_tls_ctx_free(&node->listeners[i].tls);
    fae_tls_ctx_free(&node->admin.tls);
    if (node->has_admin)
        fae_listener_close(&node->admin, false);
    node->has_admin = false;
    fae_stored_close(&node->committed);
    fae_stored_close(&node->previous);
    fae_log_follow(NULL);
    if (node->shared.slots) {
        if (*node->shared.stores.data_dir)
            fae_stores_close(&node->shared.stores);
        fae_shared_close(&node->shared);
    }
    node->shared.slots = NULL;
    fae_rundir_close(&node->data, true);
    fae_rundir_close(&node->run, true);
    fae_config_fini(&node->config);
    if (node->log_fd > STDERR_FILENO)
        close(node->log_fd);
    node->log_fd = STDERR_FILENO;
}

void fae_start_announce(const struct fae_node *node)
{
    const char *first = node->listeners[0].text;

    printf("fae ready:");
    for (unsigned i = 0; i < node->n_listeners; i++)
        printf(" %s", node->listeners[i].text);
    if (node->has_admin)
        printf(" admin:%s://%s", node->admin.tls ? "https" : "http", node->admin.text + sizeof "tcp://" - 1);
    printf(" pid:%ld\n", (long)getpid());
    if (strcmp(first, FAE_DEFAULT_TCP) == 0)
        printf("try: %s call sys.ping\n", program_invocation_name);
    else
        printf("try: %s call -s %s %ssys.ping\n", program_invocation_name, first,
               node->listeners[0].tls ? "--insecure " : "");
    fflush(stdout);
}
