// PostgreSQL schema `resource`: the rows as JSON, the sealed pre-shared keys, the hashes of tokens. A plan is one transaction;
// the service applies and publishes it only after the commit, so what was acknowledged is in the database. Every change names
// the revision it replaces: should another process have written meanwhile, nothing is written and the rows are read again.
//
// When the connection comes back, and after a commit whose outcome nobody knows, all rows are read again before anything is
// written: the database is the truth, memory its copy.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/database.h"
#include "common/io/log.h"
#include "proto/message_json.h"
#include "services/resource/shell.h"

static const struct migration migrations[] = {
    {
        "0001_objects",
        "CREATE TABLE resource.object ("
        " kind text NOT NULL,"
        " id text NOT NULL,"
        " tenant text NOT NULL,"
        " revision bigint NOT NULL,"
        " body jsonb NOT NULL,"
        " made bigint GENERATED ALWAYS AS IDENTITY," // the order in which rows were made
        " PRIMARY KEY (kind, id));"
        "CREATE TABLE resource.sealed_key ("
        " tunnel_id text PRIMARY KEY,"
        " sealed text NOT NULL);" // AES-256-GCM: nonce, ciphertext, tag; bound to tunnel_id
        "CREATE TABLE resource.token_hash ("
        " token_id text PRIMARY KEY,"
        " hash text NOT NULL UNIQUE);" // SHA-256
    },
};

struct store {
	struct service *service;
	struct database *database;
	bool loaded;
	bool doubtful; // memory may differ from the database
	struct deadline again;
};

#define READ_AGAIN SECONDS(3)

static bool run(struct store *store, const char *sql, const char *const *values, int count, long *touched)
{
	PGresult *result = database_query(store->database, sql, values, count, NULL);
	if (!result) {
		return false;
	}
	if (touched) {
		*touched = strtol(PQcmdTuples(result), NULL, 10);
	}
	PQclear(result);
	return true;
}

// ---- reading ----
static struct record *row_of(const char *kind_name, const char *body)
{
	struct problem problem = {0};
	enum resource_kind kind = kind_by_singular(kind_name);
	json_error_t error;
	json_t *json = json_loads(body, JSON_REJECT_DUPLICATES, &error);
	struct record *row = json && kind != RESOURCE_KINDS ? record_from_json(kind, json, NULL, &problem) : NULL;
	json_decref(json);
	if (!row || !record_has(row, "id")) {
		log_event(LOG_ERROR, "row-not-understood", "kind", kind_name, "field", problem.field, "rule", problem.rule,
		          NULL);
		record_free(&row);
	}
	return row;
}

static void load_row(struct service *service, struct record *row, struct map *seen)
{
	enum resource_kind kind = record_kind(row);
	char *key = format_text("%d/%s", (int)kind, record_text(row, "id"));
	map_insert_text(seen, key, seen);
	free(key);
	const struct record *known = resource_find(service->resource, kind, record_text(row, "id"));
	if (known && record_equal(known, row)) {
		record_free(&row);
		return;
	}
	resource_load(service->resource, row);
	const char *id = record_text(row, "id");
	resource_bus_row(service->bus, kind, id, resource_find(service->resource, kind, id));
}

