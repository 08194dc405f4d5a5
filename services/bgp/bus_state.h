// What the files of the tables share (bus.c, bus_*.c).
#ifndef TWINSPAN_BGP_BUS_STATE_H
#define TWINSPAN_BGP_BUS_STATE_H

#include "common/base/map.h"
#include "common/bus/feed.h"
#include "services/bgp/shell.h"

// The tables that say which sessions there are, in the order in which they are asked for.
enum rows { ROWS_GATEWAYS, ROWS_CUSTOMERS, ROWS_QUOTAS, ROWS_CONNECTIONS, ROWS_TUNNELS, ROWS_STATUSES, ROWS_TABLES };

struct advertised;

struct bgp_bus {
	struct service *service;
	struct table *sessions, *routes, *events;
	struct feed *feeds[ROWS_TABLES];
	struct map *rows[ROWS_TABLES]; // by key: what of each row counts here
	struct advertised *advertised;
	struct map *peerings;                   // by tunnel id
	const struct bgp_session *last_session; // bgp_bus_peering's last answer: routes come in runs
	struct peering *last_peering;
	struct deadline learning; // until the tables are complete
	instant learned_at_last;  // when they are in any case; INSTANT_NEVER: not known yet
};

// ---- bus_rows.c ----
void rows_begin(struct bgp_bus *bus, struct bus *from, const char *node);
void rows_end(struct bgp_bus *bus);

// ---- bus_advertised.c ----
struct advertised *advertised_begin(struct bgp_bus *bus, struct bus *from, const char *node);
void advertised_end(struct advertised **advertised);

// ---- bus_learn.c ----
// Calls bgp_session and learned_route complete once the sessions have learned again.
void learn_begin(struct bgp_bus *bus);
void learn_end(struct bgp_bus *bus);     // complete or not
void learn_at_once(struct bgp_bus *bus); // whatever has been learned is all

#endif
