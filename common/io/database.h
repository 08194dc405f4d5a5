// PostgreSQL for a service that keeps turning when it is away. Nothing here waits: the connection is made, and made again, on
// the loop; work is queued, and its outcome comes by a call. One piece of work is carried out at a time, in the order in which
// it was given.
//
// TWINSPAN_DATABASE is a libpq connection string (without the password), TWINSPAN_DATABASE_PASSWORD_FILE names the file with
// it. Of several hosts each is tried in turn with a deadline of its own (3 s, or the string's connect_timeout), every address
// of a name too, until one takes writes (target_session_attrs=read-write unless the string says otherwise). A server that
// becomes read-only, or ends, is left for the next at once.
#ifndef TWINSPAN_IO_DATABASE_H
#define TWINSPAN_IO_DATABASE_H

#include "common/io/health.h"
#include "common/io/loop.h"
#include <libpq-fe.h>

struct database;
struct migration {
	const char *name; // "0001_objects"
	const char *sql;
	bool breaking; // releases that do not know it cannot work with what it leaves; without it they can
};

// `schema` is the service's own (and its name in pg_stat_activity). Each time the connection stands, the migrations that
// <schema>.migration does not list are applied, all in one transaction under an advisory lock; then `up` is called. A schema
// that a newer release left with a breaking migration is refused, and said. Exits with 2 when the connection string is none.
struct database *database_new(struct loop *loop, struct health *health, const char *schema, const struct migration *migrations,
                              size_t count, loop_fn *up, void *context);
void database_free(struct database **database); // work that is not done is dropped without a call
bool database_is_up(const struct database *database);

enum database_outcome {
	DATABASE_DONE,
	DATABASE_AWAY,    // nothing was done: there is no connection, or it broke before the server was told to commit
	DATABASE_REFUSED, // nothing was done: the server refused a statement
	DATABASE_RACED,   // nothing was done: a statement touched another number of rows than it had to
	DATABASE_UNKNOWN, // the server was told to commit and did not say whether it has, or has not replicated it: it may be
	                  // so, now or later
};
struct database_answer {
	enum database_outcome outcome;
	char sqlstate[6];   // DATABASE_REFUSED
	size_t statement;   // DATABASE_REFUSED and _RACED: which one, from 0
	size_t count;       // DATABASE_DONE:
	PGresult **results; // one for each statement. A receiver that keeps one puts NULL in its place
};
typedef void database_fn(void *context, struct database_answer *answer);

enum database_access {
	// All or nothing, in one round trip.
	DATABASE_PLAIN,
	// All or nothing, under the schema's lock: no two such pieces of work overlap, whoever does them. A commit whose
	// outcome is unknown holds the
	// lock until it is decided, so what is read under the lock afterwards is what there is.
	DATABASE_LOCKED,
};
enum { DATABASE_ANY_ROWS = -1 };
struct database_work;
struct database_work *database_work_new(struct database *database, enum database_access access);
// One statement with text parameters (copied; a value may be NULL). `sql` lives as long as the database. `rows`: how many it
// must touch.
void database_work_add(struct database_work *work, const char *sql, const char *const *values, int count, long rows);
// Takes the work over. `done` is called once, later: within TWINSPAN_DATABASE_TIMEOUT (default 3 s; for the statements, and
// again for the commit) of the work's turn, and at once when the connection ends.
void database_submit(struct database_work **work, database_fn *done, void *context);

#endif
