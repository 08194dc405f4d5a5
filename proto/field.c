// See field.h. The layout is protobuf-c's: a field at `offset`, its presence or its count at `quantifier_offset`.
#include "proto/field.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

char *field_json_name(const char *name, char out[static FIELD_NAME])
{
	size_t n = 0;
	for (bool upper = false; *name && n + 1 < FIELD_NAME; name++) {
		if (*name == '_') {
			upper = true;
			continue;
		}
		out[n++] = upper ? (char)toupper((unsigned char)*name) : *name;
		upper = false;
	}
	out[n] = '\0';
	return out;
}

// Whether `json` is the lowerCamelCase of `name`. Rules scan many rows by path: this compares without building anything.
static bool is_json_name(const char *name, const char *json, size_t length)
{
	for (size_t i = 0; i < length; i++, name++) {
		char wanted = *name;
		if (wanted == '_') {
			wanted = (char)toupper((unsigned char)*++name);
		}
		if (wanted != json[i] || wanted == '\0') {
			return false;
		}
	}
	return *name == '\0';
}

const ProtobufCFieldDescriptor *field_by_json_name(const ProtobufCMessageDescriptor *descriptor, const char *name,
                                                   size_t length)
{
	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		if (is_json_name(descriptor->fields[i].name, name, length)) {
			return &descriptor->fields[i];
		}
	}
	return NULL;
}

// The octets that "NextHopType" takes as the prefix "NEXT_HOP_TYPE_".
static size_t enum_prefix(const ProtobufCEnumDescriptor *descriptor)
{
	size_t n = 1;
	for (const char *c = descriptor->short_name; *c; c++) {
		n += c != descriptor->short_name && isupper((unsigned char)*c) ? 2 : 1;
	}
	return n;
}

const char *enum_json_name(const ProtobufCEnumDescriptor *descriptor, int value)
{
	const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(descriptor, value);
	return found ? found->name + enum_prefix(descriptor) : NULL;
}

bool enum_by_json_name(const ProtobufCEnumDescriptor *descriptor, const char *name, int *value)
{
	for (unsigned i = 0; i < descriptor->n_values; i++) {
		if (strcmp(descriptor->values[i].name + enum_prefix(descriptor), name) == 0) {
			*value = descriptor->values[i].value;
			return true;
		}
	}
	return false;
}

enum field_type field_type(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return TYPE_TEXT;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_UINT64:
		return TYPE_NUMBER;
	case PROTOBUF_C_TYPE_BOOL:
		return TYPE_FLAG;
	case PROTOBUF_C_TYPE_ENUM:
		return TYPE_ENUM;
	case PROTOBUF_C_TYPE_MESSAGE:
		return TYPE_MESSAGE;
	default:
		return TYPE_NONE;
	}
}

bool field_is_list(const ProtobufCFieldDescriptor *field)
{
	return field->label == PROTOBUF_C_LABEL_REPEATED;
}

uint64_t field_largest(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_UINT64 ? INT64_MAX : UINT32_MAX;
}

static void *at(const ProtobufCMessage *message, size_t offset)
{
	return (char *)(uintptr_t)message + offset;
}

static size_t *count_of(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return at(message, field->quantifier_offset);
}

static size_t item_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(int);
	default:
		return sizeof(void *);
	}
}

size_t field_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	if (field_is_list(field)) {
		return *count_of(message, field);
	}
	if (item_size(field) == sizeof(void *) &&
	    (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE)) {
		return *(void **)at(message, field->offset) != NULL;
	}
	return *(protobuf_c_boolean *)at(message, field->quantifier_offset) != 0;
}

bool field_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return field_count(message, field) > 0;
}

static void *item_at(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	if (!field_is_list(field)) {
		return at(message, field->offset);
	}
	return *(char **)at(message, field->offset) + index * item_size(field);
}

uint64_t field_number(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	const void *item = item_at(message, field, index);
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
		return *(const uint32_t *)item;
	case PROTOBUF_C_TYPE_UINT64:
		return *(const uint64_t *)item;
	case PROTOBUF_C_TYPE_BOOL:
		return *(const protobuf_c_boolean *)item != 0;
	case PROTOBUF_C_TYPE_ENUM:
		return (uint64_t) * (const int *)item;
	default:
		return 0;
	}
}

const char *field_text(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	if (field->type == PROTOBUF_C_TYPE_ENUM) {
		const char *name = enum_json_name(field->descriptor, *(const int *)item_at(message, field, index));
		return name ? name : "";
	}
	return *(char **)item_at(message, field, index);
}

ProtobufCMessage *field_message(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	return *(ProtobufCMessage **)item_at(message, field, index);
}

// The place for one more item of a list, or a single field's own place, marked as there.
static void *place_for(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	if (field_is_list(field)) {
		size_t *count = count_of(message, field);
		void **items = at(message, field->offset);
		*items = reallocate(*items, *count + 1, item_size(field));
		return (char *)*items + (*count)++ * item_size(field);
	}
	field_clear(message, field);
	if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
		*(protobuf_c_boolean *)at(message, field->quantifier_offset) = 1;
	}
	return at(message, field->offset);
}

void field_add_number(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, uint64_t number)
{
	void *place = place_for(message, field);
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
		*(uint32_t *)place = (uint32_t)number;
		break;
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)place = number;
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)place = number != 0;
		break;
	case PROTOBUF_C_TYPE_ENUM:
		*(int *)place = (int)number;
		break;
	default:
		break;
	}
}

void field_add_text(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const char *text)
{
	char *copy = duplicate_text(text); // before the old value goes: `text` may be it
	*(char **)place_for(message, field) = copy;
}

ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *descriptor)
{
	ProtobufCMessage *message = allocate(descriptor->sizeof_message);
	protobuf_c_message_init(descriptor, message);
	return message;
}

ProtobufCMessage *field_add_message(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	ProtobufCMessage *inner = message_new(field->descriptor);
	*(ProtobufCMessage **)place_for(message, field) = inner;
	return inner;
}

static void free_item(const ProtobufCFieldDescriptor *field, void *item)
{
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		free(*(char **)item);
		*(char **)item = NULL;
	} else if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage **)item) {
		protobuf_c_message_free_unpacked(*(ProtobufCMessage **)item, NULL);
		*(ProtobufCMessage **)item = NULL;
	}
}

void field_clear(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	if (!field_is_list(field)) {
		if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE) {
			free_item(field, at(message, field->offset));
		} else {
			*(protobuf_c_boolean *)at(message, field->quantifier_offset) = 0;
		}
		return;
	}
	for (size_t i = 0; i < *count_of(message, field); i++) {
		free_item(field, item_at(message, field, i));
	}
	void **items = at(message, field->offset);
	free(*items);
	*items = NULL;
	*count_of(message, field) = 0;
}

void field_remove_at(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
	size_t *count = count_of(message, field);
	char *item = item_at(message, field, index);
	free_item(field, item);
	memmove(item, item + item_size(field), (*count - index - 1) * item_size(field));
	if (--*count == 0) {
		field_clear(message, field);
	}
}
