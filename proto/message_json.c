// See message_json.h.
#include "proto/message_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "proto/field.h"

// ---- JSON to message ----
struct parse {
	enum resource_kind kind;
	struct cleared *cleared;
	struct problem *problem;
};

enum { PATH = 160 };

static const char *type_name(enum field_type type)
{
	static const char *const names[] = {[TYPE_TEXT] = "a string",
	                                    [TYPE_NUMBER] = "a whole number",
	                                    [TYPE_FLAG] = "true or false",
	                                    [TYPE_ENUM] = "a string",
	                                    [TYPE_MESSAGE] = "an object"};
	return names[type];
}

// Objects, lists and secrets are not repeated in a problem: what is in them may be a secret in the wrong place.
static bool wrong_type(const struct parse *parse, const char *path, const json_t *json, const char *wanted)
{
	const struct field_rule *rule = field_rule_find(parse->kind, path);
	bool shown = !json_is_object(json) && !json_is_array(json) && rule && !(rule->flags & FIELD_SECRET);
	char *value = shown ? json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	problem_set(parse->problem, 400, "wrong-type", path, value, "must be %s", wanted);
	free(value);
	return false;
}

static void list_names(const ProtobufCEnumDescriptor *descriptor, char *out, size_t capacity)
{
	size_t n = 0;
	for (unsigned i = 0; i < descriptor->n_values && n < capacity; i++) {
		n += (size_t)snprintf(out + n, capacity - n, "%s%s", i ? ", " : "",
		                      enum_json_name(descriptor, descriptor->values[i].value));
	}
}

static bool read_object(const struct parse *parse, ProtobufCMessage *message, const json_t *json, const char *path);

static bool read_value(const struct parse *parse, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       const json_t *json, const char *path)
{
	enum field_type type = field_type(field);
	char wanted[PROBLEM_RULE];
	switch (type) {
	case TYPE_TEXT:
		if (json_is_string(json)) {
			field_add_text(message, field, json_string_value(json));
			return true;
		}
		break;
	case TYPE_NUMBER: {
		uint64_t largest = field_largest(field);
		if (json_is_integer(json) && json_integer_value(json) >= 0 && (uint64_t)json_integer_value(json) <= largest) {
			field_add_number(message, field, (uint64_t)json_integer_value(json));
			return true;
		}
		snprintf(wanted, sizeof wanted, "a whole number from 0 to %llu", (unsigned long long)largest);
		return wrong_type(parse, path, json, wanted);
	}
	case TYPE_FLAG:
		if (json_is_boolean(json)) {
			field_add_number(message, field, json_is_true(json));
			return true;
		}
		break;
	case TYPE_ENUM: {
		int value;
		if (json_is_string(json) && enum_by_json_name(field->descriptor, json_string_value(json), &value)) {
			field_add_number(message, field, (uint64_t)value);
			return true;
		}
		char names[160];
		list_names(field->descriptor, names, sizeof names);
		snprintf(wanted, sizeof wanted, "one of %s", names);
		return wrong_type(parse, path, json, wanted);
	}
	case TYPE_MESSAGE:
		if (json_is_object(json)) {
			return read_object(parse, field_add_message(message, field), json, path);
		}
		break;
	default:
		break;
	}
	return wrong_type(parse, path, json, type_name(type));
}

static bool note_cleared(const struct parse *parse, const char *path, bool empty_list)
{
	struct cleared *cleared = parse->cleared;
	if (!cleared) {
		return true;
	}
	if (cleared->count == CLEARED_LIMIT || strlen(path) >= sizeof cleared->fields[0].path) {
		return problem_set(parse->problem, 400, "too-many-fields", path, NULL,
		                   "at most %d fields may be cleared at once", CLEARED_LIMIT);
	}
	strcpy(cleared->fields[cleared->count].path, path);
	cleared->fields[cleared->count++].empty_list = empty_list;
	return true;
}

static bool read_field(const struct parse *parse, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       const json_t *json, const char *path)
{
	if (json_is_null(json)) {
		return note_cleared(parse, path, false);
	}
	if (!field_is_list(field)) {
		return read_value(parse, message, field, json, path);
	}
	if (!json_is_array(json)) {
		char wanted[64];
		snprintf(wanted, sizeof wanted, "a list, each item %s", type_name(field_type(field)));
		return wrong_type(parse, path, json, wanted);
	}
	if (json_array_size(json) == 0) {
		return note_cleared(parse, path, true);
	}
	size_t index;
	json_t *item;
	json_array_foreach((json_t *)(uintptr_t)json, index, item)
	{
		char place[PATH + 24];
		snprintf(place, sizeof place, "%s[%zu]", path, index);
		if (!read_value(parse, message, field, item, place)) {
			return false;
		}
	}
	return true;
}

