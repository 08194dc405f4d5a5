// See arguments.h. The flags are not listed here: they are the fields of resource.proto that the rules let a user give.
#include "services/ctl/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "proto/message_json.h"
#include "services/ctl/nearest.h"

enum { WAIT_DEFAULT_SECONDS = 60, FLAG_TEXT = 96, SECRET_FILE_MAX = 4096 };

static bool is_number(const char *text)
{
	return text && *text && strspn(text, "0123456789") == strlen(text);
}

bool arguments_read(int count, char **values, struct arguments *out)
{
	*out = (struct arguments){.word_count = 0};
	for (int i = 1; i < count; i++) {
		if (strcmp(values[i], "-h") == 0) {
			out->help = true;
			continue;
		}
		if (strncmp(values[i], "--", 2) != 0) {
			if (out->word_count == WORDS_MAX) {
				fprintf(stderr, "twinspan: too many words\n");
				return false;
			}
			out->words[out->word_count++] = values[i];
			continue;
		}
		const char *name = values[i] + 2;
		if (strcmp(name, "help") == 0) {
			out->help = true;
			continue;
		}
		if (strcmp(name, "version") == 0) {
			out->version = true;
			continue;
		}
		if (strcmp(name, "wait") == 0) {
			bool given = i + 1 < count && is_number(values[i + 1]);
			out->wait_seconds = given ? atoi(values[++i]) : WAIT_DEFAULT_SECONDS;
			continue;
		}
		char *equals = strchr(values[i], '=');
		const char *value = NULL;
		if (equals && strchr(name, '=')) {
			*equals = '\0';
			value = equals + 1;
		} else if (i + 1 < count) {
			value = values[++i];
		} else {
			fprintf(stderr, "twinspan: --%s needs a value\n", name);
			return false;
		}
		if (strcmp(name, "output") == 0) {
			out->json = strcmp(value, "json") == 0;
			if (!out->json && strcmp(value, "table") != 0) {
				fprintf(stderr, "twinspan: --output %s: table or json\n", value);
				return false;
			}
			continue;
		}
		if (out->flag_count == FLAGS_MAX) {
			fprintf(stderr, "twinspan: too many flags\n");
			return false;
		}
		out->flags[out->flag_count++] = (struct flag){.name = name, .value = value};
	}
	return true;
}

const char *arguments_take(struct arguments *arguments, const char *name)
{
	for (size_t i = 0; i < arguments->flag_count; i++) {
		if (strcmp(arguments->flags[i].name, name) == 0) {
			const char *value = arguments->flags[i].value;
			arguments->flag_count--;
			memmove(&arguments->flags[i], &arguments->flags[i + 1],
			        (arguments->flag_count - i) * sizeof arguments->flags[0]);
			return value;
		}
	}
	return NULL;
}

bool field_has_flag(const struct field_rule *rule)
{
	if (rule->flags & FIELD_OUTPUT) {
		return false;
	}
	struct field_shape own = field_shape_of(rule->kind, rule->path);
	if (own.type == TYPE_MESSAGE && !own.list) {
		return false;
	}
	char *parent = duplicate_text(rule->path);
	bool inside = false;
	for (char *dot = strrchr(parent, '.'); dot && !inside; dot = strrchr(parent, '.')) {
		*dot = '\0';
		struct field_shape shape = field_shape_of(rule->kind, parent);
		inside = shape.type == TYPE_MESSAGE && shape.list;
	}
	free(parent);
	return !inside;
}

static bool set_from_file(json_t *body, const struct field_rule *rule, const char *path)
{
	char text[SECRET_FILE_MAX];
	FILE *file = fopen(path, "re");
	if (!file) {
		fprintf(stderr, "twinspan: cannot read %s\n", path);
		return false;
	}
	size_t length = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[length] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	struct problem problem = {.status = 0};
	bool set = json_set_from_text(body, rule->kind, rule->path, text, &problem);
	wipe(text, sizeof text);
	return set;
}

// The object that the last name of a path stands in, made where it is not there; `path` is moved to that name.
static json_t *parent_of(json_t *body, const char **path)
{
	for (const char *dot; (dot = strchr(*path, '.')) != NULL; *path = dot + 1) {
		char *name = format_text("%.*s", (int)(dot - *path), *path);
		if (!json_object_get(body, name)) {
			json_object_set_new(body, name, json_object());
		}
		body = json_object_get(body, name);
		free(name);
	}
	return body;
}

