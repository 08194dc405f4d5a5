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
	bool esp_at_once, esp_later; // what was taken and not published yet: rows that esp needs at once, other rows for esp,
	bool others_later;           // rows for others
	struct deadline put_off;     // when it is published at the latest
	bool started, tunnels_known;
};

enum { STATE_KEY_TEXT = 17 };
char *key_of_state(uint64_t spi, char out[static STATE_KEY_TEXT]);

// ---- bus_publish.c ----
void publish(void *bus); // all that was taken and not published yet

// ---- bus_tunnel.c ----
extern const struct feed_kind feed_of_tunnels, feed_of_secrets; // their context is the struct ike_bus

#endif
