/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The table of subcommands, and what comes from it: the list, each command's --help, "did you mean", usage errors.
 */
#include "cmd/cmd.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"

/* Those of fae_trust_option. */
#define TLS_OPTIONS                                                                                                    \
    "  --ca FILE          tls: whom to believe the node's certificate (else whom the system believes)\n"               \
    "  --insecure         tls: believe any\n"                                                                          \
    "  --tls-name NAME    tls: the name it must be for (else the host of ADDR)\n"                                      \
    "  --cert FILE        tls: our own certificate\n"                                                                  \
    "  --key FILE         tls: its key (else it is in that file too)\n"

static const struct fae_cmd cmds[] = {
    { "serve", fae_cmd_serve,
      "[-c FILE] [--listen ADDR]... [--admin HOST:PORT] [--run-dir DIR] [--servants DIR] [--workers N] [--single]",
      "run a node in the foreground",
      "  -c FILE            configuration; without it every option has its default\n"
      "  --listen ADDR      tcp://host:port or unix:/path, may be repeated; port 0 takes any and tells which\n"
      "  --admin HOST:PORT  health and admin over http; \"\" means none\n"
      "  --run-dir DIR      sockets and pid file\n"
      "  --servants DIR     servants of this node, in addition to the bundled ones\n"
      "  --workers N        processes that serve calls; 0 means one a core\n"
      "  --single           one worker in one process, for gdb and perf\n"
      "Options given here win over the file. SIGHUP reloads, SIGTERM and SIGINT drain and stop.\n" },
    { "check", fae_cmd_check, "[-c FILE] [--servants DIR]", "check configuration and servants, start nothing",
      "  -c FILE            configuration to check\n"
      "  --servants DIR     servants to check\n"
      "  --print-defaults   conf/fae.lua: every option with its default\n"
      "  --print-reference  the page about them\n"
      "Lists every error with its line; exits 78 when there is one.\n" },
    { "call", fae_cmd_call, "[-s ADDR] [-t MS] [-r] [--token-file FILE] METHOD [JSON]...",
      "make one call and print its answer as JSON",
      "  -s ADDR            tcp://host:port, tls://host:port or unix:/path (or $FAE_ADDR; tcp://127.0.0.1:9001)\n"
      "  -t MS              give up after this long (10000)\n"
      "  -r                 print a string as it is, without quotes\n"
      "  --token-file FILE  what shows the node who you are (else $FAE_TOKEN)\n" TLS_OPTIONS
      "Each JSON is one parameter: fae call sys.echo '\"text\"' or fae call sys.echo '{\"a\": [1, 2]}'\n"
      "Bytes that are no text are written {\"$bin\":\"hex\"}, both ways.\n" },
    { "reload", fae_cmd_reload, "[--run-dir DIR] [--wait|--dry-run]",
      "load configuration and servants anew, losing no call",
      "  --run-dir DIR      of the node\n"
      "  --wait             return when the replaced generation has finished its calls\n"
      "  --dry-run          check both, tell what would change, change nothing\n"
      "Tells what changed in the configuration, and what needs a restart. When a servant does not load nothing changes,\n"
      "and the exit code is 1; when the configuration is wrong, 78.\n" },
    { "bench", fae_cmd_bench, "[OPTION]... METHOD [JSON]... | --mix FILE | --compare A B",
      "load a node with calls and measure",
      "  -s ADDR            tcp://host:port or unix:/path (else $FAE_ADDR, else tcp://127.0.0.1:9001)\n"
      "  -c CONNS           connections (50)\n"
      "  -p DEPTH           calls a connection sends at once; the next ones when all are answered (1)\n"
      "  -d SECONDS         how long (5; with -n: at most 60)\n"
      "  -n CALLS           stop after this many\n"
      "  --rate CALLS_PER_S send by the clock, whatever the answers do; latencies count from when a call was due.\n"
      "                     Without it every connection sends its next calls as soon as it has its answers\n"
      "  --threads N        threads, which share the connections (1)\n"
      "  --connect-per-call connect, call, close, CONNS at a time\n"
      "  --spread N         connect from 127.0.0.2 and following, N of them: one source address runs out of ports\n"
      "  --method 'WEIGHT METHOD [JSON]...'  one of several methods, each as often as its weight says\n"
      "  --mix FILE         the same, a line each; # begins a comment line\n"
      "  --progress         a line each second on stderr (always, when that is a terminal)\n"
      "  --json             one line of JSON instead of the table\n"
      "  --save FILE        write that line into FILE as well\n"
      "  --token-file FILE  what shows the node who you are (else $FAE_TOKEN), with every call\n" TLS_OPTIONS
      "  --compare A B      set two such files side by side, make no load\n"
      "  --raw HEX          send these bytes instead of a call (another protocol), with\n"
      "  --raw-answer-bytes N  the length of every answer; each must equal the first\n"
      "  --raw-compare N    only in its first N bytes\n"
      "  --raw-greeting N   bytes that the server sends first on a connection\n"
      "Each JSON is one parameter. In it {{seq}} stands for the number of the call, {{rand:LOW:HIGH}} for a number\n"
      "between these, {{str:LENGTH}} for random letters: fae bench lc.get '\"user:{{rand:1:1000}}\"'\n"
      "Exits 1 when a call failed.\n" },
    { "test", fae_cmd_test, "[-c FILE] [--servants DIR] DIR|FILE...", "run busted specs inside the runtime",
      "  -c FILE            configuration to run them with: its pools, options and servants\n"
      "  --servants DIR     servants that the specs call, in addition to the bundled ones\n"
      "A spec may wait, call and start tasks as a servant may.\n" },
    { "ctl", fae_cmd_ctl, "[--run-dir DIR] VERB [ARG]...", "look at a running node, or steer it",
      "  --run-dir DIR      of the node\n"
      "  ping               is it there?\n"
      "  status             its processes and generations\n"
      "  stats              calls and latencies of every method, as JSON\n"
      "  slowlog [N]        the newest slow and sampled calls (20), a line of JSON each; slowlog clear forgets them\n"
      "  config             the configuration it runs with, without secrets\n"
      "  log-level LEVEL    debug, info, warn or error until the next reload; reset: what the configuration says\n"
      "  reopen-log         open log_file again after it was moved away, as SIGUSR1 does\n"
      "  rollback           back to the servants before the last reload\n"
      "  sessions [N]       connections, the N busiest of each worker (20)\n"
      "  session-close WORKER:ID|peer=ADDRESS  close that connection, or all of that address\n"
      "  servants           the files of the generation that serves\n"
      "  gc                 collect the Lua garbage of one worker after the other\n"
      "  drain              refuse new connections, close idle ones, fail /readyz, until\n"
      "  undrain\n"
      "  drain WORKER       that worker finishes its calls and is replaced\n"
      "  locks [N]          locks that are held, N of them (100)\n"
      "  lock-release KEY   release a lock, whoever holds it\n"
      "  cache stats        the numbers of both caches\n"
      "  cache flush [cache|query_cache]  empty that one, or both\n"
      "  backends           the servers that are called: breakers, calls, connections\n"
      "  breaker NAME open|close|auto  leave that server (redis/main/tcp://10.0.0.1:6379), or all of that pool\n"
      "                     (redis/main), alone; call it whatever happens; as its calls go\n"
      "  kv backup DIR|check|stats  of the kv store: copy it while it is used, look at every record, its numbers\n"
      "  hist               latencies of every method as buckets, for tools\n"
      "  stop               finish the calls in flight and end\n" },
    { "top", fae_cmd_top, "[--run-dir DIR] [-i SECONDS] [-n COUNT] [--once] [--json]",
      "watch a running node: methods, workers, backends, limits",
      "  --run-dir DIR      of the node\n"
      "  -i SECONDS         between two looks (1)\n"
      "  -n COUNT           end after so many\n"
      "  --once             look once, for one interval, as plain text\n"
      "  --json             a line of JSON each time\n"
      "On a terminal q leaves. P50 and P99 are those of the interval.\n" },
    { "token", fae_cmd_token, "[--hash] [NAME [ROLE]...]",
      "make a token, and the line of the configuration that knows it",
      "  --hash             no new token: read one from stdin\n"
      "The token goes to stdout and is kept nowhere; the line, with its SHA-256, to stderr (with --hash: stdout):\n"
      "fae token web shop >web.token\n" },
    { "version", fae_cmd_version, "", "print the version", "" },
};

