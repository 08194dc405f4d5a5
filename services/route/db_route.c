// PostgreSQL schema `route`: per shown row since when it is what it is, and the place of learned destinations in the queue for
// their quota. It is a memory for people and for a stable choice after a restart; nothing that forwards depends on it. So it is
// written behind, in batches, and while PostgreSQL is away what waits is one change for each row that there is (backlog.h).
//
// When the output tables are complete, and whenever removals could not be told, the stored rows are swept: page by page, what
// is no row any more is deleted.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/config.h"
#include "common/io/database.h"
#include "common/io/log.h"
#include "services/route/backlog.h"
#include "services/route/shell.h"

enum { BATCH_ROWS = 1000, PAGE_ROWS = 5000 };
#define FIRST_PAGE_WAIT SECONDS(1) // nobody waits longer for a database that does not answer
#define LOAD_WAIT SECONDS(5)       // nor for one that is slow
#define WRITE_AFTER MILLISECONDS(200)
#define AGAIN_AFTER SECONDS(1)

static const struct migration migrations[] = {
    // An earlier release made this table without a migration.
    {.name = "0001_rows",
     .sql = "CREATE TABLE IF NOT EXISTS route.row (key text PRIMARY KEY, state bigint NOT NULL, since bigint NOT NULL, place "
            "bigint NOT NULL, incarnation bigint NOT NULL)"},
};
// The pages are in the order of the key's octets, whatever the database's collation is.
static const char load_sql[] =
    "SELECT key, state, since, place FROM route.row WHERE key COLLATE \"C\" > $1 ORDER BY key COLLATE \"C\" LIMIT $2::int";
static const char page_sql[] =
    "SELECT key FROM route.row WHERE key COLLATE \"C\" > $1 ORDER BY key COLLATE \"C\" LIMIT $2::int";
static const char put_sql[] =
    "INSERT INTO route.row SELECT *, 0 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])"
    " ON CONFLICT (key) DO UPDATE SET state = excluded.state, since = excluded.since, place = excluded.place"
    " WHERE (row.state, row.since, row.place) IS DISTINCT FROM (excluded.state, excluded.since, excluded.place)";
static const char remove_sql[] = "DELETE FROM route.row WHERE key = ANY ($1::text[])";

struct store {
	struct service *service;
	struct database *database; // NULL: none is set
	loop_fn *loaded;           // NULL once it was called
	bool read;                 // all that was stored
	size_t remembered;
	struct backlog *backlog;
	bool busy;  // a piece of work is the database's
	char *page; // the last key of the page before; "" at first; NULL: no reading and no sweep is under way
	instant started;
	struct deadline write, give_up;
};

static void tell_loaded(void *context)
{
	struct store *store = context;
	loop_fn *loaded = store->loaded;
	store->loaded = NULL;
	deadline_disarm(&store->give_up);
	if (loaded) {
		log_event(LOG_INFO, "remembered", "rows", log_number((int64_t)store->remembered), "all",
		          store->read ? "yes" : "no", NULL);
		loaded(store->service);
	}
}

static void turn_page(struct store *store, const char *last)
{
	char *page = last ? duplicate_text(last) : NULL;
	free(store->page);
	store->page = page;
}

static void submit(struct store *store, const char *sql, const char *const *values, int count, database_fn *done)
{
	invariant(!store->busy);
	store->busy = true;
	struct database_work *work = database_work_new(store->database, DATABASE_PLAIN);
	database_work_add(work, sql, values, count, DATABASE_ANY_ROWS);
	database_submit(&work, done, store);
}

static void ask_page(struct store *store, const char *sql, size_t rows, database_fn *done)
{
	char limit[16];
	snprintf(limit, sizeof limit, "%zu", rows);
	submit(store, sql, (const char *[]){store->page, limit}, 2, done);
}

// ---- one batch as array literals ----
enum { COLUMNS = 4 };
struct text {
	char *start;
	size_t length;
	FILE *out;
};
struct batch { // it must not move: the streams write into it
	struct text columns[COLUMNS];
	bool removes;
	const char *comma;
};

static void batch_init(struct batch *batch)
{
	batch->comma = "";
	batch->removes = false;
	for (size_t i = 0; i < COLUMNS; i++) {
		struct text *text = &batch->columns[i];
		text->out = open_memstream(&text->start, &text->length);
		if (!text->out) {
			abort();
		}
		fputc('{', text->out);
	}
}

static void batch_end(struct batch *batch, const char *values[static COLUMNS])
{
	for (size_t i = 0; i < COLUMNS; i++) {
		fputc('}', batch->columns[i].out);
		fclose(batch->columns[i].out);
		values[i] = batch->columns[i].start;
	}
}

