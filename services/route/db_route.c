// PostgreSQL schema `route`: per shown row since when it is what it is, and the place of learned destinations in the queue for
// their quota. It is a memory for people and for a stable choice after a restart; nothing that forwards depends on it. So it is
// written behind, without ever waiting: libpq's non-blocking calls on the service's own loop, one batch at a time, and while
// PostgreSQL is away the changes of one row fold into one. (Give the server in TWINSPAN_DATABASE as a socket directory or an
// address: libpq looks host names up synchronously.)
//
// Each incarnation marks the rows it writes; when all of its own are written, what only an earlier one knew is deleted.
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/io/config.h"
#include "common/io/log.h"
#include "services/route/shell.h"

enum { BATCH_ROWS = 1000 };
#define LOAD_WAIT SECONDS(1)
#define RECONNECT_AFTER SECONDS(1)
#define ANSWER_WAIT SECONDS(30)
#define WRITE_AFTER MILLISECONDS(200)

static const char prepare_sql[] =
    "BEGIN; SELECT pg_advisory_xact_lock(hashtext('twinspan route')); CREATE SCHEMA IF NOT EXISTS route;"
    "CREATE TABLE IF NOT EXISTS route.row (key text PRIMARY KEY, state bigint NOT NULL, since bigint NOT NULL, place bigint "
    "NOT NULL,"
    " incarnation bigint NOT NULL); COMMIT";
static const char load_sql[] = "SELECT key, state, since, place FROM route.row";
static const char put_sql[] =
    "INSERT INTO route.row SELECT *, $5::bigint FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])"
    " ON CONFLICT (key) DO UPDATE SET state = excluded.state, since = excluded.since, place = excluded.place,"
    " incarnation = excluded.incarnation";
static const char remove_sql[] = "DELETE FROM route.row WHERE key = ANY ($1::text[])";
static const char forget_sql[] = "DELETE FROM route.row WHERE incarnation < $1::bigint";

enum phase {
	PHASE_AWAY,
	PHASE_CONNECTING,
	PHASE_PREPARING,
	PHASE_LOADING,
	PHASE_IDLE,
	PHASE_PUTTING,
	PHASE_REMOVING,
	PHASE_FORGETTING
};

struct change {
	bool removed;
	uint64_t state, since, order;
};
struct store {
	struct service *service;
	loop_fn *loaded; // NULL once it was called
	const char *database;
	char password[256];
	PGconn *connection;
	int socket;
	enum phase phase;
	struct map *changes; // row key -> struct change, not yet written
	struct map *flying;  // those of the batch under way
	uint64_t incarnation;
	bool forgotten; // earlier incarnations' rows are gone
	bool failing;   // it was said in the log
	struct deadline retry, write, answer, give_up;
};

static void advance(void *context);

static void tell_loaded(void *context)
{
	struct store *store = context;
	loop_fn *loaded = store->loaded;
	store->loaded = NULL;
	deadline_disarm(&store->give_up);
	if (loaded) {
		loaded(store->service);
	}
}

static void unwatch(struct store *store)
{
	if (store->socket >= 0) {
		loop_read_end(store->service->loop, store->socket);
		loop_write_end(store->service->loop, store->socket);
		store->socket = -1;
	}
}

// What the batch under way held is to be written again, unless it changed since.
static void take_back(struct store *store)
{
	struct map_cursor cursor = {0};
	while (map_next(store->flying, &cursor)) {
		if (map_find(store->changes, cursor.key)) {
			free(cursor.value);
		} else {
			map_insert(store->changes, cursor.key, cursor.value);
		}
	}
	map_free(&store->flying, NULL);
	store->flying = map_new(NULL);
}

static void fail(struct store *store, const char *reason)
{
	if (!store->failing) {
		char *first_line = format_text("%.*s", (int)strcspn(reason, "\n"), reason);
		log_event(LOG_WARNING, "database-away", "reason", first_line, NULL);
		free(first_line);
		store->failing = true;
	}
	unwatch(store);
	deadline_disarm(&store->answer);
	PQfinish(store->connection);
	store->connection = NULL;
	store->phase = PHASE_AWAY;
	take_back(store);
	deadline_arm(&store->retry, now() + RECONNECT_AFTER);
	tell_loaded(store);
}

static void no_answer(void *context)
{
	fail(context, "no answer");
}

static void watch(struct store *store, bool write)
{
	int socket = PQsocket(store->connection);
	if (socket != store->socket) {
		unwatch(store);
		store->socket = socket;
		loop_read(store->service->loop, socket, advance, store);
	}
	if (write) {
		loop_write(store->service->loop, socket, advance, store);
	} else {
		loop_write_end(store->service->loop, socket);
	}
}

