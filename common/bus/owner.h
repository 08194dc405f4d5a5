// The owner's side of the table protocol: peers, the streams they opened, admission by the matrix, credit. No sockets, no
// clock: frames come in with the peer they are from, frames go out through `send`, and `bus_owner_tick` says that a second has
// passed.
#ifndef TWINSPAN_BUS_OWNER_H
#define TWINSPAN_BUS_OWNER_H

#include "common/base/bytes.h"

struct bus_owner;
struct table;

struct bus_owner_world {
	// Hands a frame to the transport, which never blocks. false: the peer is not there any more.
	bool (*send)(void *context, struct bytes peer, struct bytes frame);
	// To be counted and logged. `table` is a name of the matrix or "unknown".
	void (*refused)(void *context, const char *reader, const char *table, const char *reason);
	void (*dropped)(void *context, const char *reader, const char *reason);
	// A row of a table that says where tunnels are was put, or removed (`node` NULL). May be NULL.
	void (*placed)(void *context, struct bytes tunnel, const char *node);
	// bus_owner_settle wants to be called when the stack is empty.
	void (*unsettled)(void *context);
	void (*question)(void *context, struct bytes peer, const char *asker, const char *name, struct bytes body, uint64_t id,
	                 uint64_t deadline_ms);
	void *context;
};

struct bus_owner *bus_owner_new(const char *identity, uint64_t epoch, const struct bus_owner_world *world);
void bus_owner_free(struct bus_owner **owner);
// NULL when the matrix does not give the table to this identity.
struct table *bus_owner_table(struct bus_owner *owner, const char *name);
// `peer` is the transport's name of the connection, `reader` the identity that its key proved.
void bus_owner_receive(struct bus_owner *owner, struct bytes peer, const char *reader, struct bytes frame);
void bus_owner_tick(struct bus_owner *owner);
// A connection ended, it is not known whose: every peer is tried now, so that the one that is gone is noticed.
void bus_owner_probe(struct bus_owner *owner);
// Lets go of peers that are gone and makes the calls of table_on_applied.
void bus_owner_settle(struct bus_owner *owner);
size_t bus_owner_streams(const struct bus_owner *owner);
// The identity's key was revoked: all its connections are told, and not served any more.
void bus_owner_forget(struct bus_owner *owner, const char *reader);
bool bus_owner_answer(struct bus_owner *owner, struct bytes peer, uint64_t id, const char *error, struct bytes body);

#endif
