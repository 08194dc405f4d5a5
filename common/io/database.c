// The connection of database.h: which host is tried when, and what happens when it ends. Making it is a conversation on the
// loop: look the name up, connect, set the session up (database_migration.c), then work (database_work.c).
#include "common/io/database.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/config.h"
#include "common/io/database_private.h"
#include "common/io/log.h"

enum {
	BACKOFF_MS = 100, // after a round in which no host took us; doubles until
	BACKOFF_MOST_MS = 2000,
};

static void visit(void *context);
static void attempt(void *context);

static void wait_until(struct database *database, loop_fn *fn, instant at)
{
	database->deadline.fn = fn;
	deadline_arm(&database->deadline, at);
}

static struct database_host *host_of(struct database *database)
{
	invariant(database->host < database->hosts.count);
	return &database->hosts.hosts[database->host];
}

// ---- the socket ----

static void forget_socket(struct database *database)
{
	if (database->socket >= 0) {
		loop_read_end(database->loop, database->socket);
		loop_write_end(database->loop, database->socket);
		database->socket = -1;
		database->writing = false;
	}
}

static void connect_step(struct database *database);

static void on_ready(void *context)
{
	struct database *database = context;
	switch (database->phase) {
	case DATABASE_CONNECTING:
		connect_step(database);
		break;
	case DATABASE_SETTING:
	case DATABASE_LOCKING:
	case DATABASE_MIGRATING:
		database_setup_advance(database);
		break;
	case DATABASE_UP:
		database_work_advance(database);
		break;
	default:
		invariant(!database->connection);
	}
}

void database_watch(struct database *database, bool write)
{
	if (database->socket < 0) {
		database->socket = PQsocket(database->connection);
		loop_read(database->loop, database->socket, on_ready, database);
	}
	invariant(database->socket == PQsocket(database->connection));
	if (write != database->writing) {
		if (write) {
			loop_write(database->loop, database->socket, on_ready, database);
		} else {
			loop_write_end(database->loop, database->socket);
		}
		database->writing = write;
	}
}

// ---- going ----

static void next_host(struct database *database)
{
	database->host = (database->host + 1) % database->hosts.count;
	database->attempt = 0;
	if (++database->tried < database->hosts.count) {
		wait_until(database, visit, now());
		return;
	}
	database->tried = 0;
	duration pause = MILLISECONDS(BACKOFF_MS << database->rounds);
	database->rounds += pause < MILLISECONDS(BACKOFF_MOST_MS);
	wait_until(database, visit, now() + (pause < MILLISECONDS(BACKOFF_MOST_MS) ? pause : MILLISECONDS(BACKOFF_MOST_MS)));
}

static void close_connection(struct database *database)
{
	forget_socket(database);
	PQfinish(database->connection);
	database->connection = NULL;
	PQclear(database->told);
	database->told = NULL;
	map_free(&database->prepared, free);
	deadline_disarm(&database->probe);
	database->phase = DATABASE_WAITING;
}

void database_down(struct database *database, const char *why)
{
	bool was_up = database->phase == DATABASE_UP;
	char *reason = format_text("%.*s", (int)strcspn(why, "\n"), why);
	log_limited(LOG_WARNING, was_up ? "database-lost" : "database-away", "host", host_of(database)->name, "reason", reason,
	            NULL);
	free(reason);
	close_connection(database);
	if (database->health) {
		health_wait(database->health, "database", true);
	}
	if (was_up && database->proven) { // it did serve us: the next one is asked at once
		database->rounds = 0;
		database->tried = 0;
		database->attempt = 0;
		database->host = (database->host + 1) % database->hosts.count;
		wait_until(database, visit, now());
	} else if (++database->attempt < database_host_attempts(host_of(database))) {
		wait_until(database, attempt, now());
	} else {
		next_host(database);
	}
	database->proven = false;
	database_work_fail_all(database);
}

// ---- coming ----

