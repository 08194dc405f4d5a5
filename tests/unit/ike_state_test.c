// Saved states: what a newer or an older version wrote is gone on with, what is damaged is refused, and many tunnels that are
// restored at once ask their peers one after the other.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

#include "common/base/random.h"
#include "services/ike/tunnel/tunnel.h"

// ---- a state taken apart: tag, length, octets ----
enum { PART_CONFIG = 1, PART_TUNNEL, PART_IKE_SA, PART_CHILD_SA, STATE_OCTETS = 65536 };

struct state {
	uint8_t octets[STATE_OCTETS];
	size_t length;
};

// The fields of `run` with `change` made to those of one tag: NULL octets take it out.
static void copy_fields(struct bytes run, struct writer *w, uint8_t tag, const struct bytes *change)
{
	struct reader r = reader_of(run);
	while (reader_left(&r) > 0) {
		uint8_t this_tag = read_u8(&r);
		struct bytes octets = read_bytes(&r, read_u16(&r));
		assert_false(r.failed);
		octets = this_tag == tag ? *change : octets;
		if (octets.data) {
			write_u8(w, this_tag);
			write_u16(w, (uint16_t)octets.length);
			write_bytes(w, octets);
		}
	}
}

// Changes, takes out or (when it has none of that tag) adds a field of one part.
static void edit(struct state *state, uint8_t part, uint8_t tag, struct bytes value, bool add)
{
	static uint8_t inner[STATE_OCTETS], outer[STATE_OCTETS];
	struct reader r = reader_of((struct bytes){state->octets, state->length});
	struct writer w = writer_of(outer, sizeof outer);
	write_u8(&w, read_u8(&r));
	while (reader_left(&r) > 0) {
		uint8_t this_part = read_u8(&r);
		struct bytes octets = read_bytes(&r, read_u16(&r));
		struct writer in = writer_of(inner, sizeof inner);
		if (this_part == part) {
			copy_fields(octets, &in, tag, &value);
			if (add) {
				write_u8(&in, tag);
				write_u16(&in, (uint16_t)value.length);
				write_bytes(&in, value);
			}
			octets = writer_bytes(&in);
		}
		write_u8(&w, this_part);
		write_u16(&w, (uint16_t)octets.length);
		write_bytes(&w, octets);
	}
	assert_false(w.failed);
	state->length = writer_length(&w);
	memcpy(state->octets, outer, state->length);
}

static struct state *taken(const struct end *e)
{
	struct state *state = allocate(sizeof *state);
	assert_int_equal(e->state_count, 1);
	state->length = e->state_lengths[0];
	memcpy(state->octets, e->states[0], state->length);
	return state;
}

// Puts it back and begins end 0 anew with it.
static void begin_with(struct pair *p, const struct state *state)
{
	struct end *e = &p->ends[0];
	free(e->states[0]);
	e->states[0] = allocate(state->length);
	memcpy(e->states[0], state->octets, state->length);
	e->state_lengths[0] = state->length;
	ike_free(&e->ike);
	begin(p, 0);
	tell(p, 0);
}

static void a_newer_and_an_older_version_go_on(void **state)
{
	(void)state;
	static const uint8_t parts[] = {PART_CONFIG, PART_TUNNEL, PART_IKE_SA, PART_CHILD_SA};
	for (size_t i = 0; i < sizeof parts; i++) {
		struct pair *p = new_up_pair();
		struct state *s = taken(&p->ends[0]);
		edit(s, parts[i], 250, text_bytes("what is not known yet"), true);
		begin_with(p, s);
		run(p, SECONDS(40));
		mirrored(p);
		assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
		assert_int_equal(p->ends[0].status.generation, 1);
		free(s);
		free_pair(p);
	}
	// A whole part that is not known, and fields that were not known then.
	static const struct {
		uint8_t part, tag;
	} missing[] = {{PART_TUNNEL, 10}, {PART_IKE_SA, 33}, {PART_IKE_SA, 34}, {PART_CHILD_SA, 20}, {PART_CHILD_SA, 22}};
	for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
		struct pair *p = new_up_pair();
		struct state *s = taken(&p->ends[0]);
		edit(s, missing[i].part, missing[i].tag, (struct bytes){0}, false);
		memcpy(s->octets + s->length, "\x63\x00\x02hi", 5);
		s->length += 5;
		begin_with(p, s);
		run(p, SECONDS(40));
		mirrored(p);
		assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
		p->ends[0].config.rekey_child_requests++;
		configure(p, 0);
		run(p, SECONDS(8));
		assert_int_equal(p->ends[1].status.child_rekeys, 1);
		free(s);
		free_pair(p);
	}
}