// `path` is shorter than PATH and an index: only names of resource.proto are in it.
static bool read_object(const struct parse *parse, ProtobufCMessage *message, const json_t *json, const char *path)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)json, name, value)
	{
		char place[PATH];
		snprintf(place, sizeof place, "%s%s%s", path, *path ? "." : "", name);
		const ProtobufCFieldDescriptor *field = field_by_json_name(message->descriptor, name, strlen(name));
		if (!field) {
			return problem_set(parse->problem, 400, "unknown-field", place, NULL, "%s has no such field",
			                   *path ? path : kind_rules[parse->kind].singular);
		}
		if (!read_field(parse, message, field, value, place)) {
			return false;
		}
	}
	return true;
}

struct record *record_from_json(enum resource_kind kind, const json_t *json, struct cleared *cleared, struct problem *problem)
{
	struct parse parse = {kind, cleared, problem};
	if (cleared) {
		cleared->count = 0;
	}
	if (!json_is_object(json)) {
		problem_set(problem, 400, "not-an-object", NULL, NULL, "the body must be a JSON object with the fields of a %s",
		            kind_rules[kind].singular);
		return NULL;
	}
	struct record *record = record_new(kind);
	if (!read_object(&parse, (ProtobufCMessage *)record, json, "")) {
		record_free(&record);
	}
	return record;
}

// ---- message to JSON ----
static json_t *object_of(const ProtobufCMessage *message);

static json_t *value_of(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	switch (field_type(field)) {
	case TYPE_NUMBER:
		return json_integer((json_int_t)field_number(message, field, index));
	case TYPE_FLAG:
		return json_boolean(field_number(message, field, index));
	case TYPE_MESSAGE:
		return object_of(field_message(message, field, index));
	default: {
		json_t *text = json_string(field_text(message, field, index));
		return text ? text : json_string(""); // a row that is not UTF-8 shows nothing
	}
	}
}

static json_t *object_of(const ProtobufCMessage *message)
{
	json_t *object = json_object();
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		size_t count = field_count(message, field);
		char name[FIELD_NAME];
		field_json_name(field->name, name);
		if (field_is_list(field)) {
			json_t *list = json_array();
			for (size_t index = 0; index < count; index++) {
				json_array_append_new(list, value_of(message, field, index));
			}
			json_object_set_new(object, name, list);
		} else if (count) {
			json_object_set_new(object, name, value_of(message, field, 0));
		}
	}
	return object;
}

json_t *record_to_json(const struct record *record)
{
	return object_of((const ProtobufCMessage *)record);
}

// A name that the user sent may have been cut inside a character.
static json_t *text_or_placeholder(const char *text)
{
	json_t *json = json_string(text);
	return json ? json : json_string("(not shown)");
}

json_t *problem_to_json(const struct problem *problem)
{
	json_t *json = json_pack("{s:o, s:s, s:i}", "type", json_sprintf("urn:problem-type:twinspan:%s", problem->type),
	                         "title", problem_title(problem->status), "status", problem->status);
	bool field = problem->field[0] != '\0', value = problem->value[0] != '\0';
	json_t *detail = json_sprintf("%s%s%s%s%s%s", problem->field, value ? " (" : "", problem->value, value ? ")" : "",
	                              field || value ? ": " : "", problem->rule);
	json_object_set_new(json, "detail", detail ? detail : text_or_placeholder(problem->rule));
	if (field) {
		json_object_set_new(json, "field", text_or_placeholder(problem->field));
	}
	if (value) {
		json_object_set_new(json, "value", text_or_placeholder(problem->value));
	}
	json_object_set_new(json, "rule", text_or_placeholder(problem->rule));
	return json;
}

// ---- a flag's text to JSON ----
static json_t *item_from_text(const struct field_shape *shape, const char *path, const char *text, struct problem *problem)
{
	if (shape->type == TYPE_NUMBER) {
		char *end;
		errno = 0;
		unsigned long long number = strtoull(text, &end, 10);
		if (*text < '0' || *text > '9' || *end || errno || number > shape->largest) {
			problem_set(problem, 400, "wrong-type", path, text, "must be a whole number from 0 to %llu",
			            (unsigned long long)shape->largest);
			return NULL;
		}
		return json_integer((json_int_t)number);
	}
	if (shape->type == TYPE_FLAG) {
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
			problem_set(problem, 400, "wrong-type", path, text, "must be true or false");
			return NULL;
		}
		return json_boolean(strcmp(text, "true") == 0);
	}
	if (shape->type == TYPE_ENUM) {
		char names[PROBLEM_RULE - 16] = "";
		for (size_t i = 0, n = 0; i < shape->value_count && n < sizeof names; i++) {
			if (strcmp(shape->values[i], text) == 0) {
				return json_string(text);
			}
			n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", shape->values[i]);
		}
		problem_set(problem, 400, "wrong-type", path, text, "must be one of %s", names);
		return NULL;
	}
	json_t *json = json_string(text);
	if (!json) {
		problem_set(problem, 400, "wrong-type", path, NULL, "must be UTF-8 text");
	}
	return json;
}

