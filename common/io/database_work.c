// The work of database.h: one piece at a time, as a pipeline of statements with one answer at its end, so that its length costs
// no round trips.
//
//   PLAIN   statements, sync                                the server commits at the sync
//   LOCKED  BEGIN, lock, statements, sync | COMMIT, sync    or ROLLBACK, sync
//
// The commit is told only when every statement went well and touched what it had to. From then on until the answer the outcome
// is the server's alone to know.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/database_private.h"
#include "common/io/log.h"

// The server ends a statement that takes too long; only one that does not answer at all is given up by us, a little later.
#define GRACE MILLISECONDS(500)
// An idle connection is asked so often whether it still stands, and still takes writes.
#define PROBE_AFTER SECONDS(5)

static const char lock_sql[] = "SELECT pg_advisory_xact_lock(hashtextextended('twinspan.write.' || $1, 0))";

// ---- making work ----

struct database_work *database_work_new(struct database *database, enum database_access access)
{
	struct database_work *work = allocate(sizeof *work);
	*work = (struct database_work){.database = database, .access = access};
	return work;
}

void database_work_add(struct database_work *work, const char *sql, const char *const *values, int count, long rows)
{
	invariant(work->phase == WORK_QUEUED && !work->done);
	invariant(rows == DATABASE_ANY_ROWS ||
	          work->access == DATABASE_LOCKED); // a plain one is committed before its rows are counted
	if (work->count == work->capacity) {
		work->capacity = work->capacity ? work->capacity * 2 : 4;
		work->statements = reallocate(work->statements, work->capacity, sizeof *work->statements);
	}
	struct database_statement *statement = &work->statements[work->count++];
	*statement = (struct database_statement){sql, count, allocate(((size_t)count + 1) * sizeof(char *)), rows};
	for (int i = 0; i < count; i++) {
		statement->values[i] = values[i] ? duplicate_text(values[i]) : NULL;
	}
}

static void free_work(struct database_work *work)
{
	for (size_t i = 0; i < work->count; i++) {
		for (int j = 0; j < work->statements[i].count; j++) {
			free(work->statements[i].values[j]);
		}
		free(work->statements[i].values);
		if (work->answer.results) {
			PQclear(work->answer.results[i]);
		}
	}
	free(work->answer.results);
	free(work->statements);
	free(work->slots);
	free(work);
}

void database_submit(struct database_work **work_at, database_fn *done, void *context)
{
	struct database_work *work = *work_at;
	struct database *database = work->database;
	invariant(work->count > 0 && !work->next);
	work->done = done;
	work->context = context;
	work->answer.count = work->count;
	work->answer.results = allocate(work->count * sizeof(PGresult *));
	*database->last = work;
	database->last = &work->next;
	*work_at = NULL;
	deadline_arm(&database->turn, now());
}

// ---- sending ----

static void slot_add(struct database_work *work, int kind, size_t statement)
{
	if (work->slot_count == work->slot_capacity) {
		work->slot_capacity = work->slot_capacity ? work->slot_capacity * 2 : 8;
		work->slots = reallocate(work->slots, work->slot_capacity, sizeof *work->slots);
	}
	work->slots[work->slot_count].kind = kind;
	work->slots[work->slot_count++].statement = statement;
}

static bool send_control(struct database_work *work, const char *sql, const char *const *values, int count)
{
	slot_add(work, SLOT_CONTROL, 0);
	return PQsendQueryParams(work->database->connection, sql, count, NULL, values, NULL, NULL, 0) == 1;
}

static bool send_statement(struct database_work *work, size_t index)
{
	struct database *database = work->database;
	const struct database_statement *statement = &work->statements[index];
	const char *name = map_find_text(database->prepared, statement->sql);
	if (!name) {
		char *fresh = format_text("s%zu", database->names++);
		slot_add(work, SLOT_PREPARE, index);
		if (PQsendPrepare(database->connection, fresh, statement->sql, 0, NULL) != 1) {
			free(fresh);
			return false;
		}
		map_insert_text(database->prepared, statement->sql, fresh); // until it is refused
		name = fresh;
	}
	slot_add(work, SLOT_STATEMENT, index);
	return PQsendQueryPrepared(database->connection, name, statement->count, (const char *const *)statement->values, NULL,
	                           NULL, 0) == 1;
}

static void no_answer(void *context)
{
	database_down(context, "no answer in time");
}

