// Two BGP speakers with several sessions between them, over simulated TCP connections with seeded delays, segments of any size,
// resets, refusals, silence, tunnels that go down and up, and routes that change all the while. After every step: what a
// speaker has told of a peer's routes fits the session's state. At the end, when all is quiet for a while: every session is
// Established and what one has learned is what the other advertises. SEEDS says how many seeds (default 1000), SEED runs a
// single one.
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/bgp_network.h"

// ---- the speakers ----
static int session_number(const struct bgp_session *session)
{
	return bgp_session_id(session)[4] - '0';
}

static void take_routes(struct world *w, int side)
{
	for (size_t i = 0; i < w->actions.route_count; i++) {
		const struct bgp_route_change *change = &w->actions.routes[i];
		size_t index = change->destination.address.octets[2];
		struct route *route = &w->learned[side][session_number(change->session)][index];
		CHECK(index < UNIVERSE && change->destination.length == 24);
		CHECK(change->attributes || route->present);
		*route = (struct route){.present = change->attributes != NULL};
		if (change->attributes) {
			struct bgp_attributes_view view;
			bgp_attributes_view(change->attributes, &view);
			route->origin = view.origin;
			route->count = (uint8_t)bgp_as_path_flatten(view.as_path, route->path, PATH_LIMIT + 1);
		}
	}
}

static void check_session(struct world *w, int side, int number)
{
	char id[8];
	snprintf(id, sizeof id, "tun-%d", number);
	const struct bgp_session *session = bgp_session_find(w->speaker[side], id);
	if (!session) {
		return;
	}
	struct bgp_session_status status;
	bgp_session_status(session, &status);
	size_t count = 0;
	for (size_t i = 0; i < UNIVERSE; i++) {
		count += w->learned[side][number][i].present;
	}
	CHECK(status.prefixes_received == count);
	CHECK(status.state == BGP_ESTABLISHED || (count == 0 && status.prefixes_advertised == 0));
	const struct bgp_session_config *config = &w->config[side][number];
	CHECK(status.state == BGP_IDLE || (config->admin_up && config->tunnel_up));
}

static void step(struct world *w, int side, const struct bgp_event *event)
{
	bgp_actions_clear(&w->actions);
	bgp_step(w->speaker[side], event, w->now, &w->actions);
	for (size_t i = 0; i < w->actions.count; i++) {
		const struct bgp_action *action = &w->actions.list[i];
		switch (action->kind) {
		case BGP_ACTION_CONNECT:
			act_connect(w, side, session_number(action->session), action->transport);
			break;
		case BGP_ACTION_SEND:
			act_send(w, side, action->transport, w->actions.octets + action->offset, action->length);
			break;
		case BGP_ACTION_CLOSE:
			act_close(w, side, action->transport);
			break;
		default:
			break;
		}
	}
	take_routes(w, side);
	for (int number = 0; number < SESSIONS; number++) {
		check_session(w, side, number);
	}
	instant deadline = bgp_deadline(w->speaker[side]);
	CHECK(deadline > w->now || event->kind != BGP_EVENT_TIME);
	if (deadline != INSTANT_NEVER && deadline != w->woken[side]) {
		w->woken[side] = deadline;
		schedule(w, (struct happening){.at = deadline > w->now ? deadline : w->now, .what = WAKE, .side = side});
	}
}

static struct bgp_session *session_of(struct world *w, int side, const struct link *link)
{
	char id[8];
	snprintf(id, sizeof id, "tun-%d", link->session);
	return bgp_session_find(w->speaker[side], id);
}

static void close_at(struct world *w, int side, struct link *link, const char *reason)
{
	if (link->open[side]) {
		link->open[side] = false;
		step(w, side,
		     &(struct bgp_event){.kind = BGP_EVENT_CLOSED,
		                         .session = session_of(w, side, link),
		                         .transport = link->transport[side],
		                         .reason = reason});
	}
}

