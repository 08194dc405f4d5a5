// See record.h: paths over the fields of field.h.
#include "proto/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "proto/field.h"

static ProtobufCMessage *message_of(const struct record *record)
{
	return (ProtobufCMessage *)(uintptr_t)record;
}

static struct record *record_of(ProtobufCMessage *message)
{
	return (struct record *)message;
}

struct record *record_new(enum resource_kind kind)
{
	return record_of(message_new(kind_rules[kind].descriptor));
}

void record_free(struct record **record)
{
	if (*record) {
		protobuf_c_message_free_unpacked(message_of(*record), NULL);
		*record = NULL;
	}
}

enum resource_kind record_kind(const struct record *record)
{
	size_t kind = 0;
	while (kind < RESOURCE_KINDS && kind_rules[kind].descriptor != message_of(record)->descriptor) {
		kind++;
	}
	return (enum resource_kind)kind;
}

size_t record_packed_size(const struct record *record)
{
	return protobuf_c_message_get_packed_size(message_of(record));
}

size_t record_pack(const struct record *record, uint8_t *out)
{
	return protobuf_c_message_pack(message_of(record), out);
}

struct record *record_unpack(enum resource_kind kind, struct bytes packed)
{
	return record_of(protobuf_c_message_unpack(kind_rules[kind].descriptor, NULL, packed.length, packed.data));
}

static struct bytes packed_of(const struct record *record)
{
	size_t size = record_packed_size(record);
	uint8_t *octets = allocate(size + 1);
	record_pack(record, octets);
	return (struct bytes){octets, size};
}

struct record *record_copy(const struct record *record)
{
	struct bytes packed = packed_of(record);
	ProtobufCMessage *copy = protobuf_c_message_unpack(message_of(record)->descriptor, NULL, packed.length, packed.data);
	free((void *)(uintptr_t)packed.data);
	if (!copy) {
		abort(); // only for want of memory
	}
	return record_of(copy);
}

bool record_equal(const struct record *a, const struct record *b)
{
	struct bytes first = packed_of(a), second = packed_of(b);
	bool equal = bytes_equal(first, second);
	free((void *)(uintptr_t)first.data);
	free((void *)(uintptr_t)second.data);
	return equal;
}

// ---- paths ----
struct place {
	ProtobufCMessage *message; // NULL: a message on the way is not there
	const ProtobufCFieldDescriptor *field;
};

static struct place find(const struct record *record, const char *path, bool make)
{
	ProtobufCMessage *message = message_of(record);
	const ProtobufCMessageDescriptor *descriptor = message->descriptor;
	for (;;) {
		size_t length = strcspn(path, ".");
		const ProtobufCFieldDescriptor *field = field_by_json_name(descriptor, path, length);
		if (!field || (path[length] && (field_type(field) != TYPE_MESSAGE || field_is_list(field)))) {
			abort(); // a path that is not in resource.proto: ours, never a user's
		}
		if (!path[length]) {
			return (struct place){message, field};
		}
		if (message) {
			message = field_present(message, field) ? field_message(message, field, 0)
			          : make                        ? field_add_message(message, field)
			                                        : NULL;
		}
		descriptor = field->descriptor;
		path += length + 1;
	}
}

static size_t count_at(struct place place)
{
	return place.message ? field_count(place.message, place.field) : 0;
}

bool record_has(const struct record *record, const char *path)
{
	return count_at(find(record, path, false)) > 0;
}

size_t record_count(const struct record *record, const char *path)
{
	return count_at(find(record, path, false));
}

const char *record_text_at(const struct record *record, const char *path, size_t index)
{
	struct place place = find(record, path, false);
	return index < count_at(place) ? field_text(place.message, place.field, index) : "";
}

uint64_t record_number_at(const struct record *record, const char *path, size_t index)
{
	struct place place = find(record, path, false);
	return index < count_at(place) ? field_number(place.message, place.field, index) : 0;
}

const struct record *record_at(const struct record *record, const char *path, size_t index)
{
	struct place place = find(record, path, false);
	return index < count_at(place) ? record_of(field_message(place.message, place.field, index)) : NULL;
}

const char *record_text(const struct record *record, const char *path)
{
	return record_text_at(record, path, 0);
}

uint64_t record_number(const struct record *record, const char *path)
{
	return record_number_at(record, path, 0);
}

bool record_flag(const struct record *record, const char *path)
{
	return record_number_at(record, path, 0) != 0;
}

bool record_is(const struct record *record, const char *path, const char *text)
{
	return strcmp(record_text(record, path), text) == 0;
}

// ---- writing ----
static void add_text(struct place place, const char *text)
{
	int value;
	if (field_type(place.field) == TYPE_TEXT) {
		field_add_text(place.message, place.field, text);
	} else if (enum_by_json_name(place.field->descriptor, text, &value)) {
		field_add_number(place.message, place.field, (uint64_t)value);
	} else {
		abort(); // a name that the enum does not have: ours, never a user's
	}
}

void record_clear(struct record *record, const char *path)
{
	struct place place = find(record, path, false);
	if (place.message) {
		field_clear(place.message, place.field);
	}
}

void record_set_text(struct record *record, const char *path, const char *text)
{
	add_text(find(record, path, true), text);
}

void record_set_number(struct record *record, const char *path, uint64_t number)
{
	struct place place = find(record, path, true);
	field_add_number(place.message, place.field, number);
}

