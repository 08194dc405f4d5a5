// Any sequence of events, decoded from the fuzzer's octets, with settling in portions between them: the core neither crashes
// nor leaks, every row it removes it has published, and when everything is taken back nothing is left published.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "services/route/route.h"

enum { LISTS = 8 };

static const char *id_from(struct reader *r, char out[static 8], char letter)
{
	snprintf(out, 8, "%c%u", letter, read_u8(r) % 6);
	return out;
}

static struct prefix prefix_from(struct reader *r)
{
	struct address address = {.length = read_u8(r) & 1 ? 16 : 4};
	address.octets[0] = read_u8(r);
	address.octets[1] = read_u8(r) & 3;
	return prefix_of(&address, read_u8(r) % (address.length == 4 ? 33 : 129));
}

static void publish(void *context, const struct route_action *action)
{
	struct map **published = context;
	static int something;
	if (action->removed) {
		if (!map_remove_text(published[action->table], action->key)) {
			abort();
		}
	} else {
		map_insert_text(published[action->table], action->key, &something);
	}
}

// What an event points to.
struct room {
	char a[8], b[8], texts[LISTS][8];
	const char *list[LISTS];
	struct prefix prefixes[LISTS];
	struct address addresses[LISTS];
	struct route_vpc_static statics[LISTS];
	struct route_vpc_propagation propagations[LISTS];
	uint32_t numbers[LISTS];
};

static void list_ids(struct reader *r, struct room *room, char letter, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		room->list[i] = id_from(r, room->texts[i], letter);
	}
}

static void fill_vpc_table(struct route_event *event, struct reader *r, struct room *room, size_t count)
{
	event->vpc_table.vpc_id = id_from(r, room->a, 'v');
	event->vpc_table.statics = room->statics;
	event->vpc_table.propagations = room->propagations;
	event->vpc_table.static_count = event->vpc_table.propagation_count = count;
	for (size_t i = 0; i < count; i++) {
		room->prefixes[i] = prefix_from(r);
		room->statics[i] = (struct route_vpc_static){prefix_from(r), id_from(r, room->texts[i], 'g')};
		room->propagations[i] = (struct route_vpc_propagation){room->texts[i], &room->prefixes[i], 1};
	}
}

static void fill_attachment(struct route_event *event, struct reader *r, struct room *room, size_t count)
{
	event->attachment.gateway_id = id_from(r, room->a, 'g');
	event->attachment.vpc_id = id_from(r, room->b, 'v');
	event->attachment.propagation = (enum route_propagation)(read_u8(r) % 3);
	event->attachment.order = read_u8(r);
	event->attachment.subnet_ids = room->list;
	event->attachment.subnet_count = count;
	list_ids(r, room, 's', count);
}

// Rows of nodes, border gateways and VPCs.
static void fill_structure(struct route_event *event, struct reader *r, struct room *room, uint32_t count)
{
	switch (event->kind) {
	case ROUTE_NODE:
		event->node.gone = count & 1;
		event->node.bgp_silent = count & 2;
		break;
	case ROUTE_GATEWAY:
		event->gateway.tenant = id_from(r, room->a, 'q');
		event->gateway.allow_transit = count & 1;
		event->gateway.asn = count;
		event->gateway.node_ids = room->list;
		event->gateway.node_count = count;
		list_ids(r, room, 'n', count);
		break;
	case ROUTE_VPC:
		event->vpc.host_id = id_from(r, room->a, 'h');
		event->vpc.blocks = room->prefixes;
		event->vpc.block_count = count;
		for (size_t i = 0; i < count; i++) {
			room->prefixes[i] = prefix_from(r);
		}
		break;
	case ROUTE_SUBNET:
		event->subnet.vpc_id = id_from(r, room->a, 'v');
		event->subnet.cidr = prefix_from(r);
		break;
	case ROUTE_VPC_TABLE:
		fill_vpc_table(event, r, room, count);
		break;
	default:
		fill_attachment(event, r, room, count);
		break;
	}
}