// Calls for each part of `text` between separators; the part is a copy.
static json_t *list_from_text(enum resource_kind kind, const char *path, const char *text, char separator,
                              struct problem *problem);

// "destination=…,nextHopId=…": what a user may give of the messages at `path`.
static void members_wanted(enum resource_kind kind, const char *path, char *out, size_t capacity)
{
	size_t count = 0, length = strlen(path);
	const struct field_rule *rules = field_rules_of(kind, &count);
	*out = '\0';
	for (size_t i = 0; i < count; i++) {
		const char *rest = rules[i].path + length;
		size_t used = strlen(out);
		if (strncmp(rules[i].path, path, length) == 0 && *rest == '.' && !strchr(rest + 1, '.') &&
		    !(rules[i].flags & FIELD_OUTPUT)) {
			snprintf(out + used, capacity - used, "%s%s=…", used ? "," : "", rest + 1);
		}
	}
}

static json_t *message_from_text(enum resource_kind kind, const char *path, const char *text, struct problem *problem)
{
	json_t *object = json_object();
	while (*text && object) {
		size_t length = strcspn(text, ","), equals = strcspn(text, "=");
		if (equals >= length) {
			char wanted[160];
			members_wanted(kind, path, wanted, sizeof wanted);
			problem_set(problem, 400, "wrong-type", path, text, "must be %s", wanted);
			json_decref(object);
			return NULL;
		}
		char *inner = format_text("%s.%.*s", path, (int)equals, text);
		char *value = format_text("%.*s", (int)(length - equals - 1), text + equals + 1);
		struct field_shape shape = field_shape_of(kind, inner);
		json_t *json = NULL;
		if (shape.type == TYPE_NONE || shape.type == TYPE_MESSAGE) {
			problem_set(problem, 400, "unknown-field", inner, NULL, "there is no such field");
		} else if (shape.list) {
			json = list_from_text(kind, inner, value, '+', problem);
		} else {
			json = item_from_text(&shape, inner, value, problem);
		}
		if (json) {
			json_object_set_new(object, strrchr(inner, '.') + 1, json);
		} else {
			json_decref(object);
			object = NULL;
		}
		free(inner);
		free(value);
		text += length + (text[length] == ',');
	}
	return object;
}

static json_t *list_from_text(enum resource_kind kind, const char *path, const char *text, char separator,
                              struct problem *problem)
{
	struct field_shape shape = field_shape_of(kind, path);
	const char separators[] = {separator, '\0'};
	json_t *list = json_array();
	while (*text && list) {
		size_t length = strcspn(text, separators);
		char *part = format_text("%.*s", (int)length, text);
		json_t *item = shape.type == TYPE_MESSAGE ? message_from_text(kind, path, part, problem)
		                                          : item_from_text(&shape, path, part, problem);
		free(part);
		if (item) {
			json_array_append_new(list, item);
		} else {
			json_decref(list);
			list = NULL;
		}
		text += length + (text[length] == separator);
	}
	return list;
}

static json_t *from_text(enum resource_kind kind, const char *path, const char *text, struct problem *problem)
{
	struct field_shape shape = field_shape_of(kind, path);
	if (shape.type == TYPE_NONE || (shape.type == TYPE_MESSAGE && !shape.list)) {
		problem_set(problem, 400, "unknown-field", path, NULL, "there is no such field");
		return NULL;
	}
	if (!shape.list) {
		return item_from_text(&shape, path, text, problem);
	}
	if (shape.type == TYPE_MESSAGE && *text == '[') {
		json_error_t error;
		json_t *list = json_loads(text, JSON_REJECT_DUPLICATES, &error);
		if (!list) {
			problem_set(problem, 400, "bad-json", path, NULL, "is not JSON: %s", error.text);
		}
		return list;
	}
	return list_from_text(kind, path, text, shape.type == TYPE_MESSAGE ? ';' : ',', problem);
}

bool json_set_from_text(json_t *object, enum resource_kind kind, const char *path, const char *text, struct problem *problem)
{
	json_t *value = from_text(kind, path, text, problem);
	if (!value) {
		return false;
	}
	for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
		char *name = format_text("%.*s", (int)(dot - path), path);
		json_t *inner = json_object_get(object, name);
		if (!inner) {
			inner = json_object();
			json_object_set_new(object, name, inner);
		}
		free(name);
		object = inner;
	}
	return json_object_set_new(object, path, value) == 0;
}
