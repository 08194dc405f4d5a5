// See endpoints.h. Lines "<identity> <endpoint>"; empty ones and those that begin with # say nothing.
#include "common/bus/endpoints.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/bus/change.h"

struct bus_endpoints {
	char *path;
	struct bus_change change;
	struct map *found; // identity → endpoint
	struct map *given; // every endpoint text there ever was → itself
};

static const char *keep(struct bus_endpoints *endpoints, const char *text)
{
	char *kept = map_find_text(endpoints->given, text);
	if (!kept) {
		kept = duplicate_text(text);
		map_insert_text(endpoints->given, text, kept);
	}
	return kept;
}

void bus_endpoints_refresh(struct bus_endpoints *endpoints)
{
	FILE *in = fopen(endpoints->path, "re");
	if (!in) {
		return;
	}
	map_free(&endpoints->found, NULL);
	endpoints->found = map_new(NULL);
	char line[512], identity[100], endpoint[256];
	while (fgets(line, sizeof line, in)) {
		if (line[0] != '#' && sscanf(line, "%99s %255s", identity, endpoint) == 2) {
			map_insert_text(endpoints->found, identity, (char *)(uintptr_t)keep(endpoints, endpoint));
		}
	}
	fclose(in);
}

struct bus_endpoints *bus_endpoints_new(const char *path)
{
	struct bus_endpoints *endpoints = allocate(sizeof *endpoints);
	*endpoints = (struct bus_endpoints){.path = duplicate_text(path), .found = map_new(NULL), .given = map_new(NULL)};
	return endpoints;
}

void bus_endpoints_free(struct bus_endpoints **endpoints_at)
{
	struct bus_endpoints *endpoints = *endpoints_at;
	if (!endpoints) {
		return;
	}
	map_free(&endpoints->found, NULL);
	map_free(&endpoints->given, free);
	free(endpoints->path);
	free(endpoints);
	*endpoints_at = NULL;
}

const char *bus_endpoints_find(struct bus_endpoints *endpoints, const char *identity)
{
	if (bus_changed(&endpoints->change, endpoints->path)) {
		bus_endpoints_refresh(endpoints);
	}
	return map_find_text(endpoints->found, identity);
}
