// A resource, or a message inside one, without its generated type: fields are reached by JSON path ("ike.lifetimeSeconds").
// It lets the core of `resource` work on rows without knowing protobuf; what is behind a record is the message of
// resource.proto. A path that the message does not have is a programming error and ends the process; paths never come from a
// user.
#ifndef TWINSPAN_PROTO_RECORD_H
#define TWINSPAN_PROTO_RECORD_H

#include "common/base/bytes.h"
#include "proto/resource_rules.h"

struct record;

// Fields that were given as null (back to the default) or as an empty list: a message cannot tell these from absent ones.
enum { CLEARED_LIMIT = 64 };
struct cleared {
	size_t count;
	struct {
		char path[96];
		bool empty_list;
	} fields[CLEARED_LIMIT];
};

struct record *record_new(enum resource_kind kind);
struct record *record_copy(const struct record *record);
void record_free(struct record **record);
enum resource_kind record_kind(const struct record *record); // of a whole resource; RESOURCE_KINDS for a message inside one
bool record_equal(const struct record *a, const struct record *b);

// ---- reading. Absent: false, "", 0 ----
bool record_has(const struct record *record, const char *path);         // for a list: it is not empty
const char *record_text(const struct record *record, const char *path); // of an enum: its JSON name
uint64_t record_number(const struct record *record, const char *path);
bool record_flag(const struct record *record, const char *path);
bool record_is(const struct record *record, const char *path, const char *text); // text or enum name
size_t record_count(const struct record *record, const char *path);
const char *record_text_at(const struct record *record, const char *path, size_t index);
uint64_t record_number_at(const struct record *record, const char *path, size_t index);
const struct record *record_at(const struct record *record, const char *path, size_t index); // of a list of messages

// ---- writing. Messages on the way are made ----
void record_set_text(struct record *record, const char *path, const char *text); // of an enum: its JSON name
void record_set_number(struct record *record, const char *path, uint64_t number);
void record_set_flag(struct record *record, const char *path, bool flag);
void record_clear(struct record *record, const char *path);
void record_append_text(struct record *record, const char *path, const char *text);
void record_append_number(struct record *record, const char *path, uint64_t number);
struct record *record_append(struct record *record, const char *path); // an empty message at the end of a list of them
struct record *record_item(struct record *record, const char *path, size_t index); // of a list of messages, to be changed
void record_remove_at(struct record *record, const char *path, size_t index);
// Sets a field from text as rules write it: numbers, true and false, enum names; a list's items separated by commas.
void record_set_from_text(struct record *record, const char *path, const char *text);
// Takes over what `from` has: a field that is there replaces `into`'s; messages are merged field by field; lists are replaced
// whole.
void record_merge(struct record *into, const struct record *from);

// ---- walking: every value below a path, through lists, with the place where it stands ----
struct record_value {
	char place[128];  // "staticRoutes[1].destination"
	const char *text; // of a text, and the name of an enum
	uint64_t number;  // of a number, a flag, an enum
	bool is_text;
};
typedef bool record_value_fn(void *context, const struct record_value *value); // false ends the walk
bool record_walk(const struct record *record, const char *path, record_value_fn *fn, void *context);

// ---- the bus row ----
size_t record_packed_size(const struct record *record);
size_t record_pack(const struct record *record, uint8_t *out);
struct record *record_unpack(enum resource_kind kind, struct bytes packed); // NULL when malformed

#endif
