// A speaker with one session and a peer that does what the input says: connects, is connected to, sends messages whole, in
// pieces or spoilt, closes, lets time pass, takes what is sent or does not; the tables change in between. After each step: no
// route without a session, no octet to a transport that is closed, a deadline that lies ahead, and output within its bound.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "services/bgp/bgp.h"
#include "tests/unit/bgp_prefix.h"

enum { TRANSPORTS = 64, OUTPUT_BOUND = 3 << 16 };

struct play {
	struct bgp *bgp;
	struct bgp_actions actions;
	struct bgp_session_config config;
	instant now;
	uint32_t open[TRANSPORTS]; // those the peer may use, newest last
	size_t open_count;
	size_t queued;
	size_t routes;
	bool stopped;
	const uint8_t *at, *end;
};

static void check(bool holds)
{
	if (!holds) {
		abort();
	}
}

static uint8_t next(struct play *play)
{
	return play->at < play->end ? *play->at++ : 0;
}

static struct bytes next_run(struct play *play)
{
	size_t left = (size_t)(play->end - play->at), length = next(play);
	left -= left > 0;
	struct bytes run = {play->at, length < left ? length : left};
	play->at += run.length;
	return run;
}

static bool is_open(const struct play *play, uint32_t transport)
{
	for (size_t i = 0; i < play->open_count; i++) {
		if (play->open[i] == transport) {
			return true;
		}
	}
	return false;
}

static void remember(struct play *play, uint32_t transport)
{
	if (play->open_count == TRANSPORTS) {
		memmove(play->open, play->open + 1, (TRANSPORTS - 1) * sizeof play->open[0]);
		play->open_count--;
	}
	play->open[play->open_count++] = transport;
	play->queued = 0;
}

static void forget(struct play *play, uint32_t transport)
{
	size_t kept = 0;
	for (size_t i = 0; i < play->open_count; i++) {
		if (play->open[i] != transport) {
			play->open[kept++] = play->open[i];
		}
	}
	play->open_count = kept;
}

static void step(struct play *play, struct bgp_event event)
{
	event.session = bgp_session_find(play->bgp, "tun");
	if (!event.session && event.kind != BGP_EVENT_SESSION && event.kind != BGP_EVENT_ADVERTISE &&
	    event.kind != BGP_EVENT_TIME && event.kind != BGP_EVENT_STOP) {
		return;
	}
	bgp_actions_clear(&play->actions);
	bgp_step(play->bgp, &event, play->now, &play->actions);
	for (size_t i = 0; i < play->actions.count; i++) {
		const struct bgp_action *action = &play->actions.list[i];
		if (action->kind == BGP_ACTION_CONNECT) {
			remember(play, action->transport);
		} else if (action->kind == BGP_ACTION_SEND) {
			check(is_open(play, action->transport));
			check(action->offset + action->length <= play->actions.octets_length);
			play->queued += action->length;
		} else if (action->kind == BGP_ACTION_CLOSE) {
			check(is_open(play, action->transport));
			forget(play, action->transport);
		}
	}
	for (size_t i = 0; i < play->actions.route_count; i++) {
		play->routes += play->actions.routes[i].attributes != NULL; // an upper bound: changes count too
	}
	struct bgp_session *session = bgp_session_find(play->bgp, "tun");
	if (session) {
		struct bgp_session_status status;
		bgp_session_status(session, &status);
		check(status.state == BGP_ESTABLISHED || (status.prefixes_received == 0 && status.prefixes_advertised == 0));
		check(status.prefixes_received <= play->routes && status.prefixes_received <= 100);
		check(status.state == BGP_IDLE || (play->config.admin_up && play->config.tunnel_up && !play->stopped));
		check(strlen(status.reason) < BGP_REASON_TEXT);
	}
	check(play->queued < OUTPUT_BOUND || !play->open_count);
}

static uint32_t some_transport(struct play *play)
{
	return play->open_count ? play->open[play->open_count - 1 - next(play) % play->open_count] : 0;
}

static void receive(struct play *play, uint32_t transport, const uint8_t *octets, size_t length)
{
	step(play, (struct bgp_event){.kind = BGP_EVENT_RECEIVED, .transport = transport, .octets = {octets, length}});
}

