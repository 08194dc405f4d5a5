// PostgreSQL for a service that keeps turning when it is away: a connection that comes back by itself, forward-only migrations,
// and prepared, parameterised statements.
#ifndef TWINSPAN_IO_DATABASE_H
#define TWINSPAN_IO_DATABASE_H

#include "common/io/health.h"
#include "common/io/loop.h"
#include <libpq-fe.h>

struct database;
struct migration {
	const char *name; // "0001_objects"
	const char *sql;
};

// TWINSPAN_DATABASE is a libpq connection string (without the password), TWINSPAN_DATABASE_PASSWORD_FILE names the file with
// it. `schema` is the service's own. Applies in order, each in a transaction under an advisory lock, the migrations that
// <schema>.migration does not list yet. `up` is called each time the connection stands (the first time after the migrations).
struct database *database_new(struct loop *loop, struct health *health, const char *schema, const struct migration *migrations,
                              size_t count, loop_fn *up, void *context);
void database_free(struct database **database);
bool database_is_up(const struct database *database);
// Runs one statement with text parameters and waits for its result, TWINSPAN_DATABASE_TIMEOUT at most (default 3 s). NULL when
// the database is away or refuses (it logs why, without the values); `sqlstate`, when not NULL, gets the five characters of a
// refusal. Free with PQclear.
PGresult *database_query(struct database *database, const char *sql, const char *const *values, int count, char sqlstate[6]);
// Several statements as one transaction: begin, queries, then commit; commit is false when anything failed (and everything is
// undone).
bool database_begin(struct database *database);
bool database_commit(struct database *database);
void database_rollback(struct database *database);

#endif
