// What db_store.c and db_load.c share.
#ifndef TWINSPAN_RESOURCE_DB_STORE_H
#define TWINSPAN_RESOURCE_DB_STORE_H

#include "common/io/database.h"
#include "services/resource/shell.h"

struct store {
	struct service *service;
	struct database *database;
	bool loaded;       // once
	bool doubtful;     // memory may differ from the database
	struct load *load; // NULL: the rows are not being read
	struct deadline again;
	struct map *unknown;  // "kind/id" → json_t: what a newer release has put into the row
	struct map *unusable; // "kind/id" → struct unusable
	size_t closed_keys;   // sealed keys that do not open

	const struct plan *plan; // being written
	store_fn *done;
	void *context;
};

char *store_key(enum resource_kind kind, const char *id); // to be freed

// ---- db_load.c ----
// Reads all rows under the schema's lock, and takes them over in portions. store_load_ended is called once, unless it is given
// up.
void store_load_begin(struct store *store);
void store_load_give_up(struct store *store); // the database still answers, or says that it will not
void store_load_drop(struct store *store);    // it will not answer any more
void store_rows_free(struct map **unknown, struct map **unusable);
void store_load_ended(struct store *store, bool good); // db_store.c

// ---- db_reseal.c: sealed keys that an earlier key opened are sealed anew, under the one of today, in the background ----
struct reseal {
	size_t count, capacity;
	struct resealed {
		char *tunnel_id, *before, *after;
	} * rows;
};
void reseal_add(struct reseal *reseal, const struct seal_key *key, const char *tunnel_id, const char *sealed,
                struct bytes clear);
void reseal_submit(struct reseal *reseal, struct database *database, const struct seal_key *key);
void reseal_fini(struct reseal *reseal);

#endif
