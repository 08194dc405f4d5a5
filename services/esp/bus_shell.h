// What the files of esp's tables share: bus.c (the whole), bus_resource.c, bus_route.c and bus_ike.c (what comes in, by owner),
// bus_usage.c (what goes out of what the workers counted).
#ifndef TWINSPAN_ESP_BUS_SHELL_H
#define TWINSPAN_ESP_BUS_SHELL_H

#include <string.h>

#include "common/base/map.h"
#include "common/bus/feed.h"
#include "proto/tables.pb-c.h"
#include "services/esp/bus.h"

enum { FEEDS = 9 };

struct esp_bus {
	struct esp_bus_parts parts;
	char *ike; // "ike.node-a"
	struct table *node_status, *held_ike_sa, *sa_usage, *tunnel_counters;
	struct feed *feeds[FEEDS];
	size_t feed_count;
	struct feed *child_sa;  // one of them
	struct replica *ike_sa; // given back as they are
	struct map *routes;     // key of an effective_route row: struct known_route
	struct deadline report;
	bool told; // of an SA, by this report
	instant counters_told, counters_at; // 0: never yet; when they are due, INSTANT_NEVER: nothing moved since
	int64_t wall_offset;
	uint64_t started;
	bool swept, sas_complete;
};

static inline const char *or_empty(const char *text)
{
	return text ? text : "";
}

extern const struct feed_kind bus_resource_kinds[], bus_route_kinds[], bus_child_sa_kind;
extern const size_t bus_resource_count, bus_route_count;
void bus_settled(void *context); // a whole change of a table has been taken

// bus_route.c
void bus_free_known_route(void *value);
void bus_beneath(void *context, const char *gateway, const struct prefix *destination, bool wanted);
// bus_ike.c
void bus_ike_sa_changed(void *context, const struct replica_row *rows, size_t count);
// bus_usage.c
void bus_report(void *context);

#endif