// What was put in the pipeline is whole: the server answers it now.
static void sync_up(struct database_work *work, bool sent)
{
	struct database *database = work->database;
	int left = sent && PQpipelineSync(database->connection) == 1 ? PQflush(database->connection) : -1;
	if (left < 0) {
		database_down(database, PQerrorMessage(database->connection));
		return;
	}
	database->deadline.fn = no_answer;
	deadline_arm(&database->deadline, now() + MILLISECONDS(database->timeout_ms) + GRACE);
	database_watch(database, left == 1);
}

static void send_work(struct database_work *work)
{
	struct database *database = work->database;
	invariant(work == database->first && work->phase == WORK_QUEUED);
	work->phase = WORK_SENT;
	deadline_disarm(&database->probe);
	bool sent = true;
	if (work->access == DATABASE_LOCKED) {
		sent = send_control(work, "BEGIN", NULL, 0) && send_control(work, lock_sql, &database->schema, 1);
	}
	for (size_t i = 0; sent && i < work->count; i++) {
		sent = send_statement(work, i);
	}
	sync_up(work, sent);
}

static void send_end(struct database_work *work, const char *sql)
{
	work->slot = work->slot_count = 0;
	sync_up(work, send_control(work, sql, NULL, 0));
}

// ---- outcomes ----

static void finish(struct database_work *work, enum database_outcome outcome)
{
	struct database *database = work->database;
	invariant(work == database->first);
	database->first = work->next;
	if (!database->first) {
		database->last = &database->first;
	}
	work->next = NULL;
	work->answer.outcome = outcome;
	work->done(work->context, &work->answer);
	free_work(work);
}

static enum database_outcome outcome_of_loss(const struct database_work *work)
{
	bool told = work->phase == WORK_COMMITTING || (work->phase == WORK_SENT && work->access == DATABASE_PLAIN);
	return told ? DATABASE_UNKNOWN : DATABASE_AWAY; // whatever was answered on the way: the end was not
}

void database_work_fail_all(struct database *database)
{
	invariant(!database->connection);
	// What these calls submit is not failed here, but in its own turn.
	struct database_work *last = NULL;
	for (struct database_work *work = database->first; work; work = work->next) {
		last = work;
	}
	for (struct database_work *work = NULL; last && work != last;) {
		work = database->first;
		finish(work, outcome_of_loss(work));
	}
}

void database_work_drop_all(struct database *database)
{
	deadline_disarm(&database->turn);
	deadline_disarm(&database->probe);
	while (database->first) {
		struct database_work *work = database->first;
		database->first = work->next;
		free_work(work);
	}
}

void database_work_warned(struct database *database)
{
	if (database->phase == DATABASE_UP && database->first && database->first->phase != WORK_QUEUED) {
		database->first->unsure = true;
	}
}

// ---- answers ----

// The text of an error may quote a value; the codes and names do not. Class 42 is our own SQL that is wrong: there the text
// helps.
void database_log_refusal(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool ours = state && strncmp(state, "42", 2) == 0;
	log_limited(LOG_WARNING, "database-refused", "sqlstate", state, "table", PQresultErrorField(result, PG_DIAG_TABLE_NAME),
	            "constraint", PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME), "message",
	            ours ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL, NULL);
}

static void take_statement(struct database_work *work, size_t index, PGresult *result)
{
	long wanted = work->statements[index].rows;
	if (wanted != DATABASE_ANY_ROWS && strtol(PQcmdTuples(result), NULL, 10) != wanted &&
	    work->answer.outcome == DATABASE_DONE) {
		work->answer.outcome = DATABASE_RACED;
		work->answer.statement = index;
	}
	invariant(!work->answer.results[index]);
	work->answer.results[index] = result;
}

static void take(struct database_work *work, PGresult *result)
{
	invariant(work->slot < work->slot_count);
	const struct database_slot *slot = &work->slots[work->slot];
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
		// A server that could not commit says ROLLBACK, and that it went well.
		if (work->phase == WORK_COMMITTING && strcmp(PQcmdStatus(result), "COMMIT") != 0) {
			work->answer.outcome = DATABASE_REFUSED;
		}
		if (slot->kind == SLOT_STATEMENT) {
			take_statement(work, slot->statement, result);
		} else {
			PQclear(result);
		}
		return;
	}
	if (slot->kind == SLOT_PREPARE) {
		free(map_remove_text(work->database->prepared, work->statements[slot->statement].sql));
	}
	// An error without a code is libpq's own: the connection broke, and the server has said nothing.
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	if (state && !work->answer.sqlstate[0]) {
		work->answer.outcome = DATABASE_REFUSED;
		work->answer.statement = slot->statement;
		snprintf(work->answer.sqlstate, sizeof work->answer.sqlstate, "%s", state);
		database_log_refusal(result);
	}
	PQclear(result);
}

