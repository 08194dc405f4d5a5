// The dataplane's threads: each reads its queues of every vpn0 and its ESP sockets, runs the core over what came, and sends and
// writes what it gave, to the end, before it reads again. Once it runs, a thread has no privilege left (net_privilege.h).
#ifndef TWINSPAN_ESP_NET_WORKER_H
#define TWINSPAN_ESP_NET_WORKER_H

#include "common/io/loop.h"
#include "services/esp/esp.h"
#include "services/esp/net_gateway.h"
#include "services/esp/net_sockets.h"

struct workers;

// What the threads have to tell, called on the loop.
struct workers_hooks {
	// Somebody removed this border gateway's vpn0. Its queues are dead: workers_gateway_down, and up again with a new one.
	void (*lost)(void *context, const char *id);
	// Something was counted since workers_rested was called last.
	void (*moved)(void *context);
	void *context;
};

// Starts `count` threads. `sockets` stay the caller's and must outlive them. NULL with errno.
struct workers *workers_new(struct esp *esp, struct loop *loop, unsigned count, const struct node_sockets *sockets,
                            const struct workers_hooks *hooks);
void workers_free(struct workers **workers); // waits for the threads' ends
// From now on the next packet calls `moved`. Before that it has been called once, and packets cost no call.
void workers_rested(struct workers *workers);

// Opens one queue per worker and tells the core of the gateway; or only tells it again. false with errno.
bool workers_gateway_up(struct workers *workers, const char *id, struct gateway *gateway, bool allow_transit);
// Takes the queues away: on return no worker uses them.
void workers_gateway_down(struct workers *workers, const char *id);

#endif