static void batch_fini(struct batch *batch)
{
	for (size_t i = 0; i < COLUMNS; i++) {
		free(batch->columns[i].start);
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

static void add_change(void *context, struct bytes key, const struct backlog_row *row)
{
	struct batch *batch = context;
	fputs(batch->comma, batch->columns[0].out);
	add_quoted(batch->columns[0].out, key);
	if (row) {
		fprintf(batch->columns[1].out, "%s%lld", batch->comma, (long long)row->state);
		fprintf(batch->columns[2].out, "%s%lld", batch->comma, (long long)row->since);
		fprintf(batch->columns[3].out, "%s%lld", batch->comma, (long long)row->order);
	} else {
		batch->removes = true;
	}
	batch->comma = ",";
}

static void next(struct store *store)
{
	deadline_arm(&store->write, now() + (backlog_count(store->backlog) >= BATCH_ROWS || store->page ? 0 : WRITE_AFTER));
}

static void on_written(void *context, struct database_answer *answer)
{
	struct store *store = context;
	store->busy = false;
	if (answer->outcome == DATABASE_DONE) {
		backlog_written(store->backlog);
		next(store);
	} else {
		backlog_lost(store->backlog);
		deadline_arm(&store->write, now() + AGAIN_AFTER);
	}
}

static void write_batch(struct store *store)
{
	struct batch batch;
	const char *values[COLUMNS];
	batch_init(&batch);
	size_t count = backlog_take(store->backlog, BATCH_ROWS, add_change, &batch);
	batch_end(&batch, values);
	invariant(count > 0);
	if (batch.removes) {
		submit(store, remove_sql, values, 1, on_written);
	} else {
		submit(store, put_sql, values, COLUMNS, on_written);
	}
	batch_fini(&batch);
}

// ---- the sweep ----
static void on_page(void *context, struct database_answer *answer)
{
	struct store *store = context;
	store->busy = false;
	if (answer->outcome != DATABASE_DONE) {
		turn_page(store, NULL);
		backlog_sweep_fails(store->backlog);
		deadline_arm(&store->write, now() + AGAIN_AFTER);
		return;
	}
	const PGresult *rows = answer->results[0];
	int count = PQntuples(rows);
	for (int i = 0; i < count; i++) {
		if (!route_bus_has(store->service->bus, PQgetvalue(rows, i, 0))) {
			backlog_remove(store->backlog, PQgetvalue(rows, i, 0), true);
		}
	}
	turn_page(store, count == BATCH_ROWS ? PQgetvalue(rows, count - 1, 0) : NULL);
	next(store);
}

static void write_next(void *context)
{
	struct store *store = context;
	if (store->busy || !database_is_up(store->database) || !store->read) {
		return; // what ends that comes back here
	}
	if (backlog_count(store->backlog) > 0) {
		write_batch(store);
		return;
	}
	if (!store->page && backlog_wants_sweep(store->backlog) && route_bus_complete(store->service->bus)) {
		backlog_sweep_begins(store->backlog);
		turn_page(store, "");
	}
	if (store->page) {
		ask_page(store, page_sql, BATCH_ROWS, on_page);
	} else if (backlog_wants_sweep(store->backlog)) {
		deadline_arm(&store->write, now() + AGAIN_AFTER); // not complete yet
	}
}

// ---- reading what was stored ----
static void on_rows(void *context, struct database_answer *answer);

static void load_next(struct store *store)
{
	ask_page(store, load_sql, PAGE_ROWS, on_rows);
}

static void read_all(struct store *store)
{
	turn_page(store, NULL);
	store->read = true;
	tell_loaded(store);
	next(store);
}

static void on_rows(void *context, struct database_answer *answer)
{
	struct store *store = context;
	store->busy = false;
	if (answer->outcome != DATABASE_DONE) {
		deadline_arm(&store->give_up, now());
		return; // the connection's return reads on from there
	}
	const PGresult *rows = answer->results[0];
	int count = PQntuples(rows);
	for (int i = 0; i < count && store->loaded; i++) {
		route_remember(
		    store->service->route, PQgetvalue(rows, i, 0), (uint64_t)strtoll(PQgetvalue(rows, i, 1), NULL, 10),
		    (uint64_t)strtoll(PQgetvalue(rows, i, 2), NULL, 10), (uint64_t)strtoll(PQgetvalue(rows, i, 3), NULL, 10));
		store->remembered++;
	}
	if (count < PAGE_ROWS || !store->loaded) { // the end, or nobody waits for the rest
		read_all(store);
		return;
	}
	turn_page(store, PQgetvalue(rows, count - 1, 0));
	deadline_arm(&store->give_up, store->started + LOAD_WAIT);
	load_next(store);
}

static void up(void *context)
{
	struct store *store = context;
	if (store->loaded) {
		load_next(store);
	} else {
		read_all(store);
	}
}

// ---- the service's side ----
void store_put(struct store *store, const char *key, bool removed, uint64_t state, uint64_t since, uint64_t order)
{
	if (!store->database) {
		return;
	}
	if (removed) {
		backlog_remove(store->backlog, key, database_is_up(store->database));
	} else {
		backlog_put(store->backlog, key, &(struct backlog_row){state, since, order});
	}
	if (!deadline_armed(&store->write) && database_is_up(store->database)) {
		deadline_arm(&store->write, now() + WRITE_AFTER);
	}
}

size_t store_pending(const struct store *store)
{
	return backlog_count(store->backlog);
}

bool store_is_up(const struct store *store)
{
	return store->database && database_is_up(store->database);
}

struct store *store_new(struct service *service, loop_fn *loaded)
{
	struct store *store = allocate(sizeof *store);
	store->service = service;
	store->loaded = loaded;
	store->started = now();
	store->backlog = backlog_new();
	deadline_init(&store->write, service->loop, write_next, store);
	deadline_init(&store->give_up, service->loop, tell_loaded, store);
	if (config_text("TWINSPAN_DATABASE", "")[0] == '\0') {
		log_event(LOG_WARNING, "no-database", "effect", "the age of routes starts anew with each start", NULL);
		deadline_arm(&store->give_up, now());
		return store;
	}
	turn_page(store, "");
	// Routes do not need it: its absence does not make the service less ready.
	store->database =
	    database_new(service->loop, NULL, "route", migrations, sizeof migrations / sizeof migrations[0], up, store);
	deadline_arm(&store->give_up, now() + FIRST_PAGE_WAIT);
	return store;
}

void store_free(struct store **store_at)
{
	struct store *store = *store_at;
	if (!store) {
		return;
	}
	deadline_disarm(&store->write);
	deadline_disarm(&store->give_up);
	database_free(&store->database);
	backlog_free(&store->backlog);
	free(store->page);
	free(store);
	*store_at = NULL;
}
