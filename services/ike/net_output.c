// The output barrier: a datagram leaves only when esp has applied the child SAs and saved states that the same batch put. So an
// inbound SA is in the dataplane before the peer may use it, and a killed ike resumes from no later a state than the peer has
// seen. What has made no state (a cookie, a refusal, a keepalive) waits for nothing.
//
// While esp is away, datagrams wait, and IKE repeats them: of one pair of addresses a few are kept, the oldest goes; when there
// are too many of all, the newest does. So no peer's datagrams are pushed out by those of others.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "services/ike/shell.h"

enum { WAITING_MAX = 65536, PAIR_MAX = 16 };

struct pair;
struct waiting {
	struct waiting *next, *previous; // of all
	struct waiting *next_of_pair;
	struct pair *pair;
	struct barrier barrier;
	struct ike_datagram datagram;
	uint8_t octets[];
};
struct pair { // of addresses
	struct waiting *first, *last;
	size_t count;
};

struct output {
	struct service *service;
	struct waiting *first, *last;
	struct waiting *unreleased; // the first whose barrier is not known yet
	size_t count;
	struct map *pairs;                    // by both addresses
	struct ike_datagram free[SEND_BATCH]; // that need not wait; their octets are `free_octets`
	uint8_t *free_octets[SEND_BATCH];
	size_t free_count;
	struct metric *dropped;
	struct metric *held;
};

struct output *output_new(struct service *service)
{
	struct output *output = allocate(sizeof *output);
	output->service = service;
	output->pairs = map_new(NULL);
	output->dropped = metric(METRIC_COUNTER, "twinspan_ike_output_dropped_total", NULL,
	                         "Datagrams given up because esp did not confirm the state before them");
	output->held = metric(METRIC_GAUGE, "twinspan_ike_output_waiting", NULL,
	                      "Datagrams that wait for esp to confirm the state before them");
	return output;
}

struct pair_key {
	uint8_t octets[2 * sizeof(struct address)];
};

static struct bytes key_of(const struct ike_datagram *datagram, struct pair_key *key)
{
	struct writer w = writer_of(key->octets, sizeof key->octets);
	write_bytes(&w, address_bytes(&datagram->local));
	write_bytes(&w, address_bytes(&datagram->remote));
	return writer_bytes(&w);
}

// Takes the first of its pair out of both lists.
static void drop(struct output *output, struct waiting *waiting)
{
	struct pair *pair = waiting->pair;
	invariant(pair->first == waiting && output->count > 0);
	pair->first = waiting->next_of_pair;
	if (--pair->count == 0) {
		struct pair_key key;
		map_remove(output->pairs, key_of(&waiting->datagram, &key));
		free(pair);
	}
	*(waiting->previous ? &waiting->previous->next : &output->first) = waiting->next;
	*(waiting->next ? &waiting->next->previous : &output->last) = waiting->previous;
	if (output->unreleased == waiting) {
		output->unreleased = waiting->next;
	}
	output->count--;
	free(waiting);
}

void output_free(struct output **output)
{
	if (!*output) {
		return;
	}
	while ((*output)->first) {
		drop(*output, (*output)->first);
	}
	map_free(&(*output)->pairs, NULL);
	free(*output);
	*output = NULL;
}

static void keep(struct output *output, const struct ike_datagram *datagram)
{
	struct pair_key key;
	struct bytes pair_octets = key_of(datagram, &key);
	struct pair *pair = map_find(output->pairs, pair_octets);
	if (pair && pair->count == PAIR_MAX) {
		drop(output, pair->first);
		metric_add(output->dropped, 1);
	} else if (output->count == WAITING_MAX) {
		metric_add(output->dropped, 1);
		return;
	}
	if (!pair) {
		pair = allocate(sizeof *pair);
		map_insert(output->pairs, pair_octets, pair);
	}
	struct waiting *waiting = allocate(sizeof *waiting + datagram->octets.length);
	waiting->datagram = *datagram;
	memcpy(waiting->octets, datagram->octets.data, datagram->octets.length);
	waiting->datagram.octets.data = waiting->octets;
	waiting->pair = pair;
	*(pair->count > 0 ? &pair->last->next_of_pair : &pair->first) = waiting;
	pair->last = waiting;
	pair->count++;
	waiting->previous = output->last;
	*(output->last ? &output->last->next : &output->first) = waiting;
	output->last = waiting;
	output->unreleased = output->unreleased ? output->unreleased : waiting;
	output->count++;
	invariant(pair->count <= PAIR_MAX && output->count <= WAITING_MAX);
}

static void send_free(struct output *output)
{
	const struct ike_datagram *batch[SEND_BATCH];
	for (size_t i = 0; i < output->free_count; i++) {
		batch[i] = &output->free[i];
	}
	if (output->free_count > 0) {
		udp_send(output->service->udp, batch, output->free_count);
	}
	for (size_t i = 0; i < output->free_count; i++) {
		free(output->free_octets[i]);
	}
	output->free_count = 0;
}

void output_take(struct output *output, struct ike_actions *actions)
{
	for (size_t i = 0; i < actions->count; i++) {
		struct ike_action *action = &actions->items[i];
		if (action->kind != IKE_ACTION_SEND) {
			continue;
		}
		if (!action->stateless) {
			keep(output, &action->datagram);
			continue;
		}
		if (output->free_count == SEND_BATCH) {
			send_free(output);
		}
		output->free[output->free_count] = action->datagram;
		output->free_octets[output->free_count++] = action->octets;
		action->octets = NULL; // ours now
		action->length = 0;
	}
}

bool output_awaits(const struct output *output)
{
	return output->unreleased != NULL;
}

void output_release(struct output *output, struct barrier barrier)
{
	send_free(output);
	for (struct waiting *waiting = output->unreleased; waiting; waiting = waiting->next) {
		waiting->barrier = barrier;
	}
	output->unreleased = NULL;
	output_flush(output);
}

void output_flush(struct output *output)
{
	for (;;) {
		const struct ike_datagram *batch[SEND_BATCH];
		size_t count = 0;
		for (struct waiting *waiting = output->first; waiting && waiting != output->unreleased && count < SEND_BATCH;
		     waiting = waiting->next) {
			if (!ike_bus_passed(output->service->bus, &waiting->barrier)) {
				break;
			}
			batch[count++] = &waiting->datagram;
		}
		if (count == 0) {
			break;
		}
		udp_send(output->service->udp, batch, count);
		for (size_t i = 0; i < count; i++) {
			drop(output, output->first);
		}
	}
	metric_set(output->held, (double)output->count);
}