static void connect_now(void *context)
{
	struct store *store = context;
	const char *keywords[] = {"dbname", "password", "application_name", NULL};
	const char *values[] = {store->database, store->password[0] ? store->password : NULL, "twinspan-route", NULL};
	store->connection = PQconnectStartParams(keywords, values, 1);
	if (PQstatus(store->connection) == CONNECTION_BAD) {
		fail(store, PQerrorMessage(store->connection));
		return;
	}
	store->phase = PHASE_CONNECTING;
	deadline_arm(&store->answer, now() + ANSWER_WAIT);
	watch(store, true);
}

// ---- one batch as array literals ----
struct text { // it must not move: the stream writes into it
	char *start;
	size_t length;
	FILE *out;
};

static void text_init(struct text *text)
{
	text->out = open_memstream(&text->start, &text->length);
	if (!text->out) {
		abort();
	}
}

static void add_quoted(FILE *out, struct bytes key)
{
	fputc('"', out);
	for (size_t i = 0; i < key.length; i++) {
		if (key.data[i] == '"' || key.data[i] == '\\') {
			fputc('\\', out);
		}
		fputc(key.data[i], out);
	}
	fputc('"', out);
}

static void issue(struct store *store, enum phase phase, const char *sql, const char *const *values, int count)
{
	if (!PQsendQueryParams(store->connection, sql, count, NULL, values, NULL, NULL, 0)) {
		fail(store, PQerrorMessage(store->connection));
		return;
	}
	store->phase = phase;
	deadline_arm(&store->answer, now() + ANSWER_WAIT);
	watch(store, PQflush(store->connection) == 1);
}

// Moves up to a batch of changes of one sort into the air.
static void write_batch(struct store *store, bool removed)
{
	enum { COLUMNS = 4 };
	struct text columns[COLUMNS];
	for (size_t i = 0; i < COLUMNS; i++) {
		text_init(&columns[i]);
		fputc('{', columns[i].out);
	}
	size_t count = 0;
	struct map_cursor cursor = {0};
	while (count < BATCH_ROWS && map_next(store->changes, &cursor)) {
		struct change *change = cursor.value;
		if (change->removed != removed) {
			continue;
		}
		const char *comma = count++ > 0 ? "," : "";
		fputs(comma, columns[0].out);
		add_quoted(columns[0].out, cursor.key);
		fprintf(columns[1].out, "%s%lld", comma, (long long)change->state);
		fprintf(columns[2].out, "%s%lld", comma, (long long)change->since);
		fprintf(columns[3].out, "%s%lld", comma, (long long)change->order);
		map_insert(store->flying, cursor.key, change);
		map_remove(store->changes, cursor.key);
	}
	char incarnation[24];
	snprintf(incarnation, sizeof incarnation, "%llu", (unsigned long long)store->incarnation);
	const char *values[COLUMNS + 1];
	for (size_t i = 0; i < COLUMNS; i++) {
		fputc('}', columns[i].out);
		fclose(columns[i].out);
		values[i] = columns[i].start;
	}
	values[COLUMNS] = incarnation;
	if (removed) {
		issue(store, PHASE_REMOVING, remove_sql, values, 1);
	} else {
		issue(store, PHASE_PUTTING, put_sql, values, COLUMNS + 1);
	}
	for (size_t i = 0; i < COLUMNS; i++) {
		free(columns[i].start);
	}
}

static void write_next(void *context)
{
	struct store *store = context;
	if (store->phase != PHASE_IDLE) {
		return;
	}
	struct map_cursor cursor = {0};
	if (map_next(store->changes, &cursor)) {
		write_batch(store, ((struct change *)cursor.value)->removed);
		return;
	}
	if (!store->forgotten && route_bus_complete(store->service->bus)) {
		char incarnation[24];
		snprintf(incarnation, sizeof incarnation, "%llu", (unsigned long long)store->incarnation);
		const char *values[] = {incarnation};
		issue(store, PHASE_FORGETTING, forget_sql, values, 1);
	}
}

static void remember(struct store *store, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++) {
		route_remember(store->service->route, PQgetvalue(result, i, 0),
		               (uint64_t)strtoll(PQgetvalue(result, i, 1), NULL, 10),
		               (uint64_t)strtoll(PQgetvalue(result, i, 2), NULL, 10),
		               (uint64_t)strtoll(PQgetvalue(result, i, 3), NULL, 10));
	}
	log_event(LOG_INFO, "remembered", "rows", log_number(PQntuples(result)), NULL);
}

