// One field of a protobuf-c message, found by its JSON name: what record.c and message_json.c share. Only the types that
// resource.proto uses are known: text, 32- and 64-bit unsigned numbers, flags, enums, messages, and lists of all but flags.
#ifndef TWINSPAN_PROTO_FIELD_H
#define TWINSPAN_PROTO_FIELD_H

#include "proto/resource_rules.h"
#include <protobuf-c/protobuf-c.h>

enum { FIELD_NAME = 64 };

// The lowerCamelCase of a proto name. `out` holds FIELD_NAME characters.
char *field_json_name(const char *name, char out[static FIELD_NAME]);
const ProtobufCFieldDescriptor *field_by_json_name(const ProtobufCMessageDescriptor *descriptor, const char *name,
                                                   size_t length);
// An enum value's name without the enum's prefix; NULL for a number that it does not have.
const char *enum_json_name(const ProtobufCEnumDescriptor *descriptor, int value);
bool enum_by_json_name(const ProtobufCEnumDescriptor *descriptor, const char *name, int *value);

enum field_type field_type(const ProtobufCFieldDescriptor *field);
bool field_is_list(const ProtobufCFieldDescriptor *field);
uint64_t field_largest(const ProtobufCFieldDescriptor *field);                              // of a number
bool field_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field); // a list: not empty
size_t field_count(const ProtobufCMessage *message,
                   const ProtobufCFieldDescriptor *field); // of a list; of another field 0 or 1

// The value at `index` of a list, or (index 0) of a single field, which must be there. `field_number` is for numbers, flags and
// enums.
uint64_t field_number(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index);
const char *field_text(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index);
ProtobufCMessage *field_message(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index);

// Set a single field, or append to a list. Text is copied; a message is made empty and returned.
void field_add_number(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, uint64_t number);
void field_add_text(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const char *text);
ProtobufCMessage *field_add_message(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
void field_clear(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
void field_remove_at(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index);
ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *descriptor);

#endif
