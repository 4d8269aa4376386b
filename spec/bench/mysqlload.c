/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a C client with persistent connections gets out of a MariaDB server: so many threads, each with a connection and a
 * prepared SELECT by primary key. Prints queries a second, and its own CPU in us a query.
 *
 *   mysqlload SOCKET THREADS SECONDS
 */
#include <mysql.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SQL "SELECT id, v, n FROM pk WHERE id = ?"

static const char *path;
static atomic_bool counts, stops;
static atomic_ulong n_done;

static void fail(const char *what)
{
    fprintf(stderr, "mysqlload: %s\n", what);
    exit(1);
}

static void set_results(MYSQL_STMT *stmt)
{
    static __thread int id, n;
    static __thread char v[200];
    static __thread MYSQL_BIND out[3];

    out[0] = (MYSQL_BIND){ .buffer_type = MYSQL_TYPE_LONG, .buffer = &id };
    out[1] = (MYSQL_BIND){ .buffer_type = MYSQL_TYPE_STRING, .buffer = v, .buffer_length = sizeof v };
    out[2] = (MYSQL_BIND){ .buffer_type = MYSQL_TYPE_LONG, .buffer = &n };
    if (mysql_stmt_bind_result(stmt, out))
        fail(mysql_stmt_error(stmt));
}

static void *run(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    MYSQL *my = mysql_init(NULL);
    MYSQL_STMT *stmt;
    int id;
    MYSQL_BIND in = { .buffer_type = MYSQL_TYPE_LONG, .buffer = &id };

    if (!mysql_real_connect(my, "localhost", "root", NULL, "test", 0, path, 0))
        fail(mysql_error(my));
    stmt = mysql_stmt_init(my);
    if (mysql_stmt_prepare(stmt, SQL, strlen(SQL)) || mysql_stmt_bind_param(stmt, &in))
        fail(mysql_stmt_error(stmt));
    set_results(stmt);
    while (!stops) {
        id = rand_r(&seed) % 10000 + 1;
        if (mysql_stmt_execute(stmt) || mysql_stmt_store_result(stmt) || mysql_stmt_fetch(stmt))
            fail(mysql_stmt_error(stmt));
        mysql_stmt_free_result(stmt);
        if (counts)
            n_done++;
    }
    mysql_stmt_close(stmt);
    mysql_close(my);
    return NULL;
}

static double cpu_s(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int n = argc == 4 ? atoi(argv[2]) : 0;
    double cpu, since;
    pthread_t thread;

    if (n < 1)
        fail("SOCKET THREADS SECONDS");
    path = argv[1];
    mysql_library_init(0, NULL, NULL);
    for (int i = 0; i < n; i++)
        if (pthread_create(&thread, NULL, run, (void *)(size_t)(i + 1)))
            fail("no thread");
    usleep(300000);
    cpu = cpu_s();
    since = now_s();
    counts = true;
    usleep((useconds_t)(atof(argv[3]) * 1e6));
    counts = false;
    printf("%.0f %.3f\n", (double)n_done / (now_s() - since), (cpu_s() - cpu) / (double)n_done * 1e6);
    fflush(stdout);
    _exit(0);
}
