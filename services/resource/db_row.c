// See db_row.h.
#include "services/resource/db_row.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "proto/message_json.h"

enum { UNKNOWN_MOST = 256 }; // fields of a row that this release does not know

// Follows "a.b[3].c" to the object that holds the last name. NULL when it does not lead there. `list` becomes the outermost
// list on the way.
static json_t *holder_of(json_t *root, const char *path, const char **last, char **list)
{
	json_t *at = root;
	for (;;) {
		size_t length = strcspn(path, ".[");
		if (path[length] == '\0') {
			*last = path;
			return json_is_object(at) ? at : NULL;
		}
		char *name = format_text("%.*s", (int)length, path);
		at = json_object_get(at, name);
		if (path[length] == '[' && list && !*list) {
			*list = duplicate_text(name);
		}
		free(name);
		path += length;
		if (*path == '[') {
			char *end;
			at = json_array_get(at, strtoul(path + 1, &end, 10));
			if (*end != ']') {
				return NULL;
			}
			path = end + 1;
		}
		if (*path == '.') {
			path++;
		} else {
			return NULL;
		}
	}
}

// Moves what stands at `path` into `unknown`.
static bool set_aside(json_t *json, const char *path, json_t **unknown)
{
	const char *name;
	json_t *holder = holder_of(json, path, &name, NULL);
	json_t *value = holder ? json_object_get(holder, name) : NULL;
	if (!value) {
		return false;
	}
	*unknown = *unknown ? *unknown : json_object();
	json_object_set(*unknown, path, value);
	json_object_del(holder, name);
	return true;
}

struct record *db_row_read(const char *kind_name, const char *body, json_t **unknown, struct problem *problem)
{
	*unknown = NULL;
	*problem = (struct problem){0};
	enum resource_kind kind = kind_by_singular(kind_name);
	if (kind == RESOURCE_KINDS) {
		problem_set(problem, 500, "unknown-kind", NULL, NULL, "this release does not know the kind %s", kind_name);
		return NULL;
	}
	json_error_t error;
	json_t *json = json_loads(body, JSON_REJECT_DUPLICATES, &error);
	if (!json) {
		problem_set(problem, 500, "bad-json", NULL, NULL, "it is not JSON");
		return NULL;
	}
	struct record *row = record_from_json(kind, json, NULL, problem);
	for (size_t i = 0; !row && i < UNKNOWN_MOST && strcmp(problem->type, "unknown-field") == 0; i++) {
		if (!set_aside(json, problem->field, unknown)) {
			break;
		}
		*problem = (struct problem){0};
		row = record_from_json(kind, json, NULL, problem);
	}
	json_decref(json);
	if (row && !record_has(row, "id")) {
		problem_set(problem, 500, "no-id", "id", NULL, "it has no id");
		record_free(&row);
	}
	if (!row) {
		json_decref(*unknown);
		*unknown = NULL;
	}
	return row;
}

char *db_row_write(const struct record *row, const struct record *before, const json_t *unknown)
{
	json_t *json = record_to_json(row);
	json_t *old = unknown && before ? record_to_json(before) : NULL;
	const char *path;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)unknown, path, value)
	{
		const char *name;
		char *list = NULL;
		json_t *holder = holder_of(json, path, &name, &list);
		bool same = !list || (old && json_equal(json_object_get(json, list), json_object_get(old, list)));
		if (holder && same && !json_object_get(holder, name)) {
			json_object_set(holder, name, value);
		}
		free(list);
	}
	char *body = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	json_decref(old);
	return body;
}