enum { N_CMDS = sizeof cmds / sizeof cmds[0] };

static const struct fae_cmd *find(const char *name)
{
    for (unsigned i = 0; i < N_CMDS; i++)
        if (strcmp(cmds[i].name, name) == 0)
            return &cmds[i];
    return NULL;
}

static void print_usage(FILE *to, const struct fae_cmd *cmd)
{
    fprintf(to, "usage: fae %s%s%s\n", cmd->name, cmd->args[0] ? " " : "", cmd->args);
}

static int print_help(const struct fae_cmd *cmd)
{
    print_usage(stdout, cmd);
    printf("%s\n%s%s", cmd->help, cmd->more[0] ? "\n" : "", cmd->more);
    return fflush(stdout) ? FAE_EXIT_FAILED : FAE_EXIT_OK;
}

static int print_list(FILE *to, int code)
{
    fprintf(to, "usage: fae COMMAND [ARG]...\n\n");
    for (unsigned i = 0; i < N_CMDS; i++)
        fprintf(to, "  %-9s %s\n", cmds[i].name, cmds[i].help);
    fprintf(to, "\nfae COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 usage, 78 configuration.\n");
    return fflush(to) ? FAE_EXIT_FAILED : code;
}

static int unknown_command(const char *word)
{
    struct fae_suggest s = { .word = word };

    for (unsigned i = 0; i < N_CMDS; i++)
        fae_suggest_offer(&s, cmds[i].name);
    fprintf(stderr, "fae: unknown command \"%s\"", word);
    if (s.best)
        fprintf(stderr, ": did you mean \"%s\"?", s.best);
    fprintf(stderr, "\nfae --help lists the commands\n");
    return FAE_EXIT_USAGE;
}

