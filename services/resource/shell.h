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

struct service {
	struct loop *loop;
	struct health *health;
	struct resource *resource;
	struct random random;
	struct resource_bus *bus;
	struct store *store;
	uint8_t secret_key[32];       // seals pre-shared keys in the database
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
// Reads the rows again when they may differ from the database. To be called before a plan is made: a plan refers to the rows it
// saw.
void store_refresh(struct store *store);
enum store_result { STORE_DONE, STORE_AWAY, STORE_RACED };
// Makes a plan durable, whole or not at all.
enum store_result store_write(struct store *store, const struct plan *plan);

// ---- db_seal.c ----
// AES-256-GCM under `key`, bound to `name`; nonce, ciphertext and tag as hexadecimal text, to be freed.
char *seal(const uint8_t key[static 32], const char *name, struct bytes clear);
bool unseal(const uint8_t key[static 32], const char *name, const char *sealed, struct secret *out);
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

#endif