static void unload_unseen(struct service *service, struct map *seen)
{
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		struct map *gone = map_new(NULL);
		for (struct row_cursor c = {0}; resource_next(service->resource, (enum resource_kind)kind, &c);) {
			char *key = format_text("%d/%s", (int)kind, record_text(c.row, "id"));
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

static bool load_keys(struct service *service, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++) {
		const char *id = PQgetvalue(result, i, 0);
		const struct record *tunnel = resource_find(service->resource, RESOURCE_VPN_TUNNEL, id);
		struct secret key = {0};
		if (!tunnel) {
			continue;
		}
		if (!unseal(service->secret_key, id, PQgetvalue(result, i, 1), &key)) {
			log_event(LOG_ERROR, "sealed-key-does-not-open", "tunnel", id, "hint",
			          "is this the TWINSPAN_SECRET_KEY_FILE it was sealed under?", NULL);
			return false;
		}
		resource_bus_secret(service->bus, id, record_text(tunnel, "nodeId"), secret_bytes(&key));
		secret_wipe(&key);
	}
	return true;
}

static void load_tokens(struct service *service, const PGresult *result)
{
	map_free(&service->token_ids, free);
	service->token_ids = map_new(NULL);
	for (int i = 0; i < PQntuples(result); i++) {
		free(map_insert_text(service->token_ids, PQgetvalue(result, i, 1), duplicate_text(PQgetvalue(result, i, 0))));
	}
}

static bool load_objects(struct service *service, const PGresult *result)
{
	struct map *seen = map_new(NULL);
	bool understood = true;
	for (int i = 0; understood && i < PQntuples(result); i++) {
		struct record *row = row_of(PQgetvalue(result, i, 0), PQgetvalue(result, i, 1));
		understood = row != NULL;
		if (row) {
			load_row(service, row, seen);
		}
	}
	if (understood) {
		unload_unseen(service, seen);
	}
	map_free(&seen, NULL);
	return understood;
}

static bool load(struct store *store)
{
	struct service *service = store->service;
	PGresult *objects =
	    database_query(store->database, "SELECT kind, body::text FROM resource.object ORDER BY made", NULL, 0, NULL);
	PGresult *keys =
	    objects ? database_query(store->database, "SELECT tunnel_id, sealed FROM resource.sealed_key", NULL, 0, NULL)
	            : NULL;
	PGresult *tokens =
	    keys ? database_query(store->database, "SELECT token_id, hash FROM resource.token_hash", NULL, 0, NULL) : NULL;
	bool done = tokens && load_objects(service, objects) && load_keys(service, keys);
	if (done) {
		load_tokens(service, tokens);
		store->doubtful = false;
		store->loaded = true;
		resource_bus_commit(service->bus, true);
		health_wait(service->health, "rows from the database", false);
		log_event(LOG_INFO, "loaded", "rows", log_number(PQntuples(objects)), NULL);
	}
	PQclear(objects);
	PQclear(keys);
	PQclear(tokens);
	return done;
}

void store_refresh(struct store *store)
{
	if (store->doubtful && database_is_up(store->database)) {
		load(store);
	}
}

static void read_again(void *context)
{
	struct store *store = context;
	store_refresh(store);
	deadline_arm(&store->again, store->doubtful && database_is_up(store->database) ? now() + READ_AGAIN : INSTANT_NEVER);
}

static void up(void *context)
{
	struct store *store = context;
	store->doubtful = true;
	read_again(store);
}

// ---- writing ----
static bool write_secret(struct store *store, const struct change *change)
{
	if (change->secret.length == 0) {
		return true;
	}
	if (change->kind == RESOURCE_TOKEN) {
		char hash[SHA256_TEXT];
		sha256_text(secret_bytes(&change->secret), hash);
		return run(store, "INSERT INTO resource.token_hash (token_id, hash) VALUES ($1, $2)",
		           (const char *[]){change->id, hash}, 2, NULL);
	}
	char *sealed = seal(store->service->secret_key, change->id, secret_bytes(&change->secret));
	bool done = run(store,
	                "INSERT INTO resource.sealed_key (tunnel_id, sealed) VALUES ($1, $2)"
	                " ON CONFLICT (tunnel_id) DO UPDATE SET sealed = excluded.sealed",
	                (const char *[]){change->id, sealed}, 2, NULL);
	free(sealed);
	return done;
}

static bool write_row(struct store *store, const struct change *change, long *touched)
{
	const char *kind = kind_rules[change->kind].singular;
	char before[24], after[24];
	snprintf(before, sizeof before, "%llu",
	         change->before ? (unsigned long long)record_number(change->before, "revision") : 0);
	if (!change->after) {
		return run(store, "DELETE FROM resource.object WHERE kind = $1 AND id = $2 AND revision = $3::bigint",
		           (const char *[]){kind, change->id, before}, 3, touched);
	}
	snprintf(after, sizeof after, "%llu", (unsigned long long)record_number(change->after, "revision"));
	json_t *json = record_to_json(change->after);
	char *body = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	const char *tenant = kind_rules[change->kind].region_only ? "" : record_text(change->after, "tenant");
	bool done = change->before ? run(store,
	                                 "UPDATE resource.object SET revision = $4::bigint, body = $5::jsonb"
	                                 " WHERE kind = $1 AND id = $2 AND revision = $3::bigint",
	                                 (const char *[]){kind, change->id, before, after, body}, 5, touched)
	                           : run(store,
	                                 "INSERT INTO resource.object (kind, id, tenant, revision, body) VALUES ($1, $2, $3, "
	                                 "$4::bigint, $5::jsonb)"
	                                 " ON CONFLICT DO NOTHING",
	                                 (const char *[]){kind, change->id, tenant, after, body}, 5, touched);
	free(body);
	return done;
}

static bool drop_secrets(struct store *store, const struct change *change)
{
	if (change->after || (change->kind != RESOURCE_VPN_TUNNEL && change->kind != RESOURCE_TOKEN)) {
		return true;
	}
	const char *sql = change->kind == RESOURCE_TOKEN ? "DELETE FROM resource.token_hash WHERE token_id = $1"
	                                                 : "DELETE FROM resource.sealed_key WHERE tunnel_id = $1";
	return run(store, sql, (const char *[]){change->id}, 1, NULL);
}

enum store_result store_write(struct store *store, const struct plan *plan)
{
	if (store->doubtful || !database_is_up(store->database) || !database_begin(store->database)) {
		return STORE_AWAY;
	}
	for (size_t i = 0; i < plan->count; i++) {
		const struct change *change = &plan->changes[i];
		long touched = 0;
		if (!write_row(store, change, &touched) || !write_secret(store, change) || !drop_secrets(store, change)) {
			database_rollback(store->database);
			store->doubtful = true;
			return STORE_AWAY;
		}
		if (touched != 1) {
			database_rollback(store->database);
			store->doubtful = true;
			log_event(LOG_WARNING, "row-changed-by-another", "kind", kind_rules[change->kind].singular, "id",
			          change->id, NULL);
			return STORE_RACED;
		}
	}
	if (!database_commit(store->database)) {
		store->doubtful = true; // it may have been done all the same
		return STORE_AWAY;
	}
	return STORE_DONE;
}

bool store_loaded(const struct store *store)
{
	return store->loaded;
}

struct store *store_new(struct service *service)
{
	struct store *store = allocate(sizeof *store);
	store->service = service;
	deadline_init(&store->again, service->loop, read_again, store);
	health_wait(service->health, "rows from the database", true);
	store->database = database_new(service->loop, service->health, "resource", migrations,
	                               sizeof migrations / sizeof migrations[0], up, store);
	return store;
}

void store_free(struct store **store)
{
	if (*store) {
		deadline_disarm(&(*store)->again);
		database_free(&(*store)->database);
		free(*store);
		*store = NULL;
	}
}
