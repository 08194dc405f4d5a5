// advertised_route: what the sessions tell. A change of the table goes to the core in runs of up to RUN routes, so that the
// memory of one change does not grow with it.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "proto/tables.pb-c.h"
#include "services/bgp/bus_state.h"

enum { RUN = 1024, EXPORT_TEXT = 80, NUMBERS_KEPT = 1 << 16 };

struct advertised {
	struct bgp_bus *bus;
	struct feed *feed;
	struct bgp_advertisement list[RUN];
	char exports[RUN][EXPORT_TEXT]; // connection ids
	size_t numbers_at[RUN];
	size_t count;
	uint32_t *numbers; // the AS paths, and behind each the communities
	size_t number_count, number_capacity;
};

static void tell(void *context)
{
	struct advertised *a = context;
	for (size_t i = 0; i < a->count; i++) {
		a->list[i].as_path = a->numbers + a->numbers_at[i];
		a->list[i].communities = a->list[i].as_path + a->list[i].as_path_length;
	}
	if (a->count > 0) {
		service_step(a->bus->service,
		             &(struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = a->list, .count = a->count});
	}
	a->count = a->number_count = 0;
	if (a->number_capacity > NUMBERS_KEPT) {
		free(a->numbers);
		a->numbers = NULL;
		a->number_capacity = 0;
	}
}

static void add_numbers(struct advertised *a, const uint32_t *numbers, size_t count)
{
	if (a->number_count + count > a->number_capacity) {
		a->number_capacity = 2 * (a->number_count + count);
		a->numbers = reallocate(a->numbers, a->number_capacity, sizeof *a->numbers);
	}
	if (count > 0) {
		memcpy(a->numbers + a->number_count, numbers, count * sizeof *numbers);
	}
	a->number_count += count;
}

// The key, "<connection id>/<node id>/<prefix>", alone says what is withdrawn.
static const char *take(void *context, const struct row_key *key, const void *message)
{
	struct advertised *a = context;
	const Twinspan__AdvertisedRoute *row = message;
	const char *slash = strchr(key->rest, '/');
	struct bgp_advertisement *next = &a->list[a->count];
	*next = (struct bgp_advertisement){.export = a->exports[a->count], .withdrawn = !row};
	if (strlen(key->id) >= EXPORT_TEXT || !slash || !prefix_parse(slash + 1, &next->destination)) {
		return "its key is not a connection, a node and a prefix";
	}
	if (row && row->origin > 2) {
		return "its origin is none";
	}
	strcpy(a->exports[a->count], key->id);
	a->numbers_at[a->count] = a->number_count;
	if (row) {
		next->origin = (uint8_t)row->origin;
		next->as_path_length = row->n_as_path;
		next->community_count = row->n_communities;
		add_numbers(a, row->as_path, row->n_as_path);
		add_numbers(a, row->communities, row->n_communities);
	}
	if (++a->count == RUN) {
		tell(a);
	}
	return NULL;
}

static void state_changed(void *context)
{
	struct advertised *a = context;
	if (feed_has_snapshot(a->feed)) {
		service_step(a->bus->service, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	}
}

struct advertised *advertised_begin(struct bgp_bus *bus, struct bus *from, const char *node)
{
	static const struct feed_kind kind = {"advertised_route", &twinspan__advertised_route__descriptor, take, tell};
	struct advertised *a = allocate(sizeof *a);
	a->bus = bus;
	a->feed = feed_new(from, "route", &kind, node, a);
	feed_on_state(a->feed, state_changed, a);
	return a;
}

void advertised_end(struct advertised **advertised)
{
	feed_free(&(*advertised)->feed);
	free((*advertised)->numbers);
	free(*advertised);
	*advertised = NULL;
}
