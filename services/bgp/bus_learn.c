// When this bgp's tables are whole. A bgp that has just started knows no routes: would it say so at once, the readers would
// drop what the one before it had learned, and traffic would leave tunnels that carry it well. So bgp_session and learned_route
// are called complete when each session that may run is Established and its peer has said all it has, or after LEARN_AGAIN;
// until then the readers hold what they have.
#include "common/io/log.h"
#include "services/bgp/bus_state.h"

#define LOOK_AGAIN MILLISECONDS(50)

static bool has_said_all(const struct peering *peering)
{
	struct bgp_session_status status;
	if (!peering->session) {
		return false;
	}
	bgp_session_status(peering->session, &status);
	if (!status.may_run) {
		return true; // it has nothing to say
	}
	return status.state == BGP_ESTABLISHED && (status.end_of_rib || now() - peering->since_here >= LEARN_QUIET);
}

static bool all_have_said_all(const struct bgp_bus *bus)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->peerings, &cursor)) {
		if (!has_said_all(cursor.value)) {
			return false;
		}
	}
	return true;
}

// Whether it is known which sessions there are; their tunnels' state may still be missing.
static bool sessions_are_known(const struct bgp_bus *bus)
{
	for (size_t i = 0; i < ROWS_STATUSES; i++) {
		if (!feed_has_snapshot(bus->feeds[i])) {
			return false;
		}
	}
	return true;
}

void learn_at_once(struct bgp_bus *bus)
{
	deadline_disarm(&bus->learning);
	if (!table_is_complete(bus->sessions)) {
		table_complete(bus->sessions);
		table_complete(bus->routes);
	}
}

static void look(void *context)
{
	struct bgp_bus *bus = context;
	if (!sessions_are_known(bus)) {
		// Without resource nobody knows which tunnels there are, and the routes of the one before are the best there
		// is.
		deadline_arm(&bus->learning, now() + LOOK_AGAIN);
		return;
	}
	if (bus->learned_at_last == INSTANT_NEVER) {
		bus->learned_at_last = now() + LEARN_AGAIN;
	}
	bool all = feed_has_snapshot(bus->feeds[ROWS_STATUSES]) && all_have_said_all(bus);
	if (!all && now() < bus->learned_at_last) {
		deadline_arm(&bus->learning, now() + LOOK_AGAIN);
		return;
	}
	log_event(LOG_INFO, "learned", "all", all ? "yes" : "no", NULL);
	learn_at_once(bus);
}

void learn_begin(struct bgp_bus *bus)
{
	bus->learned_at_last = INSTANT_NEVER;
	deadline_init(&bus->learning, bus->service->loop, look, bus);
	deadline_arm(&bus->learning, now() + LOOK_AGAIN);
}

void learn_end(struct bgp_bus *bus)
{
	deadline_disarm(&bus->learning);
}
