// The records of net_wanted.c, which net_kernel.c carries out. One that has to be looked at is in the list of its kind; what
// waits for something that is not known yet is in no list until that comes.
#ifndef TWINSPAN_ESP_NET_WANTED_H
#define TWINSPAN_ESP_NET_WANTED_H

#include "common/base/map.h"
#include "services/esp/net_kernel.h"

// A place in a list; `at` is what points to it, NULL while it is in none.
struct link {
	struct link *next, **at;
};

void link_insert(struct link **list, struct link *link); // nothing when it is in one
void link_remove(struct link *link);                     // nothing when it is in none

enum kind { KIND_GATEWAY, KIND_ADDRESS, KIND_ATTACHMENT, KIND_ROUTE, KINDS }; // in the order in which they are carried out

struct wanted_gateway {
	struct link pending; // first in each of these: a link is its thing
	char *id;
	char **nodes;
	size_t node_count;
	bool known; // its row is there
	bool here, allow_transit;
	struct gateway *gateway; // NULL: does not stand
	struct link *of[KINDS];  // what there is of it
};
// What is in a border gateway.
struct wanted {
	struct link pending;
	struct link own; // in the gateway's list
	enum kind kind;
	struct wanted_gateway *gateway;
};
struct wanted_attachment {
	struct wanted wanted;
	char *id, *vpc;
	uint32_t vni;
};
struct wanted_address {
	struct wanted wanted;
	struct address address;
	uint8_t length;
};
struct wanted_route {
	struct wanted wanted;
	char *attachment; // NULL: to vpn0
	struct prefix destination;
};

struct kernel {
	char *prefix, *node;
	uint32_t fabric_mtu;
	struct kernel_hooks hooks;
	struct map *gateways, *members, *vpcs, *attachments, *addresses, *routes;
	struct link *pending[KINDS];
	struct deadline retry;
	size_t standing;
	bool changed; // since the hook was told
};

void wanted_look_at_all(struct kernel *kernel, struct wanted_gateway *gateway, enum kind kind);
void wanted_take_down(struct kernel *kernel, struct wanted_gateway *gateway); // and all that is in it in the kernel
void wanted_free_gateway(void *value);
void wanted_free_attachment(void *value);
void wanted_free_route(void *value);

#endif
