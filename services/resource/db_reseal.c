// The end of a rotation of the key that seals pre-shared keys: what an earlier key opened is written back under the one of
// today, unless it was replaced meanwhile. When all is written the earlier key is of no use any more; should something be lost,
// the next reading begins again.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "services/resource/db_store.h"

enum { BATCH = 500 };

void reseal_add(struct reseal *reseal, const struct seal_key *key, const char *tunnel_id, const char *sealed,
                struct bytes clear)
{
	if (reseal->count == reseal->capacity) {
		reseal->capacity = reseal->capacity ? reseal->capacity * 2 : 16;
		reseal->rows = reallocate(reseal->rows, reseal->capacity, sizeof *reseal->rows);
	}
	reseal->rows[reseal->count++] =
	    (struct resealed){duplicate_text(tunnel_id), duplicate_text(sealed), seal(key, tunnel_id, clear)};
}

void reseal_fini(struct reseal *reseal)
{
	for (size_t i = 0; i < reseal->count; i++) {
		free(reseal->rows[i].tunnel_id);
		free(reseal->rows[i].before);
		free(reseal->rows[i].after);
	}
	free(reseal->rows);
	*reseal = (struct reseal){0};
}

static void on_written(void *context, struct database_answer *answer)
{
	(void)context;
	if (answer->outcome == DATABASE_DONE) {
		log_event(LOG_INFO, "keys-sealed-anew", "count", PQcmdTuples(answer->results[0]), NULL);
	} else {
		log_event(LOG_WARNING, "keys-not-sealed-anew", "effect", "the earlier key is still needed", NULL);
	}
}

// An array of PostgreSQL; ids and hexadecimal digits need no quoting.
static char *column(const struct resealed *rows, size_t count, size_t offset)
{
	char *text;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	if (!out) {
		abort();
	}
	for (size_t i = 0; i < count; i++) {
		char *const *value = (char *const *)(const void *)((const char *)&rows[i] + offset);
		fprintf(out, "%c%s", i ? ',' : '{', *value);
	}
	fputc('}', out);
	fclose(out);
	return text;
}

void reseal_submit(struct reseal *reseal, struct database *database, const struct seal_key *key)
{
	for (size_t at = 0; at < reseal->count; at += BATCH) {
		const struct resealed *rows = &reseal->rows[at];
		size_t count = reseal->count - at < BATCH ? reseal->count - at : BATCH;
		char *ids = column(rows, count, offsetof(struct resealed, tunnel_id));
		char *before = column(rows, count, offsetof(struct resealed, before));
		char *after = column(rows, count, offsetof(struct resealed, after));
		struct database_work *work = database_work_new(database, DATABASE_LOCKED);
		database_work_add(work,
		                  "UPDATE resource.sealed_key k SET sealed = n.sealed, key_id = $4"
		                  " FROM unnest($1::text[], $2::text[], $3::text[]) AS n(tunnel_id, before, sealed)"
		                  " WHERE k.tunnel_id = n.tunnel_id AND k.sealed = n.before",
		                  (const char *[]){ids, before, after, key->id}, 4, DATABASE_ANY_ROWS);
		database_submit(&work, on_written, NULL);
		free(ids);
		free(before);
		free(after);
	}
}