// A statement has come to its end: what is next?
static void finished(struct store *store)
{
	deadline_disarm(&store->answer);
	switch (store->phase) {
	case PHASE_PREPARING:
		if (store->loaded) {
			issue(store, PHASE_LOADING, load_sql, NULL, 0);
			return;
		}
		break;
	case PHASE_LOADING:
		tell_loaded(store);
		break;
	case PHASE_FORGETTING:
		store->forgotten = true;
		break;
	default:
		map_free(&store->flying, free);
		store->flying = map_new(NULL);
		break;
	}
	store->phase = PHASE_IDLE;
	watch(store, false);
	deadline_arm(&store->write, now() + (map_count(store->changes) >= BATCH_ROWS ? 0 : WRITE_AFTER));
}

static void advance_connecting(struct store *store)
{
	switch (PQconnectPoll(store->connection)) {
	case PGRES_POLLING_READING:
		watch(store, false);
		return;
	case PGRES_POLLING_WRITING:
		watch(store, true);
		return;
	case PGRES_POLLING_OK:
		break;
	default:
		fail(store, PQerrorMessage(store->connection));
		return;
	}
	if (store->failing) {
		log_event(LOG_INFO, "database-back", NULL);
		store->failing = false;
	}
	PQsetnonblocking(store->connection, 1);
	// Several statements at once are possible only without parameters.
	if (!PQsendQuery(store->connection, prepare_sql)) {
		fail(store, PQerrorMessage(store->connection));
		return;
	}
	store->phase = PHASE_PREPARING;
	watch(store, PQflush(store->connection) == 1);
}

static void advance(void *context)
{
	struct store *store = context;
	if (store->phase == PHASE_CONNECTING) {
		advance_connecting(store);
		return;
	}
	int left = PQflush(store->connection);
	if (left < 0 || !PQconsumeInput(store->connection)) {
		fail(store, PQerrorMessage(store->connection));
		return;
	}
	watch(store, left == 1);
	while (!PQisBusy(store->connection)) {
		PGresult *result = PQgetResult(store->connection);
		if (!result) {
			if (store->phase != PHASE_IDLE) {
				finished(store);
			}
			return;
		}
		ExecStatusType status = PQresultStatus(result);
		bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
		if (good && store->phase == PHASE_LOADING && store->loaded) {
			remember(store, result);
		}
		if (!good) {
			fail(store, PQresultErrorMessage(result));
			PQclear(result);
			return;
		}
		PQclear(result);
	}
}

void store_put(struct store *store, const char *key, bool removed, uint64_t state, uint64_t since, uint64_t order)
{
	if (!store->database) {
		return;
	}
	struct change *change = map_find_text(store->changes, key);
	if (!change) {
		change = allocate(sizeof *change);
		map_insert_text(store->changes, key, change);
	}
	*change = (struct change){removed, state, since, order};
	if (store->phase == PHASE_IDLE && !deadline_armed(&store->write)) {
		deadline_arm(&store->write, now() + WRITE_AFTER);
	}
}

size_t store_pending(const struct store *store)
{
	return map_count(store->changes) + map_count(store->flying);
}

bool store_is_up(const struct store *store)
{
	return store->phase >= PHASE_IDLE;
}

struct store *store_new(struct service *service, loop_fn *loaded)
{
	struct store *store = allocate(sizeof *store);
	store->service = service;
	store->loaded = loaded;
	store->socket = -1;
	store->incarnation = wall_clock();
	store->changes = map_new(NULL);
	store->flying = map_new(NULL);
	deadline_init(&store->retry, service->loop, connect_now, store);
	deadline_init(&store->write, service->loop, write_next, store);
	deadline_init(&store->answer, service->loop, no_answer, store);
	deadline_init(&store->give_up, service->loop, tell_loaded, store);
	const char *database = config_text("TWINSPAN_DATABASE", "");
	if (config_text("TWINSPAN_DATABASE_PASSWORD_FILE", "")[0] != '\0') {
		config_secret_file("TWINSPAN_DATABASE_PASSWORD_FILE", (uint8_t *)store->password, sizeof store->password - 1);
	}
	if (database[0] == '\0') {
		log_event(LOG_WARNING, "no-database", "effect", "the age of routes starts anew with each start", NULL);
		deadline_arm(&store->give_up, now());
		return store;
	}
	store->database = database;
	deadline_arm(&store->give_up, now() + LOAD_WAIT);
	deadline_arm(&store->retry, now());
	return store;
}

void store_free(struct store **store)
{
	struct store *s = *store;
	if (!s) {
		return;
	}
	unwatch(s);
	deadline_disarm(&s->retry);
	deadline_disarm(&s->write);
	deadline_disarm(&s->answer);
	deadline_disarm(&s->give_up);
	PQfinish(s->connection);
	wipe(s->password, sizeof s->password);
	map_free(&s->changes, free);
	map_free(&s->flying, free);
	free(s);
	*store = NULL;
}
