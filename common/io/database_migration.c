// From a connection to one that can be worked with: the session's settings, then the migrations. They go forward only: what
// <schema>.migration does not list is applied in order, all in one transaction with its lines. Several processes may start at
// once: an advisory lock lets one at a time look. Here the simple protocol is spoken (several statements in one text); the work
// after it has a pipeline.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/database_private.h"
#include "common/io/log.h"

// The settings are answered like any statement. A migration may rewrite a large table, or wait for another process that does.
#define MIGRATION_WAIT SECONDS(3600)

static void no_answer(void *context)
{
	database_down(context, "the session was not prepared in time");
}

static void send_text(struct database *database, enum database_phase phase, char *sql, duration wait)
{
	database->phase = phase;
	database->refused = false;
	PQclear(database->told);
	database->told = NULL;
	int left = PQsendQuery(database->connection, sql) == 1 ? PQflush(database->connection) : -1;
	free(sql);
	if (left < 0) {
		database_down(database, PQerrorMessage(database->connection));
		return;
	}
	database->deadline.fn = no_answer;
	deadline_arm(&database->deadline, now() + wait);
	database_watch(database, left == 1);
}

void database_setup_begin(struct database *database)
{
	// The settings are the server's to keep: it ends a statement before the client gives it up, and a transaction whose
	// client has gone soon after, so that what comes next does not wait for its lock.
	char *schema = PQescapeIdentifier(database->connection, database->schema, strlen(database->schema));
	char *sql =
	    format_text("SET statement_timeout = %lld; SET idle_in_transaction_session_timeout = %lld; SET search_path = %s;"
	                "SELECT current_setting('transaction_read_only'), CASE WHEN pg_is_in_recovery() THEN '' ELSE "
	                "pg_walfile_name(pg_current_wal_insert_lsn()) END",
	                (long long)database->timeout_ms, (long long)database->timeout_ms, schema);
	PQfreemem(schema);
	send_text(database, DATABASE_SETTING, sql, MILLISECONDS(database->timeout_ms) + database->hosts.deadline);
}

static void lock_and_look(struct database *database)
{
	char *schema = PQescapeIdentifier(database->connection, database->schema, strlen(database->schema));
	char *name = PQescapeLiteral(database->connection, database->schema, strlen(database->schema));
	char *sql = format_text("BEGIN; SET LOCAL statement_timeout = 0;"
	                        "SELECT pg_advisory_xact_lock(hashtextextended('twinspan.' || %s, 0));"
	                        "CREATE SCHEMA IF NOT EXISTS %s;"
	                        "CREATE TABLE IF NOT EXISTS %s.migration (name text PRIMARY KEY,"
	                        " applied_at timestamptz NOT NULL DEFAULT now(), breaking boolean NOT NULL DEFAULT false);"
	                        "ALTER TABLE %s.migration ADD COLUMN IF NOT EXISTS breaking boolean NOT NULL DEFAULT false;"
	                        "SELECT name, breaking FROM %s.migration ORDER BY name",
	                        name, schema, schema, schema, schema);
	PQfreemem(schema);
	PQfreemem(name);
	send_text(database, DATABASE_LOCKING, sql, MIGRATION_WAIT);
}

// A former primary that came back after another was promoted has lost writes that were acknowledged since.
static bool is_outdated(struct database *database)
{
	const char *file = PQgetvalue(database->told, 0, 1);
	char text[9] = "";
	strncat(text, file, 8);
	uint32_t timeline = (uint32_t)strtoul(text, NULL, 16);
	if (timeline == 0) {
		return false; // a standby: the string said that one will do
	}
	if (timeline < database->timeline) {
		return true;
	}
	database->timeline = timeline;
	return false;
}

static const struct migration *find_migration(const struct database *database, const char *name)
{
	for (size_t i = 0; i < database->migration_count; i++) {
		if (strcmp(database->migrations[i].name, name) == 0) {
			return &database->migrations[i];
		}
	}
	return NULL;
}

