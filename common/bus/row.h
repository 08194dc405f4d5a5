// Rows as messages: what a service publishes is packed and put here, and a row's key is taken apart.
#ifndef TWINSPAN_BUS_ROW_H
#define TWINSPAN_BUS_ROW_H

#include <protobuf-c/protobuf-c.h>

#include "common/bus/bus.h"

// Packs `message` and puts it under `key` (bus.h, table_put). What was packed of a table that holds keys is wiped.
void row_put(struct table *table, const char *scope, struct bytes key, const ProtobufCMessage *message);

enum { ROW_KEY_TEXT = 512 }; // octets of the longest key of any table, with a final zero

// A key as text: "<id>" or "<id>/<rest>" (proto/README.md).
struct row_key {
	char text[ROW_KEY_TEXT]; // the whole key
	char id[ROW_KEY_TEXT];   // what stands before the first '/'
	const char *rest;        // what stands after it, in `text`; "" when there is none
};
// false: empty, too long, or with a zero octet in it.
bool row_key_read(struct bytes key, struct row_key *out);

#endif
