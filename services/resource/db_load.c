// Reading all rows: at the start, when the connection is back, and whenever memory may differ from the database. They are read
// under the lock that every write holds until its outcome is decided, so a commit that was never answered is in them or never
// will be. They are parsed in portions, so that the loop goes on turning; what differs is taken over at once at the end, so
// that nobody sees a mixture. (At the very start nobody looks yet, and each portion is taken over as it comes.)
//
// A row that is not understood, or a key that does not open, harms nobody else: it is noted, said, and stays in the database as
// it is. Should memory hold an earlier state of the row, that stays in use.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include "services/resource/db_row.h"
#include "services/resource/db_store.h"

enum { PORTION = 200 };

struct load {
	struct store *store;
	bool abandoned; // its answer is still to come
	enum { LOAD_ASKED, LOAD_OBJECTS, LOAD_KEYS } phase;
	PGresult *objects, *keys, *tokens;
	int at; // in the result of the phase
	struct deadline turn;
	struct map *seen; // "kind/id"
	size_t count, capacity;
	struct record **rows; // that differ from memory's
	struct map *unknown, *unusable;
	size_t closed_keys;   // sealed keys that do not open
	struct reseal reseal; // those that an earlier key opened
};

static void unusable_free(void *at)
{
	struct unusable *unusable = at;
	free(unusable->why);
	free(unusable->tenant);
	free(unusable);
}

static void json_free(void *at)
{
	json_decref(at);
}

void store_rows_free(struct map **unknown, struct map **unusable)
{
	map_free(unknown, json_free);
	map_free(unusable, unusable_free);
}

static void load_free(struct load *load)
{
	deadline_disarm(&load->turn);
	PQclear(load->objects);
	PQclear(load->keys);
	PQclear(load->tokens);
	map_free(&load->seen, NULL);
	for (size_t i = 0; i < load->count; i++) {
		record_free(&load->rows[i]);
	}
	free(load->rows);
	store_rows_free(&load->unknown, &load->unusable);
	reseal_fini(&load->reseal);
	free(load);
}

static void note_unusable(struct load *load, const char *kind, const char *id, const char *tenant, const char *why)
{
	char *key = format_text("%s/%s", kind, id);
	struct unusable *unusable = allocate(sizeof *unusable);
	*unusable = (struct unusable){duplicate_text(why), duplicate_text(tenant)};
	if (!map_find_text(load->store->unusable, key)) { // else it was said before
		log_event(LOG_ERROR, "row-unusable", kind, id, "why", why, "effect",
		          "it stays in the database as it is, and nothing is published of it", NULL);
	}
	struct unusable *before = map_insert_text(load->unusable, key, unusable);
	if (before) {
		unusable_free(before);
	}
	free(key);
}

// ---- rows ----
static void take_over(struct service *service, struct record *row)
{
	enum resource_kind kind = record_kind(row);
	resource_load(service->resource, row);
	const char *id = record_text(row, "id");
	resource_bus_row(service->bus, kind, id, resource_find(service->resource, kind, id));
}

static void read_row(struct load *load, int i)
{
	struct service *service = load->store->service;
	const char *kind_name = PQgetvalue(load->objects, i, 0), *id = PQgetvalue(load->objects, i, 1);
	char *key = format_text("%s/%s", kind_name, id);
	map_insert_text(load->seen, key, load);
	struct problem problem;
	json_t *unknown;
	struct record *row = db_row_read(kind_name, PQgetvalue(load->objects, i, 3), &unknown, &problem);
	if (row && strcmp(record_text(row, "id"), id) != 0) {
		problem_set(&problem, 500, "wrong-id", "id", record_text(row, "id"), "it has another id inside");
		record_free(&row);
	}
	if (!row) {
		char *why = format_text("%s%s%s", problem.field, problem.field[0] ? ": " : "", problem.rule);
		note_unusable(load, kind_name, id, PQgetvalue(load->objects, i, 2), why);
		free(why);
		json_decref(unknown);
		free(key);
		return;
	}
	if (unknown) {
		map_insert_text(load->unknown, key, unknown);
	}
	free(key);
	const struct record *known = resource_find(service->resource, record_kind(row), id);
	if (known && record_equal(known, row)) {
		record_free(&row);
	} else if (!load->store->loaded) {
		take_over(service, row);
	} else {
		if (load->count == load->capacity) {
			load->capacity = load->capacity ? load->capacity * 2 : 16;
			load->rows = reallocate(load->rows, load->capacity, sizeof *load->rows);
		}
		load->rows[load->count++] = row;
	}
}

static void unload_unseen(struct service *service, const struct map *seen)
{
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		struct map *gone = map_new(NULL);
		for (struct row_cursor c = {0}; resource_next(service->resource, (enum resource_kind)kind, &c);) {
			char *key = store_key((enum resource_kind)kind, record_text(c.row, "id"));
			if (!map_find_text(seen, key)) {
				map_insert_text(gone, record_text(c.row, "id"), gone);
			}
			free(key);
		}
		for (struct map_cursor c = {0}; map_next(gone, &c);) {
			char *id = format_text("%.*s", (int)c.key.length, (const char *)c.key.data);
			resource_bus_row(service->bus, (enum resource_kind)kind, id, NULL);
			resource_unload(service->resource, (enum resource_kind)kind, id);
			free(id);
		}
		map_free(&gone, NULL);
	}
}