// A message with a right header around what the input says.
static void receive_message(struct play *play, uint8_t type)
{
	uint8_t octets[19 + 256];
	memset(octets, 0xff, 16);
	uint32_t transport = some_transport(play);
	struct bytes body = next_run(play);
	octets[16] = (uint8_t)((19 + body.length) >> 8);
	octets[17] = (uint8_t)(19 + body.length);
	octets[18] = type;
	memcpy(octets + 19, body.data, body.length);
	receive(play, transport, octets, 19 + body.length);
}

static void receive_good_open(struct play *play)
{
	static const uint8_t open[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	                               0xff, 0xff, 0,    37,   1,    4,    0xfd, 0xe9, 0,    9,    10,   0,    0,    9,
	                               8,    2,    6,    65,   4,    0,    0,    0xfd, 0xe9, 0xff, 0xff, 0xff, 0xff, 0xff,
	                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,    19,   4};
	receive(play, some_transport(play), open, sizeof open);
}

static void advertise(struct play *play)
{
	struct bgp_advertisement list[16];
	uint8_t count = next(play) % 16;
	for (uint8_t i = 0; i < count; i++) {
		uint8_t what = next(play);
		list[i] = (struct bgp_advertisement){.export = "vpn",
		                                     .destination = ipv4((uint32_t)(what & 0x1f) << 8, 24),
		                                     .withdrawn = what & 0x20,
		                                     .origin = what >> 6 & 1};
	}
	step(play, (struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = list, .count = count});
}

static void configure(struct play *play, uint8_t what)
{
	play->config.admin_up = what & 1;
	play->config.tunnel_up = what & 2;
	play->config.generation = what >> 2 & 1;
	play->config.remote_as = what & 8 ? 65002 : 65001;
	play->config.export = what & 16 ? "vpn2" : "vpn";
	play->config.maximum_prefixes = what & 32 ? 2 : 100;
	step(play, (struct bgp_event){.kind = BGP_EVENT_SESSION, .id = "tun", .config = &play->config});
}

static void act(struct play *play)
{
	uint32_t transport;
	uint8_t what = next(play);
	struct bytes run;
	switch (what % 16) {
	case 0:
		configure(play, next(play));
		break;
	case 1:
		play->now += MILLISECONDS(100) * (1 + next(play));
		step(play, (struct bgp_event){.kind = BGP_EVENT_TIME});
		check(bgp_deadline(play->bgp) > play->now);
		break;
	case 2:
		if (bgp_session_find(play->bgp, "tun")) {
			remember(play, transport = bgp_transport_new(play->bgp));
			step(play, (struct bgp_event){.kind = BGP_EVENT_ACCEPTED, .transport = transport});
		}
		break;
	case 3:
		step(play, (struct bgp_event){.kind = BGP_EVENT_CONNECTED, .transport = some_transport(play)});
		break;
	case 4:
		transport = some_transport(play);
		forget(play, transport);
		step(play, (struct bgp_event){.kind = BGP_EVENT_CLOSED,
		                              .transport = transport,
		                              .cause = next(play) % (BGP_CLOSE_NO_SOCKET + 1),
		                              .reason = "closed"});
		break;
	case 5:
		step(play,
		     (struct bgp_event){.kind = BGP_EVENT_SENT, .transport = some_transport(play), .count = play->queued});
		play->queued = 0;
		break;
	case 6:
		advertise(play);
		break;
	case 7:
		transport = some_transport(play);
		run = next_run(play);
		receive(play, transport, run.data, run.length);
		break;
	case 8:
		receive_good_open(play);
		break;
	case 9:
		if (next(play) % 8 == 0) {
			play->stopped = true;
			step(play, (struct bgp_event){.kind = BGP_EVENT_STOP});
		} else {
			step(play, (struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED});
		}
		break;
	default:
		receive_message(play, what % 16 == 10 ? 1 : what % 16 < 14 ? 2 : (uint8_t)(what % 16 - 11));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t seed[32];
	struct play play = {.at = data, .end = data + size, .now = SECONDS(10), .bgp = bgp_new(seed)};
	play.config = (struct bgp_session_config){.export = "vpn",
	                                          .local = {4, {169, 254, 10, 1}},
	                                          .remote = {4, {169, 254, 10, 2}},
	                                          .local_as = 65000,
	                                          .router_id = 5,
	                                          .hold_time = 9,
	                                          .keepalive = 3,
	                                          .maximum_prefixes = 100};
	configure(&play, 3);
	while (play.at < play.end) {
		act(&play);
	}
	bgp_actions_fini(&play.actions);
	bgp_free(&play.bgp);
	return 0;
}
