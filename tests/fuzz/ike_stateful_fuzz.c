// Two cores and an input that says what happens between them: datagrams delivered, dropped, changed, repeated, invented;
// authentic messages with invented insides, as from a peer gone bad; time, requests, usage, kills. Nothing may crash, spin or
// grow.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/ike/v2/exchanges.h"
#include "tests/unit/ike_tunnel.h"

enum { FLIGHT = 32, STATES = 64 };

struct copy {
	int to;
	struct ike_datagram datagram;
	uint8_t octets[2048];
};
struct end {
	struct ike *ike;
	struct tunnel_config config;
	uint64_t keys[STATES];
	uint8_t *states[STATES];
	size_t lengths[STATES], count;
};
struct world {
	struct reader input;
	struct end ends[2];
	instant now;
	struct copy flight[FLIGHT];
	size_t first, count;
};

static void forget(struct end *e, uint64_t key)
{
	for (size_t i = 0; i < e->count; i++) {
		if (e->keys[i] == key) {
			free(e->states[i]);
			e->count--;
			e->states[i] = e->states[e->count];
			e->keys[i] = e->keys[e->count];
			e->lengths[i] = e->lengths[e->count];
			return;
		}
	}
}

static void keep(struct end *e, const struct ike_action *action)
{
	forget(e, action->key);
	if (e->count == STATES) {
		abort(); // the IKE SAs of one tunnel are bounded
	}
	e->keys[e->count] = action->key;
	e->lengths[e->count] = action->length;
	e->states[e->count] = allocate(action->length);
	memcpy(e->states[e->count++], action->octets, action->length);
}

static void carry(struct world *w, int from, const struct ike_action *action)
{
	if (w->count == FLIGHT || action->length > sizeof w->flight[0].octets) {
		return;
	}
	struct copy *copy = &w->flight[(w->first + w->count++) % FLIGHT];
	const struct ike_datagram *d = &action->datagram;
	*copy = (struct copy){.to = !from,
	                      .datagram = {.local = d->remote,
	                                   .remote = d->local,
	                                   .local_port = d->remote_port,
	                                   .remote_port = d->local_port,
	                                   .octets = {NULL, action->length}}};
	memcpy(copy->octets, action->octets, action->length);
}

static void step(struct world *w, int index, const struct ike_event *event)
{
	struct ike_actions actions = {0};
	ike_step(w->ends[index].ike, event, w->now, &actions);
	for (size_t i = 0; i < actions.count; i++) {
		const struct ike_action *action = &actions.items[i];
		if (action->kind == IKE_ACTION_SEND) {
			carry(w, index, action);
		} else if (action->kind == IKE_ACTION_PUT_STATE) {
			keep(&w->ends[index], action);
		} else if (action->kind == IKE_ACTION_REMOVE_STATE) {
			forget(&w->ends[index], action->key);
		}
	}
	ike_actions_free(&actions);
	struct ike_gauges gauges = ike_gauges(w->ends[index].ike);
	if (gauges.ike_sas > TUNNEL_SAS_MAX || gauges.child_sas > TUNNEL_SAS_MAX * (CHILDREN_MAX + 2) ||
	    gauges.half_open > TUNNEL_SAS_MAX) {
		abort();
	}
}

static void deliver(struct world *w, const struct copy *copy, struct bytes octets)
{
	struct ike_event event = {.kind = IKE_EVENT_DATAGRAM, .datagram = copy->datagram};
	event.datagram.octets = octets;
	step(w, copy->to, &event);
}

static void begin(struct world *w, int index)
{
	static const struct algorithms algorithms = {.encryption = {ENCRYPTION_AES_GCM16_128, ENCRYPTION_AES_CBC_128},
	                                             .integrity = {INTEGRITY_SHA2_256},
	                                             .groups = {GROUP_CURVE25519, GROUP_NONE},
	                                             .encryption_count = 2,
	                                             .integrity_count = 1,
	                                             .group_count = 2};
	struct end *e = &w->ends[index];
	struct tunnel_config *c = &e->config;
	if (c->id[0] == '\0') {
		*c = ike_test_tunnel(index);
		c->initiate = true;
		c->ike = c->child = algorithms;
		c->ike.group_count = 1;
		c->ike_lifetime = 600;
		c->child_lifetime = 300;
		c->rekey_margin = 60;
	}
	uint8_t seed[32] = {(uint8_t)index, (uint8_t)e->count, (uint8_t)(w->now >> 20)};
	ike_free(&e->ike);
	e->ike = ike_new(seed);
	size_t count = e->count;
	e->count = 0;
	for (size_t i = 0; i < count; i++) {
		uint8_t *state = e->states[i];
		size_t length = e->lengths[i];
		e->states[i] = NULL;
		struct ike_actions actions = {0};
		ike_step(e->ike, &(struct ike_event){.kind = IKE_EVENT_RESTORE, .bytes = {state, length}}, w->now, &actions);
		ike_actions_free(&actions);
		free(state);
	}
	struct secret secret;
	secret_set(&secret, (struct bytes){(const uint8_t *)"secret.of.both", 14});
	step(w, index, &(struct ike_event){.kind = IKE_EVENT_START});
	step(w, index, &(struct ike_event){.kind = IKE_EVENT_SECRET, .text = c->id, .secret = &secret});
	step(w, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = c});
}

