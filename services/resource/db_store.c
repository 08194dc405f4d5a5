// PostgreSQL schema `resource`: the rows as JSON, the sealed pre-shared keys, the hashes of tokens. A plan is one transaction;
// the service applies and publishes it only after the commit, so what was acknowledged is in the database. Every change names
// the revision it replaces: should another process have written meanwhile, nothing is written and the rows are read again.
//
// When the connection comes back, and after a commit whose outcome nobody knows, all rows are read again (db_load.c) before
// anything is written: the database is the truth, memory its copy.
//
// What must not be given out twice is held by the database too: resource.claim has one row for each cloud address, VXLAN
// identifier and inner prefix in use, kept by a trigger on the rows themselves. Two rows that claim the same are refused there,
// whatever memory believed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include "services/resource/db_row.h"
#include "services/resource/db_store.h"

static const struct migration migrations[] = {
    {
        .name = "0001_objects",
        .sql = "CREATE TABLE resource.object ("
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
    // Rows that already claim the same (an earlier release could do that) keep what they have; the first one holds the claim.
    {
        .name = "0002_claims",
        .sql =
            "ALTER TABLE resource.sealed_key ADD COLUMN key_id text;" // which key sealed it; NULL: an earlier release wrote it
            "CREATE TABLE resource.claim ("
            " what text PRIMARY KEY,"
            " kind text NOT NULL,"
            " id text NOT NULL);"
            "CREATE INDEX ON resource.claim (kind, id);"
            "CREATE FUNCTION resource.claims_of(kind text, body jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$"
            " SELECT DISTINCT 'cloud-address ' || (item->>'address')"
            "  FROM jsonb_array_elements(CASE WHEN kind = 'vpn-connection' AND jsonb_typeof(body->'cloudAddresses') = 'array'"
            "   THEN body->'cloudAddresses' ELSE '[]' END) item"
            " UNION ALL SELECT 'vni ' || (body->>'vni') WHERE kind = 'vpc-attachment'"
            " UNION ALL SELECT 'inside ' || (body->>'borderGatewayId') || ' ' || (body->>'insideCidr') WHERE kind = "
            "'vpn-tunnel'"
            " $$;"
            "CREATE FUNCTION resource.claim_row() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN"
            "  IF TG_OP = 'INSERT' THEN"
            "   INSERT INTO resource.claim SELECT w, NEW.kind, NEW.id FROM resource.claims_of(NEW.kind, NEW.body) w WHERE w IS "
            "NOT NULL;"
            "  ELSIF TG_OP = 'DELETE' THEN"
            "   DELETE FROM resource.claim WHERE kind = OLD.kind AND id = OLD.id;"
            "  ELSE"
            "   DELETE FROM resource.claim WHERE kind = OLD.kind AND id = OLD.id"
            "    AND what NOT IN (SELECT w FROM resource.claims_of(NEW.kind, NEW.body) w WHERE w IS NOT NULL);"
            "   INSERT INTO resource.claim SELECT w, NEW.kind, NEW.id FROM resource.claims_of(NEW.kind, NEW.body) w"
            "    WHERE w IS NOT NULL EXCEPT SELECT w, NEW.kind, NEW.id FROM resource.claims_of(OLD.kind, OLD.body) w;"
            "  END IF;"
            "  RETURN NULL;"
            " END $$;"
            "INSERT INTO resource.claim SELECT w, o.kind, o.id FROM resource.object o, resource.claims_of(o.kind, o.body) w"
            " WHERE w IS NOT NULL ORDER BY o.made ON CONFLICT DO NOTHING;"
            "CREATE TRIGGER claim_row AFTER INSERT OR UPDATE OF body OR DELETE ON resource.object"
            " FOR EACH ROW EXECUTE FUNCTION resource.claim_row()",
    },
};

#define READ_AGAIN SECONDS(1)

char *store_key(enum resource_kind kind, const char *id)
{
	return format_text("%s/%s", kind_rules[kind].singular, id);
}

// ---- reading ----
enum store_state store_state(const struct store *store)
{
	if (!database_is_up(store->database)) {
		return STORE_GONE;
	}
	if (store->load) {
		return STORE_READING;
	}
	return store->doubtful ? STORE_GONE : STORE_READY;
}

static void read_again(void *context)
{
	struct store *store = context;
	if (database_is_up(store->database) && store->doubtful && !store->load && !store->plan) {
		store_load_begin(store);
	}
}

void store_load_ended(struct store *store, bool good)
{
	if (good) {
		store->doubtful = false;
		store->loaded = true;
		resource_bus_commit(store->service->bus, true);
		health_wait(store->service->health, "rows from the database", false);
	} else {
		// A commit without an answer may still hold the lock; or the connection has gone, then its return reads again.
		deadline_arm(&store->again, now() + READ_AGAIN);
	}
	changes_advance(store->service->changes);
}

static void up(void *context)
{
	struct store *store = context;
	store_load_give_up(store);
	store->doubtful = true;
	read_again(store);
}

// ---- writing ----
static void write_secret(struct store *store, struct database_work *work, const struct change *change)
{
	if (change->secret.length == 0) {
		return;
	}
	if (change->kind == RESOURCE_TOKEN) {
		char hash[SHA256_TEXT];
		sha256_text(secret_bytes(&change->secret), hash);
		database_work_add(work, "INSERT INTO resource.token_hash (token_id, hash) VALUES ($1, $2)",
		                  (const char *[]){change->id, hash}, 2, 1);
		return;
	}
	const struct seal_key *key = &store->service->seal_keys.keys[0];
	char *sealed = seal(key, change->id, secret_bytes(&change->secret));
	database_work_add(work,
	                  "INSERT INTO resource.sealed_key (tunnel_id, sealed, key_id) VALUES ($1, $2, $3)"
	                  " ON CONFLICT (tunnel_id) DO UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id",
	                  (const char *[]){change->id, sealed, key->id}, 3, 1);
	free(sealed);
}

static void write_row(struct store *store, struct database_work *work, const struct change *change)
{
	const char *kind = kind_rules[change->kind].singular;
	char before[24], after[24];
	snprintf(before, sizeof before, "%llu",
	         change->before ? (unsigned long long)record_number(change->before, "revision") : 0);
	if (!change->after) {
		database_work_add(work, "DELETE FROM resource.object WHERE kind = $1 AND id = $2 AND revision = $3::bigint",
		                  (const char *[]){kind, change->id, before}, 3, 1);
		return;
	}
	snprintf(after, sizeof after, "%llu", (unsigned long long)record_number(change->after, "revision"));
	char *name = store_key(change->kind, change->id);
	char *body = db_row_write(change->after, change->before, map_find_text(store->unknown, name));
	free(name);
	if (change->before) {
		database_work_add(work,
		                  "UPDATE resource.object SET revision = $4::bigint, body = $5::jsonb"
		                  " WHERE kind = $1 AND id = $2 AND revision = $3::bigint",
		                  (const char *[]){kind, change->id, before, after, body}, 5, 1);
	} else {
		const char *tenant = kind_rules[change->kind].region_only ? "" : record_text(change->after, "tenant");
		database_work_add(
		    work,
		    "INSERT INTO resource.object (kind, id, tenant, revision, body) VALUES ($1, $2, $3, $4::bigint, "
		    "$5::jsonb) ON CONFLICT DO NOTHING",
		    (const char *[]){kind, change->id, tenant, after, body}, 5, 1);
	}
	free(body);
}

static void drop_secrets(struct database_work *work, const struct change *change)
{
	if (!change->after && (change->kind == RESOURCE_VPN_TUNNEL || change->kind == RESOURCE_TOKEN)) {
		database_work_add(work,
		                  change->kind == RESOURCE_TOKEN ? "DELETE FROM resource.token_hash WHERE token_id = $1"
		                                                 : "DELETE FROM resource.sealed_key WHERE tunnel_id = $1",
		                  (const char *[]){change->id}, 1, DATABASE_ANY_ROWS);
	}
}

static void forget_deleted(struct store *store, const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (!plan->changes[i].after) {
			char *name = store_key(plan->changes[i].kind, plan->changes[i].id);
			json_decref(map_remove_text(store->unknown, name));
			free(name);
		}
	}
}

