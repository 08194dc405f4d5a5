// A table of another service, row by row as messages: what every service does with a replica's changes before its core sees
// them. The key is read, the message unpacked; a row that is of no use is counted (twinspan_bus_unusable_rows_total), logged,
// and taken as one that is not there.
#ifndef TWINSPAN_BUS_FEED_H
#define TWINSPAN_BUS_FEED_H

#include "common/bus/row.h"

struct feed;

// How one table is taken. The functions are called with the context that was given to feed_new.
struct feed_kind {
	const char *table;
	const ProtobufCMessageDescriptor *descriptor;
	// `message` is NULL when the row is gone. Returns NULL, or why the row is of no use: then it is called once more, with
	// NULL. A kind without it follows the owner's liveness only.
	const char *(*take)(void *context, const struct row_key *key, const void *message);
	void (*settled)(void *context); // after each whole change; may be NULL
};

// Follows the table of `kind` at `owner` ("ike.node-a"); `filter` as for replica_new. `kind` must outlive the feed.
struct feed *feed_new(struct bus *bus, const char *owner, const struct feed_kind *kind, const char *filter, void *context);
// "" is a key of this table too. To be called before the loop runs.
void feed_take_empty_key(struct feed *feed);
// The rows it gave are taken back, as if the owner had removed them, and it ends. `settled` is not called.
void feed_withdraw(struct feed **feed);
void feed_free(struct feed **feed); // neither this nor feed_withdraw in a callback of its own
bool feed_has_snapshot(const struct feed *feed);
bool feed_owner_alive(const struct feed *feed);
void feed_on_state(struct feed *feed, loop_fn *fn, void *context); // bus.h, replica_on_state
struct replica *feed_replica(struct feed *feed);

#endif