int fae_cmd_usage(const char *name, const char *fmt, ...)
{
    const struct fae_cmd *cmd = find(name);
    va_list ap;

    fprintf(stderr, "fae %s: ", name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (cmd)
        print_usage(stderr, cmd);
    return FAE_EXIT_USAGE;
}

/* Offers every option that the usage line or the help's first column names. */
static void offer_flags(struct fae_suggest *s, const char *text)
{
    for (const char *p = strchr(text, '-'); p; p = strchr(p, '-')) {
        size_t len = strspn(p, "-abcdefghijklmnopqrstuvwxyz");
        char flag[32];

        if ((p == text || strchr(" [|\n", p[-1])) && len > 1 && len < sizeof flag) {
            memcpy(flag, p, len);
            flag[len] = '\0';
            fae_suggest_offer(s, flag);
            if (s->best == flag) /* it keeps the pointer, and flag is about to change */
                s->best = p;
        }
        p += len;
    }
}

int fae_cmd_unknown(const char *name, const char *word)
{
    const struct fae_cmd *cmd = find(name);
    size_t len = strcspn(word, "=");
    char bare[64];
    struct fae_suggest s = { .word = bare };

    if (word[0] != '-' || word[1] == '\0')
        return fae_cmd_usage(name, "does not know what to do with \"%s\"", word);
    snprintf(bare, sizeof bare, "%.*s", (int)(len < sizeof bare ? len : sizeof bare - 1), word);
    if (cmd && bare[1] == '-') { /* every single letter is near every other */
        offer_flags(&s, cmd->args);
        offer_flags(&s, cmd->more);
    }
    if (!s.best)
        return fae_cmd_usage(name, "unknown option \"%s\"", bare);
    return fae_cmd_usage(name, "unknown option \"%s\": did you mean \"%.*s\"?", bare,
                         (int)strspn(s.best, "-abcdefghijklmnopqrstuvwxyz"), s.best);
}

const char *fae_cmd_value(const char *name, int argc, char **argv, int *i, const char *flag)
{
    const char *word = argv[*i];
    size_t len = strlen(flag);

    if (strncmp(word, flag, len) != 0)
        return NULL;
    if (word[len] == '=')
        return word + len + 1;
    if (word[len] != '\0')
        return NULL;
    if (*i + 1 >= argc)
        exit(fae_cmd_usage(name, "%s needs a value", flag));
    return argv[++*i];
}

static bool wants_help(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "-h") == 0)
        return true;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

static int run(const struct fae_cmd *cmd, int argc, char **argv)
{
    return wants_help(argc, argv) ? print_help(cmd) : cmd->run(argc, argv);
}

/* A link named faed is how init scripts of the older daemon start it. */
static bool is_faed(const char *path)
{
    const char *slash = strrchr(path, '/');

    return strcmp(slash ? slash + 1 : path, "faed") == 0;
}

static int help(int argc, char **argv)
{
    const struct fae_cmd *cmd;

    if (argc < 2)
        return print_list(stdout, FAE_EXIT_OK);
    cmd = find(argv[1]);
    return cmd ? print_help(cmd) : unknown_command(argv[1]);
}

int fae_cmd_main(int argc, char **argv)
{
    static char serve[] = "serve", version[] = "version";
    const struct fae_cmd *cmd;

    if (argc > 0 && is_faed(argv[0])) {
        argv[0] = serve;
        return run(find(serve), argc, argv);
    }
    if (argc < 2)
        return print_list(stderr, FAE_EXIT_USAGE);
    argc--, argv++;
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
        return help(argc, argv);
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0)
        argv[0] = version;
    cmd = find(argv[0]);
    return cmd ? run(cmd, argc, argv) : unknown_command(argv[0]);
}
