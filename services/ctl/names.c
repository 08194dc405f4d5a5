// See names.h.
#include "services/ctl/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { ID_RANDOM_CHARACTERS = 10 };

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

// How many resources of the kind have this name; the last one's id.
static size_t count_named(struct api *api, enum resource_kind kind, const char *name, char **id)
{
	char *path = format_text("/v1/%s", kind_rules[kind].plural);
	struct answer answer = api_call(api, "GET", path, NULL, 0);
	size_t count = 0, index;
	json_t *item;
	json_array_foreach(json_object_get(answer.json, "items"), index, item)
	{
		const char *own = json_string_value(json_object_get(item, "name"));
		if (own && strcmp(own, name) == 0) {
			count++;
			free(*id);
			*id = duplicate_text(json_string_value(json_object_get(item, "id")));
		}
	}
	answer_free(&answer);
	free(path);
	return count;
}

char *name_to_id(struct api *api, enum resource_kind kind, const char *text)
{
	if (is_id(kind, text)) {
		return duplicate_text(text);
	}
	char *id = NULL;
	size_t count = count_named(api, kind, text, &id);
	if (count == 1 && id) {
		return id;
	}
	fprintf(stderr, "twinspan: %s %s named %s\n", count ? "more than one" : "no", kind_rules[kind].singular, text);
	free(id);
	return NULL;
}

// A next hop may be one of several kinds: an id says which by its prefix, a name by being there.
static char *any_to_id(struct api *api, const char *text)
{
	static const enum resource_kind kinds[] = {RESOURCE_VPC_ATTACHMENT, RESOURCE_VPN_CONNECTION, RESOURCE_BORDER_GATEWAY};
	char *id = NULL;
	size_t count = 0;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (is_id(kinds[i], text)) {
			free(id);
			return duplicate_text(text);
		}
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		count += count_named(api, kinds[i], text, &id);
	}
	if (count == 1) {
		return id;
	}
	fprintf(stderr, "twinspan: %s named %s\n", count ? "more than one resource is" : "nothing is", text);
	free(id);
	return NULL;
}

// Replaces the text at `path` below `json`, through every list on the way.
static bool resolve_at(struct api *api, const struct field_rule *rule, json_t *json, const char *path)
{
	if (json_is_array(json)) {
		size_t index;
		json_t *item;
		json_array_foreach(json, index, item)
		{
			if (*path == '\0' && json_is_string(item)) {
				char *id = name_to_id(api, rule->reference, json_string_value(item));
				if (!id) {
					return false;
				}
				json_array_set_new(json, index, json_string(id));
				free(id);
			} else if (*path && !resolve_at(api, rule, item, path)) {
				return false;
			}
		}
		return true;
	}
	size_t length = strcspn(path, ".");
	char *name = format_text("%.*s", (int)length, path);
	json_t *member = json_object_get(json, name);
	const char *rest = path[length] == '.' ? path + length + 1 : path + length;
	bool resolved = true;
	if (json_is_string(member) && *rest == '\0') {
		const char *text = json_string_value(member);
		char *id = rule->format == FORMAT_ID_ANY ? any_to_id(api, text) : name_to_id(api, rule->reference, text);
		resolved = id != NULL;
		if (id) {
			json_object_set_new(json, name, json_string(id));
		}
		free(id);
	} else if (member) {
		resolved = resolve_at(api, rule, member, rest);
	}
	free(name);
	return resolved;
}

bool names_resolve(struct api *api, enum resource_kind kind, json_t *body)
{
	size_t count = 0;
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		if ((rules[i].format == FORMAT_ID || rules[i].format == FORMAT_ID_ANY) &&
		    !resolve_at(api, &rules[i], body, rules[i].path)) {
			return false;
		}
	}
	return true;
}