void record_set_flag(struct record *record, const char *path, bool flag)
{
	record_set_number(record, path, flag);
}

void record_append_text(struct record *record, const char *path, const char *text)
{
	add_text(find(record, path, true), text);
}

void record_append_number(struct record *record, const char *path, uint64_t number)
{
	record_set_number(record, path, number);
}

struct record *record_append(struct record *record, const char *path)
{
	struct place place = find(record, path, true);
	return record_of(field_add_message(place.message, place.field));
}

struct record *record_item(struct record *record, const char *path, size_t index)
{
	return (struct record *)(uintptr_t)record_at(record, path, index);
}

void record_remove_at(struct record *record, const char *path, size_t index)
{
	struct place place = find(record, path, false);
	if (index < count_at(place)) {
		field_remove_at(place.message, place.field, index);
	}
}

static void add_from_text(struct place place, const char *text)
{
	switch (field_type(place.field)) {
	case TYPE_NUMBER:
		field_add_number(place.message, place.field, strtoull(text, NULL, 10));
		break;
	case TYPE_FLAG:
		field_add_number(place.message, place.field, strcmp(text, "true") == 0);
		break;
	default:
		add_text(place, text);
		break;
	}
}

void record_set_from_text(struct record *record, const char *path, const char *text)
{
	struct place place = find(record, path, true);
	field_clear(place.message, place.field);
	if (!field_is_list(place.field)) {
		add_from_text(place, text);
		return;
	}
	while (*text) {
		size_t length = strcspn(text, ",");
		char *item = format_text("%.*s", (int)length, text);
		add_from_text(place, item);
		free(item);
		text += length + (text[length] == ',');
	}
}

static void copy_item(ProtobufCMessage *into, const ProtobufCMessage *from, const ProtobufCFieldDescriptor *field, size_t index)
{
	switch (field_type(field)) {
	case TYPE_TEXT:
		field_add_text(into, field, field_text(from, field, index));
		break;
	case TYPE_MESSAGE: {
		ProtobufCMessage *inner = !field_is_list(field) && field_present(into, field) ? field_message(into, field, 0)
		                                                                              : field_add_message(into, field);
		record_merge(record_of(inner), record_of(field_message(from, field, index)));
		break;
	}
	default:
		field_add_number(into, field, field_number(from, field, index));
		break;
	}
}

void record_merge(struct record *into, const struct record *from)
{
	const ProtobufCMessage *source = message_of(from);
	for (unsigned i = 0; i < source->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &source->descriptor->fields[i];
		size_t count = field_count(source, field);
		if (count > 0 && field_is_list(field)) {
			field_clear(message_of(into), field);
		}
		for (size_t index = 0; index < count; index++) {
			copy_item(message_of(into), source, field, index);
		}
	}
}

// ---- walking ----
static bool walk(const ProtobufCMessage *message, const char *path, const char *above, record_value_fn *fn, void *context)
{
	size_t length = strcspn(path, ".");
	const ProtobufCFieldDescriptor *field = field_by_json_name(message->descriptor, path, length);
	if (!field || (path[length] && field_type(field) != TYPE_MESSAGE)) {
		abort(); // as in find
	}
	for (size_t i = 0, count = field_count(message, field); i < count; i++) {
		struct record_value value = {.is_text = field_type(field) == TYPE_TEXT};
		char index[32] = "";
		if (field_is_list(field)) {
			snprintf(index, sizeof index, "[%zu]", i);
		}
		snprintf(value.place, sizeof value.place, "%s%s%.*s%s", above, *above ? "." : "", (int)length, path, index);
		if (path[length]) {
			if (!walk(field_message(message, field, i), path + length + 1, value.place, fn, context)) {
				return false;
			}
			continue;
		}
		enum field_type type = field_type(field);
		value.text = type == TYPE_TEXT || type == TYPE_ENUM ? field_text(message, field, i) : NULL;
		value.number = type == TYPE_TEXT || type == TYPE_MESSAGE ? 0 : field_number(message, field, i);
		if (!fn(context, &value)) {
			return false;
		}
	}
	return true;
}

bool record_walk(const struct record *record, const char *path, record_value_fn *fn, void *context)
{
	return walk(message_of(record), path, "", fn, context);
}

// ---- what the descriptor says of a path (resource_rules.h) ----
struct field_shape field_shape_of(enum resource_kind kind, const char *path)
{
	struct field_shape shape = {0};
	const ProtobufCMessageDescriptor *descriptor = kind_rules[kind].descriptor;
	for (;;) {
		size_t length = strcspn(path, ".");
		const ProtobufCFieldDescriptor *field = field_by_json_name(descriptor, path, length);
		if (!field || (path[length] && field_type(field) != TYPE_MESSAGE)) {
			return (struct field_shape){0};
		}
		if (path[length]) {
			descriptor = field->descriptor;
			path += length + 1;
			continue;
		}
		shape.type = field_type(field);
		shape.list = field_is_list(field);
		shape.largest = shape.type == TYPE_NUMBER ? field_largest(field) : 0;
		if (shape.type == TYPE_ENUM) {
			const ProtobufCEnumDescriptor *values = field->descriptor;
			for (unsigned i = 0; i < values->n_values && i < sizeof shape.values / sizeof shape.values[0]; i++) {
				shape.values[shape.value_count++] = enum_json_name(values, values->values[i].value);
			}
		}
		return shape;
	}
}
