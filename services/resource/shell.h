// The shell of resource: what its files share. The core (resource.h) decides; these make a plan durable, publish it, and speak
// HTTP.
#ifndef TWINSPAN_RESOURCE_SHELL_H
#define TWINSPAN_RESOURCE_SHELL_H

#include <jansson.h>

#include "common/base/map.h"
#include "common/bus/bus.h"
#include "common/io/http.h"
#include "services/resource/resource.h"

enum { SHA256_TEXT = 65 };

enum { SEAL_KEYS = 2, SEAL_KEY_ID = 17 };
struct seal_key {
	uint8_t octets[32];
	char id[SEAL_KEY_ID]; // of its digest: names the key and tells nothing of it
};
struct seal_keys {
	size_t count;
	struct seal_key keys[SEAL_KEYS]; // the first seals; the others, which came before it, only open
};

struct service {
	struct loop *loop;
	struct health *health;
	struct resource *resource;
	struct random random;
	struct resource_bus *bus;
	struct store *store;
	struct changes *changes;
	struct seal_keys seal_keys;   // of pre-shared keys in the database
	char admin_hash[SHA256_TEXT]; // of the first token, which is a file's and not a row
	struct map *token_ids;        // hash of a token -> its id
	struct map *measured;         // tunnel id -> the labels of its metrics
	char *openapi;                // the document, made once
};

// ---- bus.c ----
struct resource_bus;
struct resource_bus *resource_bus_new(struct service *service, struct bus *bus);
void resource_bus_free(struct resource_bus **bus);
// A row as it is now; `after` NULL: it is gone (`before` is what it was).
void resource_bus_row(struct resource_bus *bus, enum resource_kind kind, const char *id, const struct record *after);
void resource_bus_secret(struct resource_bus *bus, const char *tunnel_id, const char *node_id, struct bytes key);
// What was put since the last commit becomes visible. `complete`: the tables are whole now (all rows have been loaded).
void resource_bus_commit(struct resource_bus *bus, bool complete);

// ---- db_store.c ----
struct store;
struct store *store_new(struct service *service);
void store_free(struct store **store);
bool store_loaded(const struct store *store); // the rows have been read at least once
enum store_state {
	STORE_READY,   // memory holds what the database does: a plan can be made and written
	STORE_READING, // the rows are being read again, which ends soon, one way or the other
	STORE_GONE,    // no database, or nobody knows yet what it holds
};
enum store_state store_state(const struct store *store);
enum store_result {
	STORE_DONE,
	STORE_AWAY,    // nothing was written
	STORE_RACED,   // nothing was written: the database holds something else than the plan was made of
	STORE_UNKNOWN, // it may have been written, or may still be
};
typedef void store_fn(void *context, enum store_result result);
// Makes a plan durable, whole or not at all, and says so later. Only in STORE_READY, one at a time. The plan stays the
// caller's. When the state changes, changes_advance is called.
void store_write(struct store *store, const struct plan *plan, store_fn *done, void *context);
// A row of the database that this release cannot read: it stays there as it is, and nothing is published of it. NULL: it is
// none; else why, with the tenant it belongs to.
struct unusable {
	char *why, *tenant;
};
const struct unusable *store_unusable(const struct store *store, enum resource_kind kind, const char *id);
size_t store_unusable_count(const struct store *store);
size_t store_closed_keys(const struct store *store); // sealed keys that no key opens

// ---- db_seal.c ----
void seal_key_name(struct seal_key *key); // sets its id
// AES-256-GCM under `key`, bound to `name`; nonce, ciphertext and tag as hexadecimal text, to be freed.
char *seal(const struct seal_key *key, const char *name, struct bytes clear);
// `key_id`: of the key that sealed it, as far as that was noted; else "". NULL when no key opens it; else the one that did.
const struct seal_key *unseal(const struct seal_keys *keys, const char *key_id, const char *name, const char *sealed,
                              struct secret *out);
char *sha256_text(struct bytes octets, char out[static SHA256_TEXT]);

// ---- http_metrics.c ----
void metrics_gather(void *service); // before each scrape

// ---- http_api.c ----
void api_handle(void *service, struct http_request *request);

// ---- http_read.c and http_resource.c: what the paths below /v1 do. Each answers the request ----
struct api_call {
	struct service *service;
	struct http_request *request;
	struct actor actor;
	enum resource_kind kind;
	const char *id;    // NULL: the collection
	const char *below; // "tunnels", "rekey", …; NULL: the resource itself
};
void api_list(const struct api_call *call);
void api_routes(const struct api_call *call);
void api_show(const struct api_call *call);
void api_change(const struct api_call *call, enum action action);
void api_rekey(const struct api_call *call);
void api_configuration(const struct api_call *call);
void api_events(const struct api_call *call);
// Answers with `json` (taken over). `location` may be NULL; `revision` 0: no ETag.
void answer_json(const struct api_call *call, unsigned status, json_t *json, const char *location, uint64_t revision);
json_t *shown_json(const struct service *service, const struct record *row, bool routes);
// Whether the query has no parameter but `allowed` (names, separated by commas); a problem is answered if not.
bool parameters_fit(const struct api_call *call, const char *allowed);
// ---- http_api.c ----
void api_respond(struct http_request *request, unsigned status, const char *type, const char *text,
                 const struct http_field *fields, size_t count);
void answer_problem(struct http_request *request, const struct problem *problem);

// The problem of a resource whose row cannot be read, if it is one that the caller may see; false when it is not.
bool answer_unusable(const struct api_call *call);

// ---- http_change.c ----
struct changes;
struct wanted_change {
	enum action action;
	struct record *body; // NULL: none
	struct cleared cleared;
	bool has_revision;
	uint64_t revision;
};
struct changes *changes_new(struct service *service);
void changes_free(struct changes **changes);
// Carries it out and answers, now or later. The body is taken over.
void change_begin(const struct api_call *call, const struct wanted_change *wanted);
void changes_advance(struct changes *changes); // the store's state has changed

#endif
