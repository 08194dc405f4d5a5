// The dataplane's threads: each reads its queues of every vpn0 and its ESP sockets, runs the core over what came, and sends and
// writes what it gave, to the end, before it reads again.
#ifndef TWINSPAN_ESP_NET_WORKER_H
#define TWINSPAN_ESP_NET_WORKER_H

#include "services/esp/esp.h"
#include "services/esp/net_gateway.h"
#include "services/esp/net_sockets.h"

struct workers;

// Starts `count` threads. `sockets` stay the caller's and must outlive them. NULL with errno.
struct workers *workers_new(struct esp *esp, unsigned count, const struct node_sockets *sockets);
void workers_free(struct workers **workers); // waits for the threads' ends
// Opens one queue per worker and tells the core of the gateway; or only tells it again. false with errno.
bool workers_gateway_up(struct workers *workers, const char *id, struct gateway *gateway, bool allow_transit);
// Takes the queues away: on return no worker uses them.
void workers_gateway_down(struct workers *workers, const char *id);

#endif