static void happen(struct world *w, struct happening *h)
{
	w->now = h->at;
	if (h->what == WAKE) {
		if (bgp_deadline(w->speaker[h->side]) <= w->now) {
			step(w, h->side, &(struct bgp_event){.kind = BGP_EVENT_TIME});
		}
		return;
	}
	struct link *link = &w->links[h->link];
	struct bgp_event event = {.session = session_of(w, h->side, link), .transport = link->transport[h->side]};
	switch (h->what) {
	case ACCEPT:
		link->transport[h->side] = event.transport = bgp_transport_new(w->speaker[h->side]);
		link->open[h->side] = true;
		schedule(w, (struct happening){
		                .at = arrival(w, link, !h->side), .what = CONNECT_DONE, .side = !h->side, .link = h->link});
		event.kind = BGP_EVENT_ACCEPTED;
		step(w, h->side, &event);
		break;
	case CONNECT_DONE:
		event.kind = BGP_EVENT_CONNECTED;
		if (link->open[h->side]) {
			step(w, h->side, &event);
		}
		break;
	case ARRIVE:
		event.kind = BGP_EVENT_RECEIVED;
		event.octets = (struct bytes){h->octets, h->length};
		if (link->open[h->side]) {
			step(w, h->side, &event);
		} else if (link->open[!h->side] &&
		           passes(w, link, !h->side)) { // the kernel of a closed end answers with a reset
			schedule(w, (struct happening){.at = arrival(w, link, !h->side),
			                               .what = CLOSED,
			                               .side = !h->side,
			                               .link = h->link,
			                               .reason = "connection reset"});
		}
		break;
	case SENT:
		event.kind = BGP_EVENT_SENT;
		event.count = h->length;
		if (link->open[h->side]) {
			step(w, h->side, &event);
		}
		break;
	default:
		close_at(w, h->side, link, h->reason);
		break;
	}
}

// ---- what people and networks do ----
static void configure(struct world *w, int side, int number)
{
	char id[8];
	snprintf(id, sizeof id, "tun-%d", number);
	step(w, side, &(struct bgp_event){.kind = BGP_EVENT_SESSION, .id = id, .config = &w->config[side][number]});
}

static void change_routes(struct world *w, int side)
{
	struct bgp_advertisement list[UNIVERSE];
	size_t count = 1 + random_below(&w->random, UNIVERSE);
	for (size_t i = 0; i < count; i++) {
		uint32_t index = random_below(&w->random, UNIVERSE);
		struct route *route = &w->advertised[side][index];
		*route = (struct route){.present = random_below(&w->random, 3) != 0};
		if (route->present) {
			route->origin = (uint8_t)random_below(&w->random, 3);
			route->count = (uint8_t)random_below(&w->random, PATH_LIMIT);
			for (size_t j = 0; j < route->count; j++) {
				route->path[j] = 100 + random_below(&w->random, 2) * 100000;
			}
		}
		list[i] = (struct bgp_advertisement){.export = "vpn",
		                                     .destination = ipv4(0x0a000000 | (uint32_t)side << 16 | index << 8, 24),
		                                     .withdrawn = !route->present,
		                                     .origin = route->origin,
		                                     .as_path = route->path,
		                                     .as_path_length = route->count};
	}
	step(w, side, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = list, .count = count});
}

static void tunnel(struct world *w, int number, bool up)
{
	int first = (int)random_below(&w->random, 2);
	for (int i = 0; i < 2; i++) {
		int side = i ? !first : first;
		w->config[side][number].tunnel_up = up;
		w->config[side][number].generation += up;
		configure(w, side, number);
	}
}

static void disturb(struct world *w)
{
	int number = (int)random_below(&w->random, SESSIONS), side = (int)random_below(&w->random, 2);
	switch (random_below(&w->random, 10)) {
	case 0:
		tunnel(w, number, !w->config[0][number].tunnel_up);
		break;
	case 1:
		w->config[side][number].admin_up = !w->config[side][number].admin_up;
		configure(w, side, number);
		break;
	case 2: // a restarted tunnel
		tunnel(w, number, true);
		break;
	case 3: // both ends lose a connection
		for (size_t i = 0; i < w->link_count; i++) {
			if (w->links[i].session == number && random_below(&w->random, 2)) {
				close_at(w, 0, &w->links[i], "connection reset");
				close_at(w, 1, &w->links[i], "connection reset");
			}
		}
		break;
	case 4: // one end loses it and the other does not know
		for (size_t i = 0; i < w->link_count; i++) {
			if (w->links[i].session == number) {
				close_at(w, side, &w->links[i], "timed out");
			}
		}
		break;
	case 5:
		w->silent[number] = !w->silent[number];
		break;
	default:
		change_routes(w, side);
		break;
	}
}

