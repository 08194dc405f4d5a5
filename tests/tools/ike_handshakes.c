// What one handshake costs: two cores, a handshake and a delete over and over, with the CPU time of each end and what it seals
// and publishes. Nothing of the shell is in it but the seal.
//   ike_handshakes [count] [group]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/alloc.h"
#include "services/ike/crypto/seal.h"
#include "services/ike/ike.h"
#include "tests/unit/ike_tunnel.h"

enum { FLIGHT = 64 };

struct datagram {
	struct ike_datagram datagram;
	uint8_t octets[8192];
};
static struct datagram flight[FLIGHT];
static size_t flight_count;
static struct ike *ends[2];
static struct sealer *sealer;
static int64_t spent[2];
static size_t states, state_octets, rows;
static instant clock_now = SECONDS(100);
static enum tunnel_state shown[2];

static int64_t cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void step(int end, const struct ike_event *event)
{
	static uint8_t sealed[65536];
	struct ike_actions actions = {0};
	int64_t begun = cpu();
	ike_step(ends[end], event, clock_now, &actions);
	for (size_t i = 0; i < actions.count; i++) {
		const struct ike_action *action = &actions.items[i];
		if (action->kind == IKE_ACTION_PUT_STATE) {
			seal(sealer, text_bytes("0123456789abcdef"), (struct bytes){action->octets, action->length}, sealed);
			states += end == 1;
			state_octets += end == 1 ? action->length : 0;
		}
		rows += end == 1 && action->kind != IKE_ACTION_SEND;
	}
	spent[end] += cpu() - begun;
	for (size_t i = 0; i < actions.count; i++) {
		const struct ike_action *action = &actions.items[i];
		if (action->kind == IKE_ACTION_STATUS) {
			shown[end] = action->status->state;
		}
		if (action->kind == IKE_ACTION_SEND && flight_count < FLIGHT) {
			struct datagram *out = &flight[flight_count++];
			memcpy(out->octets, action->octets, action->length);
			out->datagram = (struct ike_datagram){.local = action->datagram.remote,
			                                      .remote = action->datagram.local,
			                                      .local_port = action->datagram.remote_port,
			                                      .remote_port = action->datagram.local_port,
			                                      .octets = {out->octets, action->length}};
		}
	}
	ike_actions_free(&actions);
}

static void deliver(void)
{
	static struct datagram taken[FLIGHT];
	while (flight_count > 0) {
		size_t count = flight_count;
		memcpy(taken, flight, count * sizeof flight[0]);
		flight_count = 0;
		for (size_t i = 0; i < count; i++) {
			taken[i].datagram.octets.data = taken[i].octets;
			bool to_first = taken[i].datagram.local.octets[3] == 17;
			step(!to_first, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = taken[i].datagram});
		}
	}
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 500;
	uint8_t group = argc > 2 ? (uint8_t)atoi(argv[2]) : 31;
	struct tunnel_config configs[2];
	struct algorithms algorithms = {.encryption = {ENCRYPTION_AES_GCM16_256},
	                                .integrity = {INTEGRITY_SHA2_256},
	                                .groups = {group},
	                                .encryption_count = 1,
	                                .integrity_count = 1,
	                                .group_count = 1};
	struct secret secret;
	static const struct seal_key key = {.octets = {1}};
	static const uint8_t incarnation[SEAL_INCARNATION];
	sealer = sealer_new(&key, incarnation);
	secret_set(&secret, text_bytes("a pre-shared key"));
	for (int i = 0; i < 2; i++) {
		configs[i] = ike_test_tunnel(i);
		configs[i].ike = configs[i].child = algorithms;
		uint8_t seed[32] = {(uint8_t)i};
		ends[i] = ike_new(seed);
		step(i, &(struct ike_event){.kind = IKE_EVENT_START});
		step(i, &(struct ike_event){.kind = IKE_EVENT_SECRET, .text = "tun-1", .secret = &secret});
	}
	step(1, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &configs[1]});
	long done = 0;
	for (long i = 0; i < count; i++) {
		if (i == 10) {
			spent[0] = spent[1] = 0;
			states = state_octets = rows = 0;
		}
		configs[0].enabled = true;
		step(0, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &configs[0]});
		deliver();
		done += shown[0] == TUNNEL_UP && shown[1] == TUNNEL_UP;
		configs[0].enabled = false;
		step(0, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &configs[0]});
		deliver();
		for (int k = 0; k < 8; k++) {
			clock_now += SECONDS(1);
			step(0, &(struct ike_event){.kind = IKE_EVENT_TIME});
			step(1, &(struct ike_event){.kind = IKE_EVENT_TIME});
			deliver();
		}
	}
	double n = (double)(count - 10);
	printf("%ld of %ld came UP; a handshake and delete: initiator %.0f us, responder %.0f us; responder: %.1f states of "
	       "%.0f octets, "
	       "%.1f rows\n",
	       done, count, (double)spent[0] / n / 1000, (double)spent[1] / n / 1000, (double)states / n,
	       states ? (double)state_octets / (double)states : 0.0, (double)rows / n);
	ike_free(&ends[0]);
	ike_free(&ends[1]);
	sealer_free(&sealer);
	return done == count ? 0 : 1;
}
