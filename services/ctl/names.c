// See names.h.
#include "services/ctl/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { ID_RANDOM_CHARACTERS = 10, NAMED_SHOWN = 5 };

static bool is_id(enum resource_kind kind, const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-"; // nothing that means something in a path
	const char *prefix = kind_rules[kind].id_prefix;
	if (text[strspn(text, letters)] != '\0') {
		return false;
	}
	if (!prefix) {
		return *text != '\0'; // the id is the name
	}
	size_t length = strlen(prefix);
	return strncmp(text, prefix, length) == 0 && text[length] == '-' && strlen(text + length + 1) == ID_RANDOM_CHARACTERS;
}

// Those that have a name.
struct named {
	size_t count;
	char *id;  // of the first
	char *ids; // the first of them, "vpc-…, vpc-…"
	int result;
};

static void named_fini(struct named *named)
{
	free(named->id);
	free(named->ids);
}

static void find_named(struct api *api, enum resource_kind kind, const char *name, struct named *named)
{
	char *escaped = api_escape(api, name);
	char *path = format_text("/v1/%s?name=%s", kind_rules[kind].plural, escaped);
	struct answer answer = api_call(api, "GET", path, NULL, 0);
	named->result = answer.exit_code;
	size_t index;
	json_t *item;
	json_array_foreach(json_object_get(answer.json, "items"), index, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));
		if (id && named->count++ == 0) {
			named->id = duplicate_text(id);
			named->ids = duplicate_text(id);
		} else if (id && named->count <= NAMED_SHOWN) {
			char *longer = format_text("%s, %s", named->ids, id);
			free(named->ids);
			named->ids = longer;
		}
	}
	answer_free(&answer);
	free(escaped);
	free(path);
}

// The one id, or NULL with a message.
static char *only_one(struct named *named, const char *what, const char *name, int *result)
{
	char *id = NULL;
	*result = named->result;
	if (named->result == EXIT_OK && named->count == 1) {
		id = duplicate_text(named->id);
	} else if (named->result == EXIT_OK) {
		*result = EXIT_REFUSED;
		if (named->count) {
			fprintf(stderr, "twinspan: more than one %s named %s: %s; say which by its id\n", what, name, named->ids);
		} else {
			fprintf(stderr, "twinspan: no %s named %s\n", what, name);
		}
	} // else: the API's refusal, or that it did not answer, has been said
	named_fini(named);
	return id;
}

char *name_to_id(struct api *api, enum resource_kind kind, const char *text, int *result)
{
	*result = EXIT_OK;
	if (is_id(kind, text)) {
		return duplicate_text(text);
	}
	struct named named = {.count = 0};
	find_named(api, kind, text, &named);
	return only_one(&named, kind_rules[kind].singular, text, result);
}

// A next hop may be one of several kinds: an id says which by its prefix, a name by being there.
static char *any_to_id(struct api *api, const char *text, int *result)
{
	static const enum resource_kind kinds[] = {RESOURCE_VPC_ATTACHMENT, RESOURCE_VPN_CONNECTION, RESOURCE_BORDER_GATEWAY};
	struct named named = {.count = 0};
	*result = EXIT_OK;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (is_id(kinds[i], text)) {
			return duplicate_text(text);
		}
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds && named.result == EXIT_OK; i++) {
		find_named(api, kinds[i], text, &named);
	}
	return only_one(&named, "attachment, connection or border gateway", text, result);
}

// Replaces the text at `path` below `json`, through every list on the way.
static int resolve_at(struct api *api, const struct field_rule *rule, json_t *json, const char *path)
{
	int result = EXIT_OK;
	if (json_is_array(json)) {
		size_t index;
		json_t *item;
		json_array_foreach(json, index, item)
		{
			if (*path == '\0' && json_is_string(item)) {
				char *id = name_to_id(api, rule->reference, json_string_value(item), &result);
				if (id) {
					json_array_set_new(json, index, json_string(id));
				}
				free(id);
			} else if (*path) {
				result = resolve_at(api, rule, item, path);
			}
			if (result != EXIT_OK) {
				return result;
			}
		}
		return EXIT_OK;
	}
	size_t length = strcspn(path, ".");
	char *name = format_text("%.*s", (int)length, path);
	json_t *member = json_object_get(json, name);
	const char *rest = path[length] == '.' ? path + length + 1 : path + length;
	if (json_is_string(member) && *rest == '\0') {
		const char *text = json_string_value(member);
		char *id = rule->format == FORMAT_ID_ANY ? any_to_id(api, text, &result) : name_to_id(api, rule->reference, text, &result);
		if (id) {
			json_object_set_new(json, name, json_string(id));
		}
		free(id);
	} else if (member) {
		result = resolve_at(api, rule, member, rest);
	}
	free(name);
	return result;
}

int names_resolve(struct api *api, enum resource_kind kind, json_t *body)
{
	size_t count = 0;
	const struct field_rule *rules = field_rules_of(kind, &count);
	int result = EXIT_OK;
	for (size_t i = 0; i < count && result == EXIT_OK; i++) {
		if (rules[i].format == FORMAT_ID || rules[i].format == FORMAT_ID_ANY) {
			result = resolve_at(api, &rules[i], body, rules[i].path);
		}
	}
	return result;
}
