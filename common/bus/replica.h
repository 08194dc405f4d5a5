// The replica's side of the table protocol: the link to one owner, and the tables that are followed over it. No sockets, no
// clock: frames come in, frames go out through `send`, `bus_link_tick` says that a second has passed, `bus_link_up` and
// `bus_link_down` what the connection does. The functions replica_… of bus.h but for replica_new are here.
#ifndef TWINSPAN_BUS_REPLICA_H
#define TWINSPAN_BUS_REPLICA_H

#include "common/base/map.h"
#include "common/bus/admission.h"
#include "common/bus/bus.h"

struct bus_link;

struct bus_link_world {
	void (*send)(void *context, struct bytes frame);
	void (*refused)(void *context, const char *table, const char *reason);
	void (*dropped)(void *context, const char *reason);
	// The first snapshot of a replica is whole.
	void (*ready)(void *context, const char *table, bool ready);
	// The verdict on a row (admission.h). NULL: all are shown.
	enum row_verdict (*judge)(void *context, const char *table, struct bytes key);
	// Before a service is shown a change of a table that says where tunnels are. May be NULL.
	void (*placed)(void *context, const struct replica_row *rows, size_t count);
	void (*answer)(void *context, uint64_t id, const char *error, struct bytes body);
	void *context;
};

// `first_stream`: a random number, so that the streams of this process are not those of the one before it.
struct bus_link *bus_link_new(uint64_t first_stream, const struct bus_link_world *world);
void bus_link_free(struct bus_link **link); // and its replicas
void bus_link_up(struct bus_link *link);
void bus_link_down(struct bus_link *link);
bool bus_link_is_up(const struct bus_link *link);
void bus_link_receive(struct bus_link *link, struct bytes frame);
// Tunnels are placed anew: what is held of them and was not shown is looked at again, and of one that has moved what was shown.
// Each of `tunnels` (id → true when it moved, else NULL).
void bus_link_reconsider(struct bus_link *link, const struct map *tunnels);
void bus_link_tick(struct bus_link *link);
struct replica *bus_link_replica(struct bus_link *link, const char *table, const char *filter, replica_fn *changed,
                                 void *context);
void bus_link_ask(struct bus_link *link, uint64_t id, const char *name, struct bytes body, uint64_t deadline_ms);

// For tests and diagnosis: the rows as they are held.
size_t replica_count(const struct replica *replica);
bool replica_find(const struct replica *replica, struct bytes key, struct bytes *value);
// All of them; nothing may be changed in the call.
void replica_each(const struct replica *replica, void (*visit)(void *context, struct bytes key, struct bytes value),
                  void *context);
uint64_t replica_epoch(const struct replica *replica);
uint64_t replica_sequence(const struct replica *replica);

#endif