// The server takes no writes, or ends: no use staying.
static bool is_leaving(const char *sqlstate)
{
	return strcmp(sqlstate, "25006") == 0 || strncmp(sqlstate, "57P", 3) == 0;
}

// The answer to a sync: the pipeline has come to its end.
static void answered(struct database_work *work)
{
	struct database *database = work->database;
	const struct database_answer *answer = &work->answer;
	invariant(work->slot == work->slot_count);
	database->proven = true;
	if (is_leaving(answer->sqlstate)) {
		database_down(database, "the server takes no more writes");
		return;
	}
	if (work->phase == WORK_SENT && work->access == DATABASE_LOCKED) {
		bool good = answer->outcome == DATABASE_DONE;
		work->phase = good ? WORK_COMMITTING : WORK_ROLLING_BACK;
		work->unsure = false;
		send_end(work, good ? "COMMIT" : "ROLLBACK");
		return;
	}
	enum database_outcome outcome = answer->outcome;
	if (work->phase != WORK_ROLLING_BACK && outcome == DATABASE_DONE) {
		// Committed here and not replicated is not durable: the next primary may not have it.
		outcome = work->unsure ? DATABASE_UNKNOWN : DATABASE_DONE;
		database->rounds = 0;
	}
	deadline_disarm(&database->deadline);
	deadline_arm(&database->probe, beat_after(now() + PROBE_AFTER, SECONDS(1)));
	deadline_arm(&database->turn, now());
	finish(work, outcome);
}

static bool is_under_way(const struct database *database)
{
	return database->phase == DATABASE_UP && database->first && database->first->phase != WORK_QUEUED;
}

void database_work_advance(struct database *database)
{
	int left = PQconsumeInput(database->connection) ? PQflush(database->connection) : -1;
	if (left >= 0) {
		database_watch(database, left == 1);
	}
	// What came before the end is still heard: it may be the answer.
	while (is_under_way(database) && !PQisBusy(database->connection)) {
		struct database_work *work = database->first;
		PGresult *result = PQgetResult(database->connection);
		if (!result) {
			if (work->slot == work->slot_count) {
				break;
			}
			work->slot++;
		} else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
			PQclear(result);
			answered(work);
		} else if (work->slot == work->slot_count) {
			PQclear(result); // of a connection that broke
			break;
		} else {
			take(work, result);
		}
	}
	if (database->phase == DATABASE_UP && (left < 0 || PQstatus(database->connection) == CONNECTION_BAD)) {
		database_down(database, "the connection was lost");
	}
}

// ---- turns ----

static void turn(void *context)
{
	struct database *database = context;
	if (database->phase != DATABASE_UP) {
		if (!database->connection) {
			database_work_fail_all(database);
		} else {
			while (database->first) {
				finish(database->first, DATABASE_AWAY);
			}
		}
	} else if (database->first && database->first->phase == WORK_QUEUED) {
		send_work(database->first);
	}
}

static void on_probe(void *context, struct database_answer *answer)
{
	struct database *database = context;
	if (answer->outcome == DATABASE_DONE && database->writable && strcmp(PQgetvalue(answer->results[0], 0, 0), "on") == 0) {
		database_down(database, "the server became read-only");
	}
}

static void probe(void *context)
{
	struct database *database = context;
	struct database_work *work = database_work_new(database, DATABASE_PLAIN);
	database_work_add(work, "SHOW transaction_read_only", NULL, 0, DATABASE_ANY_ROWS);
	database_submit(&work, on_probe, database);
}

void database_work_begin(struct database *database)
{
	database_watch(database, false);
	deadline_arm(&database->probe, beat_after(now() + PROBE_AFTER, SECONDS(1)));
	deadline_arm(&database->turn, now());
}

void database_work_init(struct database *database)
{
	deadline_init(&database->turn, database->loop, turn, database);
	deadline_init(&database->probe, database->loop, probe, database);
}
