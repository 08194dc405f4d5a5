// The output barrier: a datagram leaves only when esp has applied the child SAs and saved states that the same step put. So an
// inbound SA is in the dataplane before the peer may use it, and a killed ike resumes from no later a state than the peer has
// seen.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/ike/shell.h"

// While esp is away, datagrams wait; IKE retransmits, so beyond this the oldest are dropped.
enum { OUTPUT_MAX = 4096 };

struct waiting {
	struct waiting *next;
	struct barrier barrier;
	struct ike_datagram datagram;
	uint8_t octets[];
};

struct output {
	struct service *service;
	struct waiting *first;
	struct waiting **last;
	size_t count;
	struct metric *dropped;
	struct metric *held;
};

struct output *output_new(struct service *service)
{
	struct output *output = allocate(sizeof *output);
	output->service = service;
	output->last = &output->first;
	output->dropped = metric(METRIC_COUNTER, "twinspan_ike_output_dropped_total", NULL,
	                         "Datagrams given up because esp did not confirm the state before them");
	output->held = metric(METRIC_GAUGE, "twinspan_ike_output_waiting", NULL,
	                      "Datagrams that wait for esp to confirm the state before them");
	return output;
}

static void drop_first(struct output *output)
{
	struct waiting *first = output->first;
	output->first = first->next;
	if (!output->first) {
		output->last = &output->first;
	}
	output->count--;
	metric_set(output->held, (double)output->count);
	free(first);
}

void output_free(struct output **output)
{
	if (!*output) {
		return;
	}
	while ((*output)->first) {
		drop_first(*output);
	}
	free(*output);
	*output = NULL;
}

void output_queue(struct output *output, const struct ike_actions *actions, struct barrier barrier)
{
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		if (action->kind != IKE_ACTION_SEND) {
			continue;
		}
		if (output->count == OUTPUT_MAX) {
			drop_first(output);
			metric_add(output->dropped, 1);
		}
		struct bytes octets = action->datagram.octets;
		struct waiting *waiting = allocate(sizeof *waiting + octets.length);
		waiting->barrier = barrier;
		waiting->datagram = action->datagram;
		memcpy(waiting->octets, octets.data, octets.length);
		waiting->datagram.octets.data = waiting->octets;
		*output->last = waiting;
		output->last = &waiting->next;
		output->count++;
	}
	metric_set(output->held, (double)output->count);
	output_flush(output);
}

void output_flush(struct output *output)
{
	while (output->first && ike_bus_passed(output->service->bus, &output->first->barrier)) {
		udp_send(output->service->udp, &output->first->datagram);
		drop_first(output);
	}
}