static void written(void *context, struct database_answer *answer)
{
	static const enum store_result results[] = {
	    [DATABASE_DONE] = STORE_DONE,   [DATABASE_AWAY] = STORE_AWAY,       [DATABASE_REFUSED] = STORE_RACED,
	    [DATABASE_RACED] = STORE_RACED, [DATABASE_UNKNOWN] = STORE_UNKNOWN,
	};
	struct store *store = context;
	invariant(store->plan && !store->load);
	if (answer->outcome == DATABASE_DONE) {
		forget_deleted(store, store->plan);
	} else {
		log_event(LOG_WARNING, "not-written", "outcome",
		          (const char *[]){"", "away", "refused", "raced", "unknown"}[answer->outcome], "sqlstate",
		          answer->sqlstate, NULL);
	}
	// Only a refusal before the end leaves memory what the database is; of what was refused or raced the rows tell why.
	store->doubtful = store->doubtful || (answer->outcome != DATABASE_DONE && answer->outcome != DATABASE_AWAY);
	store_fn *done = store->done;
	store->plan = NULL;
	store->done = NULL;
	read_again(store);
	done(store->context, results[answer->outcome]);
}

void store_write(struct store *store, const struct plan *plan, store_fn *done, void *context)
{
	invariant(store_state(store) == STORE_READY && !store->plan);
	invariant(plan->count > 0);
	store->plan = plan;
	store->done = done;
	store->context = context;
	struct database_work *work = database_work_new(store->database, DATABASE_LOCKED);
	for (size_t i = 0; i < plan->count; i++) {
		write_row(store, work, &plan->changes[i]);
		write_secret(store, work, &plan->changes[i]);
		drop_secrets(work, &plan->changes[i]);
	}
	database_submit(&work, written, store);
}

// ---- life ----
bool store_loaded(const struct store *store)
{
	return store->loaded;
}

const struct unusable *store_unusable(const struct store *store, enum resource_kind kind, const char *id)
{
	char *name = store_key(kind, id);
	const struct unusable *unusable = map_find_text(store->unusable, name);
	free(name);
	return unusable;
}

size_t store_unusable_count(const struct store *store)
{
	return map_count(store->unusable);
}

size_t store_closed_keys(const struct store *store)
{
	return store->closed_keys;
}

struct store *store_new(struct service *service)
{
	struct store *store = allocate(sizeof *store);
	store->service = service;
	store->unknown = map_new(NULL);
	store->unusable = map_new(NULL);
	deadline_init(&store->again, service->loop, read_again, store);
	health_wait(service->health, "rows from the database", true);
	store->database = database_new(service->loop, service->health, "resource", migrations,
	                               sizeof migrations / sizeof migrations[0], up, store);
	return store;
}

void store_free(struct store **store_at)
{
	struct store *store = *store_at;
	if (!store) {
		return;
	}
	deadline_disarm(&store->again);
	store_load_drop(store);
	database_free(&store->database);
	store_rows_free(&store->unknown, &store->unusable);
	free(store);
	*store_at = NULL;
}