static void fill_learned(struct route_event *event, struct reader *r, struct room *room, uint32_t count)
{
	event->learned.destination = prefix_from(r);
	event->learned.metric = count;
	event->learned.origin = read_u8(r) % 3;
	event->learned.med = read_u8(r) % 3;
	event->learned.as_path = event->learned.communities = room->numbers;
	event->learned.as_count = count;
	event->learned.community_count = count / 2;
	for (size_t i = 0; i < count; i++) {
		uint8_t number = read_u8(r);
		room->numbers[i] = number < 8 ? 0xffffff00 + number : number == 8 ? 0xffff0000 : number;
	}
}

// Connections, tunnels, static routes, and what other services say.
static void fill_traffic(struct route_event *event, struct reader *r, struct room *room, uint32_t count)
{
	switch (event->kind) {
	case ROUTE_CONNECTION:
		event->connection.gateway_id = id_from(r, room->a, 'g');
		// A connection never changes its border gateway: its rows are named after it alone.
		snprintf(room->a, sizeof room->a, "g%c", event->id[1]);
		event->connection.bgp = count & 1;
		break;
	case ROUTE_TUNNEL:
		event->tunnel.connection_id = id_from(r, room->a, 'c');
		event->tunnel.node_id = id_from(r, room->b, 'n');
		event->tunnel.admin_up = count > 0;
		break;
	case ROUTE_STATIC:
		event->static_route.gateway_id = id_from(r, room->a, 'g');
		event->static_route.to_attachment = count & 1;
		event->static_route.next_hop_id = id_from(r, room->b, count & 1 ? 'a' : 'c');
		event->static_route.destination = prefix_from(r);
		event->static_route.created = count & 2 ? "1" : NULL;
		break;
	case ROUTE_TUNNEL_STATE:
		event->tunnel_state.up = count > 1;
		break;
	case ROUTE_SESSION:
		event->session.remote_asn = count;
		event->session.established = count != 1;
		break;
	case ROUTE_LEARNED:
		fill_learned(event, r, room, count);
		break;
	case ROUTE_QUOTA:
		event->quota.static_routes = count;
		event->quota.learned_routes = read_u8(r) % 4;
		break;
	default:
		event->reserved.what = "cloud address";
		event->reserved.addresses = room->addresses;
		event->reserved.count = count;
		for (size_t i = 0; i < count; i++) {
			room->addresses[i] = prefix_from(r).address;
		}
		break;
	}
}

static const char letters[] = "ngvsractxtttqz";

static void step(struct route *route, struct reader *r, struct route_sink sink)
{
	struct room room;
	char id[8];
	uint8_t first = read_u8(r);
	struct route_event event = {.kind = (enum route_event_kind)(first % (ROUTE_RESERVED + 1)),
	                            .removed = (first & 0xe0) == 0xe0};
	uint32_t count = read_u8(r) % LISTS;
	event.id = id_from(r, id, letters[event.kind]);
	if (event.kind <= ROUTE_ATTACHMENT) {
		fill_structure(&event, r, &room, count);
	} else {
		fill_traffic(&event, r, &room, count);
	}
	route_step(route, &event, sink);
}

static void take_back(struct route *route, struct route_sink sink)
{
	for (unsigned kind = 0; kind <= ROUTE_RESERVED; kind++) {
		for (unsigned i = 0; i < 6 && kind != ROUTE_LEARNED; i++) {
			char id[8];
			snprintf(id, sizeof id, "%c%u", letters[kind], i);
			route_step(route, &(struct route_event){.kind = (enum route_event_kind)kind, .id = id, .removed = true},
			           sink);
		}
	}
	while (route_settle(route, 1, 3, sink)) {
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = reader_of((struct bytes){data, size});
	struct map *published[ROUTE_TABLE_COUNT];
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		published[i] = map_new(NULL);
	}
	struct route_sink sink = {publish, published};
	struct route *route = route_new();
	for (unsigned steps = 0; reader_left(&r) > 0 && steps < 400; steps++) {
		uint8_t portion = read_u8(&r);
		if (portion & 1) {
			route_settle(route, steps, portion, sink);
		}
		step(route, &r, sink);
	}
	take_back(route, sink);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		if (map_count(published[i]) > 0) {
			abort();
		}
		map_free(&published[i], NULL);
	}
	route_free(&route);
	return 0;
}