// Sets a field; a list's flag may be given more than once, and then adds to it. `now`: what a list begins with, or NULL.
static bool set_or_add(json_t *body, const struct field_rule *rule, const char *text, const json_t *now, struct problem *problem)
{
	json_t *own = json_object();
	bool set = json_set_from_text(own, rule->kind, rule->path, text, problem);
	if (set) {
		const char *name = rule->path, *same = rule->path;
		json_t *into = parent_of(body, &name), *from = parent_of(own, &same);
		json_t *value = json_object_get(from, name), *before = json_object_get(into, name);
		if (!before && json_is_array(now)) {
			before = json_deep_copy(now);
			json_object_set_new(into, name, before);
		}
		if (json_is_array(value) && json_is_array(before)) {
			json_array_extend(before, value);
		} else {
			json_object_set(into, name, value);
		}
	}
	json_decref(own);
	return set;
}

// What a resource has at a path, or NULL.
static const json_t *value_at(const json_t *resource, const char *path)
{
	for (const char *dot; resource && (dot = strchr(path, '.')) != NULL; path = dot + 1) {
		char *name = format_text("%.*s", (int)(dot - path), path);
		resource = json_object_get(resource, name);
		free(name);
	}
	return json_object_get(resource, path);
}

// "--static-route" for one of the messages of "--static-routes".
static bool names_one_of(const struct field_rule *rule, const char *name, const char *flag)
{
	struct field_shape shape = field_shape_of(rule->kind, rule->path);
	size_t length = strlen(name);
	return shape.list && shape.type == TYPE_MESSAGE && strlen(flag) + 1 == length && name[length - 1] == 's' &&
	       strncmp(flag, name, length - 1) == 0;
}

// One flag: the field's own name, or for a secret also its name with "-file".
static bool set_flag(json_t *body, enum resource_kind kind, const struct flag *flag, const json_t *now)
{
	size_t count = 0;
	struct nearest nearest = {.given = flag->name};
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (size_t i = 0; i < count; i++) {
		char name[FLAG_TEXT], file_name[FLAG_TEXT + 8];
		if (!field_has_flag(&rules[i]) || !flag_name(rules[i].path, name, sizeof name)) {
			continue;
		}
		snprintf(file_name, sizeof file_name, "%s-file", name);
		nearest_offer(&nearest, name);
		bool one_of = names_one_of(&rules[i], name, flag->name);
		if (strcmp(flag->name, name) == 0 || one_of) {
			struct problem problem = {.status = 0};
			if (!set_or_add(body, &rules[i], flag->value, one_of ? value_at(now, rules[i].path) : NULL, &problem)) {
				fprintf(stderr, "twinspan: --%s %s: %s\n", name,
				        rules[i].flags & FIELD_SECRET ? "" : flag->value, problem.rule);
				return false;
			}
			return true;
		}
		if ((rules[i].flags & FIELD_SECRET) && strcmp(flag->name, file_name) == 0) {
			return set_from_file(body, &rules[i], flag->value);
		}
	}
	fprintf(stderr, "twinspan: %s has no flag --%s%s; `twinspan %s help` lists them\n", kind_rules[kind].singular, flag->name,
	        nearest_hint(&nearest), kind_rules[kind].singular);
	return false;
}

bool arguments_reset(json_t *body, enum resource_kind kind, const char *paths)
{
	size_t count = 0;
	const struct field_rule *rules = field_rules_of(kind, &count);
	for (const char *at = paths; *at; at += strcspn(at, ",") + (strchr(at, ',') != NULL)) {
		char *wanted = format_text("%.*s", (int)strcspn(at, ","), at);
		struct nearest nearest = {.given = wanted};
		bool found = false;
		for (size_t i = 0; i < count && !found; i++) {
			char name[FLAG_TEXT];
			if (!field_has_flag(&rules[i]) || !flag_name(rules[i].path, name, sizeof name)) {
				continue;
			}
			nearest_offer(&nearest, name);
			if (strcmp(wanted, name) == 0 || strcmp(wanted, rules[i].path) == 0) {
				const char *last = rules[i].path;
				json_t *parent = parent_of(body, &last);
				json_object_set_new(parent, last, json_null());
				found = true;
			}
		}
		if (!found) {
			fprintf(stderr, "twinspan: --reset %s: %s has no such field%s\n", wanted, kind_rules[kind].singular,
			        nearest_hint(&nearest));
		}
		free(wanted);
		if (!found) {
			return false;
		}
	}
	return true;
}

json_t *arguments_body(const struct arguments *arguments, enum resource_kind kind, const json_t *now)
{
	json_t *body = json_object();
	for (size_t i = 0; i < arguments->flag_count; i++) {
		if (!set_flag(body, kind, &arguments->flags[i], now)) {
			json_decref(body);
			return NULL;
		}
	}
	return body;
}
