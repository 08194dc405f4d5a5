// Tables between services (ARCHITECTURE.md, "One bus, one idea: tables"). An owner publishes rows under keys; replicas hold
// them.
//
// Identities: "ike.node-a", "esp.node-a", "bgp.node-a", "vrouter.host-1", "resource", "route"; the part before the dot is the
// service, the part after it the node. Each has a CURVE key pair: TWINSPAN_KEYS names a directory with <identity>.public (all
// of them) and <identity>.secret (its own only), Z85 text of one line. tables.c holds the matrix: which service owns a table,
// which may read it, and whether a reader sees only the rows of its own node. TWINSPAN_BUS names a file of endpoints: a line
// "<identity> <ZeroMQ endpoint>" for each owner.
#ifndef TWINSPAN_BUS_H
#define TWINSPAN_BUS_H

#include "common/base/bytes.h"
#include "common/io/health.h"
#include "common/io/loop.h"

// ---- this process ----
struct bus;
// Reads the keys of `identity`, starts the CURVE authenticator, binds the owner's socket when the endpoints file has a line for
// this identity.
struct bus *bus_new(struct loop *loop, struct health *health, const char *identity);
void bus_free(struct bus **bus);

// ---- owning ----
struct table; // one table that this process owns
// `name` must be owned by this service in the matrix. Nothing is sent to a replica before table_complete.
struct table *table_own(struct bus *bus, const char *name);
// The rows published so far are the whole table: replicas that hold rows of an earlier incarnation may drop what is not here.
void table_complete(struct table *table);
bool table_is_complete(const struct table *table);
// Puts a row in, or changes it (an equal value is no change). `scope` is the node whose services may see it; "" is for all. Key
// and value are copied.
void table_put(struct table *table, const char *scope, struct bytes key, struct bytes value);
void table_remove(struct table *table, struct bytes key);
bool table_has(const struct table *table, struct bytes key); // a row that was put and not removed, committed or not
// Everything put since the last commit becomes visible at once, as one change. Returns the table's sequence after it.
uint64_t table_commit(struct table *table);
uint64_t table_sequence(const struct table *table);
// The sequence that `reader` ("esp.node-a") has applied of this incarnation; 0 when it has none or is not there. Of a TABLE_LAZY
// table it is told up to 30 seconds late.
uint64_t table_applied(const struct table *table, const char *reader);
// Called when an applied mark of any reader moves, and when a reader comes or goes.
void table_on_applied(struct table *table, loop_fn *fn, void *context);

// ---- replicating ----
struct replica;
struct replica_row {
	struct bytes key;
	struct bytes value; // valid during the call
	bool removed;
};
// Called with each whole change. `rows` are the differences to what the replica had: for a snapshot too, rows that are gone
// come as removed and rows that are the same do not come. On return the change counts as applied, unless the callback calls
// replica_hold.
typedef void replica_fn(void *context, const struct replica_row *rows, size_t count);
// `owner` is an identity ("ike.node-a"), `filter` a scope or "". Names what it waits for in /readyz until the first snapshot.
struct replica *replica_new(struct bus *bus, const char *owner, const char *table, const char *filter, replica_fn *changed,
                            void *context);
// The service does its work without it: /readyz does not wait for its first snapshot.
void replica_optional(struct replica *replica);
void replica_free(struct replica **replica); // the rows it held are dropped without a call
bool replica_has_snapshot(const struct replica *replica);
// Connected, and the owner has spoken since. Says nothing about the rows, which stay.
bool replica_owner_alive(const struct replica *replica);
// Called when the first snapshot is whole (also an empty one), and each time the owner's liveness changes.
void replica_on_state(struct replica *replica, loop_fn *fn, void *context);
// Inside `changed`: do not answer "applied" on return; replica_release does it later (the change went to a worker first). The
// sequences are the replica's.
uint64_t replica_hold(struct replica *replica);
void replica_release(struct replica *replica, uint64_t sequence);

// ---- questions ----
typedef void bus_answer_fn(void *context, const char *error, struct bytes body); // error NULL when answered
void bus_ask(struct bus *bus, const char *owner, const char *name, struct bytes body, duration deadline,
             bus_answer_fn *answered, void *context);
struct question; // to be answered once
typedef void bus_question_fn(void *context, const char *asker, struct bytes body, struct question *question);
void bus_on_question(struct bus *bus, const char *name, bus_question_fn *fn, void *context);
void question_answer(struct question *question, const char *error, struct bytes body);

// The endpoint of an identity from TWINSPAN_BUS, or NULL.
const char *bus_endpoint(const struct bus *bus, const char *identity);

#endif
