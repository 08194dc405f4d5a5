// Resources as JSON, driven by the descriptors of resource.proto: camelCase names, enum values without their prefix, 64-bit
// numbers as JSON numbers. Reading refuses an unknown field, a wrong type and a number that the field cannot hold, each by
// name; whether the value is allowed is the rules' business (resource_rules.h), not this file's.
#ifndef TWINSPAN_PROTO_MESSAGE_JSON_H
#define TWINSPAN_PROTO_MESSAGE_JSON_H

#include "proto/problem.h"
#include "proto/record.h"
#include <jansson.h>

// NULL and a problem (400, type "unknown-field", "wrong-type", "not-an-object") when it can't. `cleared` (fields given as null
// or as an empty list) may be NULL.
struct record *record_from_json(enum resource_kind kind, const json_t *json, struct cleared *cleared, struct problem *problem);
// Every field that is there, in the message's order; secrets too: the caller has cleared what must not be shown.
json_t *record_to_json(const struct record *record);
json_t *problem_to_json(const struct problem *problem); // RFC 9457

// For a command line: sets the field at `path` in `object` (made on the way) from a flag's text. Lists: items separated by
// commas. Lists of messages: "name=value,name=value", several separated by ";", a list inside by "+"; or JSON text beginning
// with "[". false and a problem when the text is not of the field's type.
bool json_set_from_text(json_t *object, enum resource_kind kind, const char *path, const char *text, struct problem *problem);

#endif
