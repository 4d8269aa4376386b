/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Feeds files to a fuzz target without libFuzzer: the seeds are part of every `make check`. Arguments are files and
 * folders (not searched deeper); each input lies at the end of its own block so that a sanitizer sees one byte too far.
 * A crash ends the program before it can count. The empty input is always fed first.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static unsigned n_fed, n_failed;

static void fail(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    n_failed++;
}

static void feed_file(const char *path, size_t size)
{
    uint8_t *bytes = malloc(size ? size : 1);
    FILE *file = fopen(path, "rb");

    if (!file || !bytes || fread(bytes, 1, size, file) != size) {
        fail(path);
    } else {
        printf("%s\n", path);
        fflush(stdout); /* the last name printed is the one that crashed */
        LLVMFuzzerTestOneInput(bytes, size);
        n_fed++;
    }
    if (file)
        fclose(file);
    free(bytes);
}

static void feed_folder(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);

    if (n < 0) {
        fail(path);
        return;
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        struct stat st;

        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (stat(file, &st) != 0)
            fail(file);
        else if (S_ISREG(st.st_mode))
            feed_file(file, (size_t)st.st_size);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    n_fed++;
    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) != 0)
            fail(argv[i]);
        else if (S_ISDIR(st.st_mode))
            feed_folder(argv[i]);
        else
            feed_file(argv[i], (size_t)st.st_size);
    }
    printf("%u passed, %u failed\n", n_fed, n_failed);
    return n_failed != 0;
}
