// What the bus_*.c files share: the tables of this process, and those that it follows.
#ifndef TWINSPAN_IKE_BUS_PARTS_H
#define TWINSPAN_IKE_BUS_PARTS_H

#include "common/bus/feed.h"
#include "services/ike/shell.h"

enum { STATES_WAITING_MAX = 256 };

// A saved state that a batch put: only the last of each IKE SA is sealed and published.
struct waiting_state {
	uint64_t key;
	uint8_t *octets; // secret
	size_t length;
};

struct ike_bus {
	struct service *service;
	struct bus *bus;
	char *node, *esp; // "node-a", "esp.node-a"
	struct seal_key seal_key;
	struct sealer *sealer;
	struct table *status, *events, *child_sa, *ike_sa;
	struct feed *held, *usage, *tunnels, *secrets;
	struct deadline restored; // when what an earlier incarnation saved is let go
	struct waiting_state *waiting;
	size_t waiting_count;
	bool started, tunnels_known;
};

enum { STATE_KEY_TEXT = 17 };
char *key_of_state(uint64_t spi, char out[static STATE_KEY_TEXT]);

// ---- bus_tunnel.c ----
extern const struct feed_kind feed_of_tunnels, feed_of_secrets; // their context is the struct ike_bus

#endif