static void take_over_rows(struct load *load)
{
	struct service *service = load->store->service;
	for (size_t i = 0; i < load->count; i++) {
		take_over(service, load->rows[i]);
	}
	load->count = 0;
	unload_unseen(service, load->seen);
}

// ---- keys and tokens ----
static void read_key(struct load *load, int i)
{
	struct service *service = load->store->service;
	const char *id = PQgetvalue(load->keys, i, 0);
	const struct record *tunnel = resource_find(service->resource, RESOURCE_VPN_TUNNEL, id);
	struct secret secret = {0};
	if (!tunnel) {
		return;
	}
	const struct seal_key *key =
	    unseal(&service->seal_keys, PQgetvalue(load->keys, i, 2), id, PQgetvalue(load->keys, i, 1), &secret);
	if (!key) {
		log_event(LOG_ERROR, "sealed-key-does-not-open", "vpn-tunnel", id, "sealed-under", PQgetvalue(load->keys, i, 2),
		          "hint",
		          "is TWINSPAN_SECRET_KEY_FILE or TWINSPAN_SECRET_KEY_OLD_FILE the key it was sealed under? A new "
		          "pre-shared key "
		          "for the tunnel replaces it",
		          NULL);
		load->closed_keys++;
		return;
	}
	if (key != &service->seal_keys.keys[0] || strcmp(PQgetvalue(load->keys, i, 2), key->id) != 0) {
		reseal_add(&load->reseal, &service->seal_keys.keys[0], id, PQgetvalue(load->keys, i, 1), secret_bytes(&secret));
	}
	resource_bus_secret(service->bus, id, record_text(tunnel, "nodeId"), secret_bytes(&secret));
	secret_wipe(&secret);
}

static void read_tokens(struct load *load)
{
	struct service *service = load->store->service;
	map_free(&service->token_ids, free);
	service->token_ids = map_new(NULL);
	for (int i = 0; i < PQntuples(load->tokens); i++) {
		free(map_insert_text(service->token_ids, PQgetvalue(load->tokens, i, 1),
		                     duplicate_text(PQgetvalue(load->tokens, i, 0))));
	}
}

// ---- turns ----
static void finish(struct load *load, bool good)
{
	struct store *store = load->store;
	invariant(store->load == load);
	store->load = NULL;
	if (good) {
		struct map *unknown = store->unknown, *unusable = store->unusable;
		store->unknown = load->unknown;
		store->unusable = load->unusable;
		load->unknown = unknown;
		load->unusable = unusable;
		store->closed_keys = load->closed_keys;
		reseal_submit(&load->reseal, store->database, &store->service->seal_keys.keys[0]);
		log_event(LOG_INFO, "loaded", "rows", log_number(PQntuples(load->objects)), "unusable",
		          log_number((int64_t)map_count(store->unusable)), NULL);
	}
	load_free(load);
	store_load_ended(store, good);
}

static void take_portion(void *context)
{
	struct load *load = context;
	int end = load->at + PORTION;
	const PGresult *result = load->phase == LOAD_OBJECTS ? load->objects : load->keys;
	for (; load->at < end && load->at < PQntuples(result); load->at++) {
		if (load->phase == LOAD_OBJECTS) {
			read_row(load, load->at);
		} else {
			read_key(load, load->at);
		}
	}
	if (load->at == PQntuples(result)) {
		if (load->phase == LOAD_KEYS) {
			read_tokens(load);
			finish(load, true);
			return;
		}
		take_over_rows(load);
		load->phase = LOAD_KEYS;
		load->at = 0;
	}
	deadline_arm(&load->turn, now());
}

static PGresult *keep(struct database_answer *answer, size_t index)
{
	PGresult *result = answer->results[index];
	answer->results[index] = NULL;
	return result;
}

static void on_rows(void *context, struct database_answer *answer)
{
	struct load *load = context;
	if (load->abandoned) {
		load_free(load);
		return;
	}
	if (answer->outcome != DATABASE_DONE) {
		finish(load, false);
		return;
	}
	load->objects = keep(answer, 0);
	load->keys = keep(answer, 1);
	load->tokens = keep(answer, 2);
	load->phase = LOAD_OBJECTS;
	deadline_arm(&load->turn, now());
}

void store_load_begin(struct store *store)
{
	invariant(!store->load && !store->plan);
	struct load *load = allocate(sizeof *load);
	*load = (struct load){.store = store, .seen = map_new(NULL), .unknown = map_new(NULL), .unusable = map_new(NULL)};
	store->load = load;
	deadline_init(&load->turn, store->service->loop, take_portion, load);
	struct database_work *work = database_work_new(store->database, DATABASE_LOCKED);
	database_work_add(work, "SELECT kind, id, tenant, body::text FROM resource.object ORDER BY made", NULL, 0,
	                  DATABASE_ANY_ROWS);
	database_work_add(work, "SELECT tunnel_id, sealed, coalesce(key_id, '') FROM resource.sealed_key", NULL, 0,
	                  DATABASE_ANY_ROWS);
	database_work_add(work, "SELECT token_id, hash FROM resource.token_hash", NULL, 0, DATABASE_ANY_ROWS);
	database_submit(&work, on_rows, load);
}

void store_load_give_up(struct store *store)
{
	struct load *load = store->load;
	store->load = NULL;
	if (load && load->phase == LOAD_ASKED) {
		load->abandoned = true;
	} else if (load) {
		load_free(load);
	}
}

void store_load_drop(struct store *store)
{
	if (store->load) {
		load_free(store->load);
		store->load = NULL;
	}
}
