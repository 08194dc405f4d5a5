// PostgreSQL for a service that keeps turning when it is away (database.h). Connecting is a conversation on the loop; a
// statement is waited for, but never longer than the timeout: a server that does not answer in that time counts as gone, and
// the connection is made anew.
#include "common/io/database.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/config.h"
#include "common/io/database_statement.h"
#include "common/io/log.h"

enum {
	CONNECT_MS = 3000,
	BACKOFF_MS = 100, // doubles until
	BACKOFF_MOST_MS = 5000,
};

// ---- coming and going ----

static void connect_start(void *context);

static void forget_socket(struct database *database)
{
	if (database->socket >= 0) {
		loop_read_end(database->loop, database->socket);
		loop_write_end(database->loop, database->socket);
		database->socket = -1;
	}
}

void database_down(struct database *database, const char *why)
{
	forget_socket(database);
	log_limited(LOG_WARNING, database->up ? "database-lost" : "database-away", "reason", why, NULL);
	if (database->health) {
		health_wait(database->health, "database", true);
	}
	PQfinish(database->connection);
	database->connection = NULL;
	database->up = false;
	database->failed = database->in_transaction; // what was begun on it is undone
	map_free(&database->prepared, free);
	duration wait = MILLISECONDS(BACKOFF_MS << database->attempts);
	database->attempts += wait < MILLISECONDS(BACKOFF_MOST_MS);
	wait = wait < MILLISECONDS(BACKOFF_MOST_MS) ? wait : MILLISECONDS(BACKOFF_MOST_MS);
	deadline_disarm(&database->deadline);
	database->deadline.fn = connect_start;
	deadline_arm(&database->deadline, now() + wait);
}

// The server speaks unasked: a notice, or its end.
static void on_readable(void *context)
{
	struct database *database = context;
	if (!PQconsumeInput(database->connection) || PQstatus(database->connection) == CONNECTION_BAD) {
		database_down(database, "the connection was closed");
	}
}

static bool run(struct database *database, const char *sql)
{
	PGresult *result = database_run(database, sql, NULL);
	PQclear(result);
	return result != NULL;
}

// What a session needs before anything else. The settings are the server's to keep: it ends a statement before the client gives
// it up.
static bool set_session(struct database *database)
{
	char *schema = PQescapeIdentifier(database->connection, database->schema, strlen(database->schema));
	char *sql =
	    format_text("SET statement_timeout = %lld; SET idle_in_transaction_session_timeout = 10000; SET search_path = %s",
	                (long long)database->timeout_ms, schema);
	PQfreemem(schema);
	bool set = run(database, sql);
	free(sql);
	return set;
}

static void connected(struct database *database)
{
	deadline_disarm(&database->deadline);
	forget_socket(database);
	PQsetnonblocking(database->connection, 1);
	database->prepared = map_new(NULL);
	database->up = true;
	if (!set_session(database) || (!database->migrated && !database_migrate(database))) {
		if (database->connection) {
			database_down(database, "the session could not be prepared");
		}
		return;
	}
	database->migrated = true;
	database->attempts = 0;
	database->socket = PQsocket(database->connection);
	loop_read(database->loop, database->socket, on_readable, database);
	log_event(LOG_INFO, "database-up", "host", PQhost(database->connection), NULL);
	if (database->health) {
		health_wait(database->health, "database", false);
	}
	if (database->on_up) {
		database->on_up(database->context);
	}
}

static void connect_step(void *context)
{
	struct database *database = context;
	PostgresPollingStatusType status = PQconnectPoll(database->connection);
	forget_socket(database); // it may be another one after each step
	switch (status) {
	case PGRES_POLLING_OK:
		connected(database);
		return;
	case PGRES_POLLING_READING:
		database->socket = PQsocket(database->connection);
		loop_read(database->loop, database->socket, connect_step, database);
		return;
	case PGRES_POLLING_WRITING:
		database->socket = PQsocket(database->connection);
		loop_write(database->loop, database->socket, connect_step, database);
		return;
	default:
		database_down(database, PQerrorMessage(database->connection));
	}
}

static void connect_timed_out(void *context)
{
	database_down(context, "no connection in time");
}

static void on_notice(void *context, const PGresult *result)
{
	(void)context;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	log_limited(LOG_DEBUG, "database-notice", "sqlstate", state, NULL);
}

static void connect_start(void *context)
{
	struct database *database = context;
	char password[SECRET_CAPACITY + 1];
	struct bytes secret = secret_bytes(&database->password);
	memcpy(password, secret.data, secret.length);
	password[secret.length] = '\0';
	// What stands before the connection string is a default that it may overrule.
	const char *keywords[] = {"target_session_attrs",
	                          "tcp_user_timeout",
	                          "fallback_application_name",
	                          "dbname",
	                          secret.length ? "password" : NULL,
	                          NULL};
	const char *values[] = {"read-write", "10000", database->schema, database->where, password, NULL};
	database->connection = PQconnectStartParams(keywords, values, 1);
	wipe(password, sizeof password);
	if (!database->connection || PQstatus(database->connection) == CONNECTION_BAD) {
		database_down(database, database->connection ? PQerrorMessage(database->connection) : "no memory");
		return;
	}
	PQsetNoticeReceiver(database->connection, on_notice, database);
	database->socket = PQsocket(database->connection);
	loop_write(database->loop, database->socket, connect_step, database);
	database->deadline.fn = connect_timed_out;
	deadline_arm(&database->deadline, now() + MILLISECONDS(CONNECT_MS));
}

// ---- life ----

struct database *database_new(struct loop *loop, struct health *health, const char *schema, const struct migration *migrations,
                              size_t count, loop_fn *up, void *context)
{
	struct database *database = allocate(sizeof *database);
	*database = (struct database){.loop = loop,
	                              .health = health,
	                              .schema = schema,
	                              .migrations = migrations,
	                              .migration_count = count,
	                              .on_up = up,
	                              .context = context,
	                              .socket = -1};
	database->where = config_text("TWINSPAN_DATABASE", NULL);
	database->timeout_ms = config_number("TWINSPAN_DATABASE_TIMEOUT", 3000, 100, 60000);
	if (config_text("TWINSPAN_DATABASE_PASSWORD_FILE", "")[0]) {
		uint8_t octets[SECRET_CAPACITY];
		size_t length = config_secret_file("TWINSPAN_DATABASE_PASSWORD_FILE", octets, sizeof octets);
		secret_set(&database->password, (struct bytes){octets, length});
		wipe(octets, sizeof octets);
	}
	if (health) {
		health_wait(health, "database", true);
	}
	deadline_init(&database->deadline, loop, connect_start, database);
	deadline_arm(&database->deadline, now());
	return database;
}

void database_free(struct database **database_at)
{
	struct database *database = *database_at;
	if (!database) {
		return;
	}
	deadline_disarm(&database->deadline);
	forget_socket(database);
	PQfinish(database->connection);
	map_free(&database->prepared, free);
	secret_wipe(&database->password);
	free(database);
	*database_at = NULL;
}

bool database_is_up(const struct database *database)
{
	return database->up;
}
