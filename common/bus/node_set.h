// The gateway nodes of the region and what their services say: follows the rows of `node`, and for each node the tables that
// the service reads of it; judges a node's silence once, from its services.
#ifndef TWINSPAN_BUS_NODE_SET_H
#define TWINSPAN_BUS_NODE_SET_H

#include "common/bus/feed.h"
#include "proto/resource.pb-c.h"

enum { NODE_INPUTS_MAX = 8 };

struct node_input {          // a table that is read of every node
	const char *service; // "ike": of the owner "ike.<node>"
	const struct feed_kind *kind;
};

struct node_set_settings {
	struct loop *loop;
	struct bus *bus;
	const struct node_input *inputs; // at most NODE_INPUTS_MAX; must outlive the set
	size_t input_count;
	// A node all of whose services have been silent for so long is gone. 0: it is as soon as they are, once one was heard.
	duration timeout;
	// All below are called with `context` and may be NULL. `row` is NULL when the node is no more, after its services' rows
	// have been taken back; returns why the row is of no use, or NULL.
	const char *(*row)(void *context, const char *id, const Twinspan__Node *row);
	void (*gone)(void *context, const char *id, bool gone); // when the judgement changes
	void (*settled)(void *context);                         // after each change of the node rows, and of the judgement
	loop_fn *state;                                         // a first snapshot is whole, or an owner's liveness changed
	void *context;
};

struct node_set;
struct node_set *node_set_new(const struct node_set_settings *settings);
void node_set_free(struct node_set **set);              // what the nodes' services said is dropped without a call
bool node_set_has_snapshot(const struct node_set *set); // of the node rows themselves
// Has every node's every table had its first snapshot, or been waited for long enough since the node was known: `absent` where
// the owner is not there, `silent` where it lives and does not call its table complete.
bool node_set_heard(const struct node_set *set, duration absent, duration silent);

#endif