static void damaged_states_do_no_harm(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	struct state *s = taken(&p->ends[0]);
	struct random random;
	random_init_number(&random, 3);
	uint8_t seed[32] = {9};
	unsigned restored = 0;
	for (int i = 0; i < 3000; i++) {
		uint8_t octets[STATE_OCTETS];
		memcpy(octets, s->octets, s->length);
		for (uint32_t k = random_below(&random, 4) + 1; k > 0; k--) {
			octets[1 + random_below(&random, (uint32_t)s->length - 1)] = (uint8_t)random_u32(&random);
		}
		struct ike *ike = ike_new(seed);
		struct ike_actions actions = {0};
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_RESTORE, .bytes = {octets, s->length}}, p->now, &actions);
		restored += ike_gauges(ike).ike_sas > 0;
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_START}, p->now, &actions);
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN}, p->now, &actions);
		for (int t = 0; t < 20; t++) {
			ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_TIME}, p->now + SECONDS(t), &actions);
			ike_actions_clear(&actions);
		}
		ike_actions_free(&actions);
		ike_free(&ike);
	}
	assert_true(restored > 100 && restored < 3000); // most octets are keys
	free(s);
	free_pair(p);
}

static void many_that_are_restored_ask_one_after_the_other(void **state)
{
	(void)state;
	enum { TUNNELS = 4096 };
	struct pair *p = new_up_pair();
	struct state *s = taken(&p->ends[0]);
	uint8_t seed[32] = {7};
	struct ike *ike = ike_new(seed);
	struct ike_actions actions = {0};
	for (uint32_t i = 0; i < TUNNELS; i++) {
		char id[32], address[32];
		struct address remote;
		snprintf(id, sizeof id, "tun-m%u", i);
		snprintf(address, sizeof address, "10.0.%u.%u", i / 250, i % 250 + 1);
		address_parse(address, &remote);
		uint8_t spi[8] = {9, 9, 9, 9}, child[4] = {9, 0, (uint8_t)(i >> 8), (uint8_t)i};
		memcpy(spi + 4, child, sizeof child);
		edit(s, PART_CONFIG, 1, text_bytes(id), false);
		edit(s, PART_CONFIG, 4, address_bytes(&remote), false);
		edit(s, PART_IKE_SA, 1, (struct bytes){spi, sizeof spi}, false);
		edit(s, PART_IKE_SA, 11, address_bytes(&remote), false);
		edit(s, PART_CHILD_SA, 1, (struct bytes){child, sizeof child}, false);
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_RESTORE, .bytes = {s->octets, s->length}}, p->now,
		         &actions);
	}
	ike_actions_clear(&actions);
	assert_int_equal(ike_gauges(ike).ike_sas, TUNNELS);
	ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_START}, p->now, &actions);
	size_t most = 0, sent = 0;
	for (instant at = p->now; at < p->now + SECONDS(5); at += MILLISECONDS(10)) {
		size_t count = 0;
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_TIME}, at, &actions);
		for (size_t i = 0; i < actions.count; i++) {
			count += actions.items[i].kind == IKE_ACTION_SEND;
		}
		ike_actions_clear(&actions);
		most = count > most ? count : most;
		sent += count;
	}
	print_message("%zu datagrams, at most %zu in 10 ms\n", sent, most);
	assert_true(sent >= TUNNELS);
	assert_true(most <= 60);
	ike_actions_free(&actions);
	ike_free(&ike);
	free(s);
	free_pair(p);
}

// A tunnel whose row says nothing that is understood is still a tunnel.
static void a_tunnel_that_is_only_known_to_be_there_goes_on(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	ike_free(&p->ends[0].ike);
	begin(p, 0);
	step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TUNNEL_KEPT, .text = "tun-1"});
	step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TUNNEL_KEPT, .text = "tun-of-nobody"});
	step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN});
	run(p, SECONDS(60));
	mirrored(p);
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	assert_int_equal(ike_gauges(p->ends[0].ike).tunnels, 1);
	free_pair(p);
}

// At the end of a process that must not go on.
static void nothing_secret_stays_after_a_wipe(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	struct ike *ike = p->ends[0].ike;
	const struct tunnel *tunnel = tunnel_find(ike, "tun-1");
	const struct ike_sa *sa = tunnel_current(tunnel);
	const struct child_sa *child = sa->children[0];
	const struct secret *shared = tunnel_secret(ike, tunnel);
	const struct secret *const secrets[] = {&sa->keys.d,           &sa->keys.ei,           &sa->keys.er, &sa->keys.pi,
	                                        &child->encryption_in, &child->encryption_out, shared};
	static const struct secret nothing;
	for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
		assert_true(secrets[i]->length > 0);
	}
	ike_wipe(ike);
	for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
		assert_memory_equal(secrets[i]->octets, nothing.octets, sizeof nothing.octets);
	}
	free_pair(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_newer_and_an_older_version_go_on),
	    cmocka_unit_test(damaged_states_do_no_harm),
	    cmocka_unit_test(many_that_are_restored_ask_one_after_the_other),
	    cmocka_unit_test(a_tunnel_that_is_only_known_to_be_there_goes_on),
	    cmocka_unit_test(nothing_secret_stays_after_a_wipe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