static void connect_step(struct database *database)
{
	PostgresPollingStatusType status = PQconnectPoll(database->connection);
	forget_socket(database); // it may be another one after each step
	switch (status) {
	case PGRES_POLLING_OK:
		PQsetnonblocking(database->connection, 1);
		database_setup_begin(database);
		return;
	case PGRES_POLLING_READING:
		database_watch(database, false);
		return;
	case PGRES_POLLING_WRITING:
		database_watch(database, true);
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
	struct database *database = context;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	log_limited(LOG_DEBUG, "database-notice", "severity", severity, "sqlstate",
	            PQresultErrorField(result, PG_DIAG_SQLSTATE), NULL);
	if (severity && strcmp(severity, "WARNING") == 0) {
		database_work_warned(database);
	}
}

static void attempt(void *context)
{
	struct database *database = context;
	if (database->attempt >= database_host_attempts(host_of(database))) {
		next_host(database);
		return;
	}
	database->connection =
	    database_host_connect(&database->hosts, database->host, database->attempt, database->schema, &database->password);
	if (!database->connection) {
		abort(); // no memory
	}
	database->phase = DATABASE_CONNECTING;
	if (PQstatus(database->connection) == CONNECTION_BAD) {
		database_down(database, PQerrorMessage(database->connection));
		return;
	}
	PQsetNoticeReceiver(database->connection, on_notice, database);
	database_watch(database, true);
	wait_until(database, connect_timed_out, now() + database->hosts.deadline);
}

// The host's name is known, or will not be in time: what the last answer said is still worth trying.
static void looked_up(void *context)
{
	struct database *database = context;
	database->phase = DATABASE_WAITING;
	attempt(database);
}

static void on_lookup(void *context, char *const *addresses, size_t count, const char *error)
{
	struct database_host *host = context;
	struct database *database = host->database;
	if (count > 0) {
		database_host_set(host, addresses, count);
	} else {
		log_limited(LOG_WARNING, "database-name", "host", host->name, "error", error, NULL);
	}
	resolve_end(&host->lookup);
	if (database->phase == DATABASE_LOOKING_UP && host == host_of(database)) {
		wait_until(database, looked_up, now());
	}
}

static void visit(void *context)
{
	struct database *database = context;
	struct database_host *host = host_of(database);
	database->attempt = 0;
	if (!database_host_is_name(host)) {
		attempt(database);
		return;
	}
	database->phase = DATABASE_LOOKING_UP;
	wait_until(database, looked_up, now() + database->hosts.deadline);
	if (!host->lookup) { // else an earlier one still runs: no second thread for it
		host->lookup = resolve_start(database->loop, host->name, on_lookup, host);
	}
}

void database_setup_done(struct database *database)
{
	if (PQenterPipelineMode(database->connection) != 1) {
		database_down(database, PQerrorMessage(database->connection));
		return;
	}
	deadline_disarm(&database->deadline);
	database->phase = DATABASE_UP;
	database->prepared = map_new(NULL);
	database->names = 0;
	log_event(LOG_INFO, "database-up", "host", PQhost(database->connection), NULL);
	if (database->health) {
		health_wait(database->health, "database", false);
	}
	database_work_begin(database);
	if (database->on_up) {
		database->on_up(database->context);
	}
}

// ---- life ----

static void __attribute__((noreturn)) refuse(const char *why)
{
	log_event(LOG_ERROR, "bad-setting", "name", "TWINSPAN_DATABASE", "why", why, NULL);
	exit(2);
}

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
	database->last = &database->first;
	char *error = NULL;
	if (!database_hosts_parse(&database->hosts, config_text("TWINSPAN_DATABASE", NULL), &error)) {
		refuse(error ? error : "is a connection string of at most 16 hosts, with as many ports or one");
	}
	for (size_t i = 0; i < database->hosts.count; i++) {
		database->hosts.hosts[i].database = database;
	}
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
	deadline_init(&database->deadline, loop, visit, database);
	database_work_init(database);
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
	close_connection(database);
	database_work_drop_all(database);
	database_hosts_free(&database->hosts);
	secret_wipe(&database->password);
	free(database->newer);
	free(database);
	*database_at = NULL;
}

bool database_is_up(const struct database *database)
{
	return database->phase == DATABASE_UP;
}
