/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a statement may do to the connection that runs it, as far as its text proves. Where the text proves nothing, the
 * worse is assumed: such a statement is not sent twice, runs on no replica, and its connection is made as new after it.
 */
#ifndef FAE_BACKEND_MYSQL_SQL_H
#define FAE_BACKEND_MYSQL_SQL_H

#include <stdbool.h>
#include <stddef.h>

struct fae_mysql_class {
    bool reads;          /* changes nothing anywhere: may be sent again, and may go to a replica unless ... */
    bool locks;          /* ... it locks the rows that it reads */
    bool leaves_nothing; /* that the next statement on the connection would notice */
    const char *refused; /* a sentence; NULL: it may run */
};

struct fae_mysql_class fae_mysql_classify(const char *sql, size_t len);

/* What was proven of the statements seen last: to look a text up takes a tenth of the scan. Zeroed at first. */
#define FAE_MYSQL_CLASSES 64

struct fae_mysql_classes {
    struct fae_mysql_seen *seen[FAE_MYSQL_CLASSES]; /* by the text's hash; NULL: none yet */
};

/* As fae_mysql_classify. */
struct fae_mysql_class fae_mysql_class_of(struct fae_mysql_classes *classes, const char *sql, size_t len);
void fae_mysql_classes_fini(struct fae_mysql_classes *classes);

#endif