// A message that the peer of `to` sealed with the right keys around octets of the input.
static void betray(struct world *w, int to)
{
	struct tunnel *tunnel = tunnel_find(w->ends[!to].ike, "tun-1");
	struct ike_sa *sa = tunnel && tunnel->sa_count > 0 ? tunnel->sas[read_u8(&w->input) % tunnel->sa_count] : NULL;
	uint8_t kind = read_u8(&w->input), first = read_u8(&w->input);
	struct bytes inside = read_bytes(&w->input, read_u8(&w->input));
	if (!sa || sa->state == IKE_SA_INIT_SENT || !encryption_algorithm(sa->suite.encryption)) {
		return;
	}
	uint8_t octets[256], message[IKE_MESSAGE_MAX];
	struct writer inner = writer_of(octets, sizeof octets);
	write_bytes(&inner, inside);
	struct chain chain = {.w = &inner, .first = first};
	bool response = (kind & 1) != 0;
	uint32_t id = (kind & 2 ? sa->next_request : sa->next_expected) - (kind >> 6);
	size_t length = message_seal(w->ends[!to].ike, sa, (uint8_t)(EXCHANGE_IKE_SA_INIT + ((kind >> 2) & 3)), response, id,
	                             &chain, message);
	struct copy copy = {.to = to,
	                    .datagram = {.local = sa->remote, .remote = sa->local, .local_port = 500, .remote_port = 500}};
	if (length > 0) {
		deliver(w, &copy, (struct bytes){message, length});
	}
}

static void happen(struct world *w)
{
	uint8_t what = read_u8(&w->input);
	int index = what >> 7;
	struct copy *copy = w->count > 0 ? &w->flight[w->first] : NULL;
	struct bytes octets = {copy ? copy->octets : NULL, copy ? copy->datagram.octets.length : 0};
	switch (what & 15) {
	case 0: // dropped
		break;
	case 1: // delivered twice
		if (copy) {
			struct copy twice = *copy;
			deliver(w, &twice, (struct bytes){twice.octets, octets.length});
			deliver(w, &twice, (struct bytes){twice.octets, octets.length});
		}
		break;
	case 2: // changed
		if (copy && octets.length > 0) {
			struct copy changed = *copy;
			changed.octets[read_u16(&w->input) % octets.length] ^= read_u8(&w->input);
			deliver(w, &changed, (struct bytes){changed.octets, octets.length});
		}
		break;
	case 3: { // invented
		struct copy invented = {.to = index,
		                        .datagram = {.local = w->ends[index].config.local,
		                                     .remote = w->ends[index].config.remote,
		                                     .local_port = what & 16 ? 500 : 4500,
		                                     .remote_port = 500}};
		deliver(w, &invented, read_bytes(&w->input, read_u8(&w->input)));
		return;
	}
	case 4:
		betray(w, index);
		return;
	case 5:
		w->now += MILLISECONDS(50) << (what >> 4 & 7);
		step(w, 0, &(struct ike_event){.kind = IKE_EVENT_TIME});
		step(w, 1, &(struct ike_event){.kind = IKE_EVENT_TIME});
		return;
	case 6:
		w->ends[index].config.rekey_child_requests++;
		step(w, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->ends[index].config});
		return;
	case 7:
		w->ends[index].config.rekey_ike_requests++;
		step(w, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->ends[index].config});
		return;
	case 8:
		w->ends[index].config.restart_requests += what >> 4 & 1;
		w->ends[index].config.enabled = (what & 32) != 0;
		step(w, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->ends[index].config});
		return;
	case 9:
		begin(w, index);
		return;
	case 10:
		step(w, index,
		     &(struct ike_event){.kind = what & 16 ? IKE_EVENT_TUNNEL_REMOVED : IKE_EVENT_TUNNELS_KNOWN,
		                         .text = "tun-1"});
		return;
	default: // delivered
		if (copy) {
			struct copy whole = *copy;
			deliver(w, &whole, (struct bytes){whole.octets, octets.length});
		}
		break;
	}
	if (copy) {
		w->first = (w->first + 1) % FLIGHT;
		w->count--;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w = allocate(sizeof *w);
	w->input = reader_of((struct bytes){data, size});
	w->now = SECONDS(10);
	begin(w, 0);
	begin(w, 1);
	while (reader_left(&w->input) > 0 && !w->input.failed) {
		happen(w);
	}
	for (int i = 0; i < 2; i++) {
		// Time must pass: a deadline that stays is a loop.
		for (int spins = 0; ike_deadline(w->ends[i].ike) <= w->now; spins++) {
			if (spins > 100) {
				abort();
			}
			step(w, i, &(struct ike_event){.kind = IKE_EVENT_TIME});
		}
	}
	for (int i = 0; i < 2; i++) {
		ike_free(&w->ends[i].ike);
		while (w->ends[i].count > 0) {
			forget(&w->ends[i], w->ends[i].keys[0]);
		}
	}
	free(w);
	return 0;
}
