// The output barrier (services/ike/net_output.c) with doubles for what it stands between, the bus and the socket: what waits for
// esp leaves in its order and not before; what is bounded is bounded for each pair of addresses, so that nobody's datagrams are
// pushed out by those of others.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "services/ike/net_output.c"

enum { SENT_MOST = 70000 };

struct metric {
	uint64_t value;
};
static struct metric dropped_metric, held_metric;
static uint64_t applied;
static struct {
	uint16_t port; // of the peer: who sent it
	uint8_t number;
} sent[SENT_MOST];
static size_t sent_count;
static struct service service;

struct metric *metric(enum metric_kind kind, const char *name, const char *labels, const char *help)
{
	(void)name;
	(void)labels;
	(void)help;
	return kind == METRIC_COUNTER ? &dropped_metric : &held_metric;
}

void metric_add(struct metric *m, uint64_t n)
{
	m->value += n;
}

void metric_set(struct metric *m, double value)
{
	m->value = (uint64_t)value;
}

bool ike_bus_passed(const struct ike_bus *bus, const struct barrier *barrier)
{
	(void)bus;
	return barrier->child_sa <= applied;
}

void udp_send(struct udp *udp, const struct ike_datagram *const datagrams[], size_t count)
{
	(void)udp;
	assert_in_range(count, 1, SEND_BATCH);
	for (size_t i = 0; i < count; i++) {
		assert_true(sent_count < SENT_MOST);
		sent[sent_count].port = datagrams[i]->remote_port;
		sent[sent_count++].number = datagrams[i]->octets.data[0];
	}
}

static void begin(void)
{
	applied = 0;
	sent_count = 0;
	dropped_metric.value = held_metric.value = 0;
	service.output = output_new(&service);
}

// One datagram of the peer's of that number.
static void take(uint32_t peer, uint8_t number, bool stateless)
{
	struct ike_action action = {.kind = IKE_ACTION_SEND, .stateless = stateless, .octets = allocate(1), .length = 1};
	action.octets[0] = number;
	action.datagram = (struct ike_datagram){.local = {4, {198, 51, 100, 17}},
	                                        .remote = {4, {10, (uint8_t)(peer >> 16), (uint8_t)(peer >> 8), (uint8_t)peer}},
	                                        .remote_port = (uint16_t)peer,
	                                        .octets = {action.octets, 1}};
	struct ike_actions actions = {.items = &action, .count = 1};
	output_take(service.output, &actions);
	free(action.octets);
}

static void waits_for_its_own_barrier(void **state)
{
	(void)state;
	begin();
	take(1, 1, false);
	take(2, 2, true); // has nothing to wait for
	assert_true(output_awaits(service.output));
	output_release(service.output, (struct barrier){.child_sa = 1});
	assert_false(output_awaits(service.output));
	assert_int_equal(sent_count, 1);
	assert_int_equal(sent[0].number, 2);
	take(1, 3, false);
	output_release(service.output, (struct barrier){.child_sa = 2});
	assert_int_equal(held_metric.value, 2);
	applied = 1;
	output_flush(service.output);
	assert_int_equal(sent_count, 2);
	assert_int_equal(sent[1].number, 1);
	take(1, 4, false); // its barrier is not known yet: it does not pass with another's
	applied = 9;
	output_flush(service.output);
	assert_int_equal(sent_count, 3);
	assert_int_equal(sent[2].number, 3);
	output_release(service.output, (struct barrier){.child_sa = 3});
	assert_int_equal(sent_count, 4);
	assert_int_equal(held_metric.value, 0);
	output_free(&service.output);
}

static void a_pair_keeps_its_newest(void **state)
{
	(void)state;
	begin();
	take(7, 99, false);
	for (uint8_t i = 0; i < PAIR_MAX + 4; i++) {
		take(1, i, false);
		output_release(service.output, (struct barrier){.child_sa = 1});
	}
	assert_int_equal(dropped_metric.value, 4);
	applied = 1;
	output_flush(service.output);
	assert_int_equal(sent_count, PAIR_MAX + 1);
	assert_int_equal(sent[0].number, 99); // somebody else's stays
	for (size_t i = 1; i < sent_count; i++) {
		assert_int_equal(sent[i].number, i + 3);
	}
	output_free(&service.output);
}

static void there_is_an_end_to_all_of_them(void **state)
{
	(void)state;
	begin();
	for (uint32_t peer = 0; peer < WAITING_MAX + 100; peer++) {
		take(peer, 1, false);
		output_release(service.output, (struct barrier){.child_sa = 1});
	}
	assert_int_equal(dropped_metric.value, 100);
	assert_int_equal(held_metric.value, WAITING_MAX);
	applied = 1;
	output_flush(service.output);
	assert_int_equal(sent_count, WAITING_MAX);
	for (size_t i = 0; i < sent_count; i++) {
		assert_int_equal(sent[i].port, (uint16_t)i); // who came first is served
	}
	output_free(&service.output);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(waits_for_its_own_barrier),
	    cmocka_unit_test(a_pair_keeps_its_newest),
	    cmocka_unit_test(there_is_an_end_to_all_of_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