static void run_until(struct world *w, instant end)
{
	while (w->count && w->heap[0].at <= end) {
		struct happening h = next_happening(w);
		happen(w, &h);
		free(h.octets);
	}
	w->now = end;
}

static void check_equal(struct world *w, int side, int number)
{
	for (size_t i = 0; i < UNIVERSE; i++) {
		const struct route *theirs = &w->advertised[!side][i], *ours = &w->learned[side][number][i];
		CHECK(theirs->present == ours->present);
		if (theirs->present) {
			CHECK(theirs->origin == ours->origin && ours->count == theirs->count + 1 &&
			      ours->path[0] == as_of[!side]);
			CHECK(memcmp(ours->path + 1, theirs->path, theirs->count * sizeof ours->path[0]) == 0);
		}
	}
}

static void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){.seed = seed, .now = SECONDS(1)};
	random_init_number(&w->random, seed);
	for (int side = 0; side < 2; side++) {
		uint8_t octets[32];
		random_fill(&w->random, octets, sizeof octets);
		w->speaker[side] = bgp_new(octets);
		step(w, side, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
		for (int number = 0; number < SESSIONS; number++) {
			struct address ends[2] = {{4, {169, 254, (uint8_t)(10 + number), 1}},
			                          {4, {169, 254, (uint8_t)(10 + number), 2}}};
			w->config[side][number] = (struct bgp_session_config){
			    .export = "vpn",
			    .local = ends[side],
			    .remote = ends[!side],
			    .local_as = as_of[side],
			    .remote_as = as_of[!side],
			    .router_id = random_below(&w->random, 3) + 1,
			    .hold_time = 9,
			    .keepalive = 3,
			    .admin_up = true,
			    .tunnel_up = true,
			    .generation = 1,
			};
			configure(w, side, number);
		}
	}
}

static void world_fini(struct world *w)
{
	while (w->count) {
		struct happening h = next_happening(w);
		free(h.octets);
	}
	free(w->heap);
	free(w->links);
	bgp_actions_fini(&w->actions);
	bgp_free(&w->speaker[0]);
	bgp_free(&w->speaker[1]);
}

static void run_seed(uint64_t seed)
{
	struct world world, *w = &world;
	world_init(w, seed);
	instant end = w->now + SECONDS(CHAOS_SECONDS);
	while (w->now < end) {
		run_until(w, w->now + 1 + (duration)random_below(&w->random, 3000000));
		disturb(w);
	}
	w->quiet = true;
	for (int number = 0; number < SESSIONS; number++) {
		w->silent[number] = false;
		for (int side = 0; side < 2; side++) {
			w->config[side][number].admin_up = w->config[side][number].tunnel_up = true;
			configure(w, side, number);
		}
	}
	run_until(w, w->now + SECONDS(QUIET_SECONDS));
	for (int side = 0; side < 2; side++) {
		for (int number = 0; number < SESSIONS; number++) {
			char id[8];
			snprintf(id, sizeof id, "tun-%d", number);
			struct bgp_session_status status;
			bgp_session_status(bgp_session_find(w->speaker[side], id), &status);
			CHECK(status.state == BGP_ESTABLISHED);
			check_equal(w, side, number);
		}
	}
	for (int side = 0; getenv("VERBOSE") && side < 2; side++) {
		for (enum bgp_counter counter = 0; counter < BGP_COUNTERS; counter++) {
			printf("%s=%" PRIu64 " ", bgp_counter_name(counter), bgp_count(w->speaker[side], counter));
		}
		printf("\n");
	}
	world_fini(w);
}

static void pairs_agree(void **state)
{
	(void)state;
	const char *single = getenv("SEED"), *count = getenv("SEEDS");
	if (single) {
		run_seed(strtoull(single, NULL, 10));
		return;
	}
	uint64_t seeds = count ? strtoull(count, NULL, 10) : 1000;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		run_seed(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_agree)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