static bool is_applied(const struct database *database, const char *name)
{
	for (int i = 0; i < PQntuples(database->told); i++) {
		if (strcmp(PQgetvalue(database->told, i, 0), name) == 0) {
			return true;
		}
	}
	return false;
}

static void say_newer(struct database *database, const char *name, bool breaking)
{
	if (database->newer) {
		return; // it was said
	}
	database->newer =
	    format_text("a newer release of this service: the schema %s has its migration %s", database->schema, name);
	log_event(
	    breaking ? LOG_ERROR : LOG_WARNING, "schema-is-newer", "schema", database->schema, "migration", name, "effect",
	    breaking ? "this release cannot work with it: install the release that made it, or restore a backup from before it"
	             : "this release works with it and does not touch what it does not know",
	    NULL);
	if (breaking && database->health) {
		health_wait(database->health, database->newer, true);
	}
}

// Whether this release can work with what a newer one has left.
static bool is_understood(struct database *database)
{
	bool understood = true;
	for (int i = 0; i < PQntuples(database->told); i++) {
		const char *name = PQgetvalue(database->told, i, 0);
		bool breaking = strcmp(PQgetvalue(database->told, i, 1), "t") == 0;
		if (!find_migration(database, name)) {
			understood = understood && !breaking;
			say_newer(database, name, breaking);
		}
	}
	return understood;
}

static void apply(struct database *database)
{
	char *sql = duplicate_text("");
	for (size_t i = 0; i < database->migration_count; i++) {
		const struct migration *migration = &database->migrations[i];
		if (!is_applied(database, migration->name)) {
			char *more = format_text("%s%s;INSERT INTO migration (name, breaking) VALUES ('%s', %s);", sql,
			                         migration->sql, migration->name, migration->breaking ? "true" : "false");
			log_event(LOG_INFO, "migration", "schema", database->schema, "name", migration->name, NULL);
			free(sql);
			sql = more;
		}
	}
	char *whole = format_text("%sCOMMIT", sql);
	free(sql);
	send_text(database, DATABASE_MIGRATING, whole, MIGRATION_WAIT);
}

static void step_done(struct database *database)
{
	if (database->refused || (database->phase == DATABASE_MIGRATING && !database->committed)) {
		log_event(LOG_ERROR, database->phase == DATABASE_SETTING ? "session-refused" : "migration-failed", "schema",
		          database->schema, NULL);
		database_down(database, "the session could not be prepared");
		return;
	}
	switch (database->phase) {
	case DATABASE_SETTING:
		invariant(database->told);
		database->writable = strcmp(PQgetvalue(database->told, 0, 0), "off") == 0;
		if (is_outdated(database)) {
			database_down(database, "a former primary: its timeline is older than one that was seen");
			return;
		}
		lock_and_look(database);
		break;
	case DATABASE_LOCKING:
		invariant(database->told);
		if (!is_understood(database)) {
			database_down(database, "the schema is newer than this release");
			return;
		}
		apply(database);
		break;
	default:
		if (database->newer && database->health) {
			health_wait(database->health, database->newer, false);
		}
		database_setup_done(database);
		break;
	}
}

void database_setup_advance(struct database *database)
{
	int left = PQconsumeInput(database->connection) ? PQflush(database->connection) : -1;
	if (left < 0) {
		database_down(database, PQerrorMessage(database->connection));
		return;
	}
	database_watch(database, left == 1);
	while (database->phase < DATABASE_UP && database->connection && !PQisBusy(database->connection)) {
		PGresult *result = PQgetResult(database->connection);
		if (!result) {
			step_done(database);
			return;
		}
		ExecStatusType status = PQresultStatus(result);
		if (status == PGRES_TUPLES_OK) {
			PQclear(database->told);
			database->told = result;
			continue;
		}
		if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
			database->refused = true;
			database_log_refusal(result);
		}
		// The tag of the text's end: a transaction that failed is rolled back by COMMIT, and that "goes well".
		database->committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
		PQclear(result);
	}
}
