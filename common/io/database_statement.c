// One statement at a time: sent, and waited for with a clock running.
#include "common/io/database_statement.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"

// The server ends a statement that takes too long; only one that does not answer at all is given up by us, a little later.
enum { GRACE_MS = 500 };

static bool wait_for(struct database *database, short events, instant end)
{
	duration left = end - now();
	struct pollfd item = {.fd = PQsocket(database->connection), .events = events};
	if (left <= 0) {
		return false;
	}
	int result = poll(&item, 1, (int)(left / 1000) + 1);
	return result > 0 || (result < 0 && errno == EINTR);
}

static bool flush(struct database *database, instant end)
{
	int pending;
	while ((pending = PQflush(database->connection)) > 0) {
		if (!wait_for(database, POLLIN | POLLOUT, end) || !PQconsumeInput(database->connection)) {
			return false;
		}
	}
	return pending == 0;
}

// The last result of what was sent; NULL when the connection is of no use any more.
static PGresult *collect(struct database *database, instant end)
{
	PGresult *last = NULL;
	for (;;) {
		while (PQisBusy(database->connection)) {
			if (!wait_for(database, POLLIN, end) || !PQconsumeInput(database->connection)) {
				PQclear(last);
				return NULL;
			}
		}
		PGresult *next = PQgetResult(database->connection);
		if (!next) {
			return last;
		}
		// An error is not hidden by what follows it.
		if (last && PQresultStatus(last) == PGRES_FATAL_ERROR) {
			PQclear(next);
		} else {
			PQclear(last);
			last = next;
		}
	}
}

// The text of an error may quote a value; the codes and names do not. Class 42 is our own SQL that is wrong: there the text
// helps.
static void log_refusal(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool ours = state && strncmp(state, "42", 2) == 0;
	log_limited(LOG_WARNING, "database-refused", "sqlstate", state, "table", PQresultErrorField(result, PG_DIAG_TABLE_NAME),
	            "constraint", PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME), "message",
	            ours ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL, NULL);
}

// Takes what a send function said, and gives the result when it is a good one.
static PGresult *finish(struct database *database, int sent, char sqlstate[6])
{
	instant end = now() + MILLISECONDS(database->timeout_ms + GRACE_MS);
	PGresult *result = sent && flush(database, end) ? collect(database, end) : NULL;
	if (!result) {
		database_down(database, PQstatus(database->connection) == CONNECTION_BAD ? "the connection was lost"
		                                                                         : "no answer in time");
		return NULL;
	}
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
		return result;
	}
	database->failed = database->in_transaction;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	if (sqlstate && state) {
		snprintf(sqlstate, 6, "%s", state);
	}
	log_refusal(result);
	PQclear(result);
	if (PQstatus(database->connection) == CONNECTION_BAD) {
		database_down(database, "the connection was lost");
	}
	return NULL;
}

PGresult *database_run(struct database *database, const char *sql, char sqlstate[6])
{
	if (!database->up) {
		return NULL;
	}
	return finish(database, PQsendQuery(database->connection, sql), sqlstate);
}

static const char *prepare(struct database *database, const char *sql, char sqlstate[6])
{
	char *name = map_find_text(database->prepared, sql);
	if (!name) {
		char *fresh = format_text("s%zu", map_count(database->prepared));
		PGresult *result = finish(database, PQsendPrepare(database->connection, fresh, sql, 0, NULL), sqlstate);
		if (!result) {
			free(fresh);
			return NULL;
		}
		PQclear(result);
		map_insert_text(database->prepared, sql, fresh);
		name = fresh;
	}
	return name;
}

PGresult *database_query(struct database *database, const char *sql, const char *const *values, int count, char sqlstate[6])
{
	if (sqlstate) {
		sqlstate[0] = '\0';
	}
	if (!database->up || (database->in_transaction && database->failed)) {
		return NULL;
	}
	const char *name = prepare(database, sql, sqlstate);
	if (!name) {
		return NULL;
	}
	return finish(database, PQsendQueryPrepared(database->connection, name, count, values, NULL, NULL, 0), sqlstate);
}

bool database_begin(struct database *database)
{
	PGresult *result = database->in_transaction ? NULL : database_run(database, "BEGIN", NULL);
	database->in_transaction = result != NULL;
	database->failed = false;
	PQclear(result);
	return database->in_transaction;
}

void database_rollback(struct database *database)
{
	bool open = database->in_transaction;
	database->in_transaction = false;
	database->failed = false;
	if (open) {
		PQclear(database_run(database, "ROLLBACK", NULL));
	}
}

bool database_commit(struct database *database)
{
	if (!database->in_transaction || database->failed || !database->up) {
		database_rollback(database);
		return false;
	}
	PGresult *result = database_run(database, "COMMIT", NULL);
	database->in_transaction = false;
	database->failed = false;
	// A server that could not commit says ROLLBACK, and that it went well.
	bool committed = result && strcmp(PQcmdStatus(result), "COMMIT") == 0;
	PQclear(result);
	return committed;
}
