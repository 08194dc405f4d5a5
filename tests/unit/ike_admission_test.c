// What strangers may do to a responder (RFC 7296 §2.6), with counts: that they cost no key exchange and no row, how much is
// sent back, what one costs who receives at the peer's address, and that the peer itself gets through at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "tests/unit/ike_pair.h"

#include "tests/unit/ike_fake_peer.h"

enum { FLOOD = 10000 };

static const struct algorithms offered_wrong = {.encryption = {ENCRYPTION_AES_CBC_128},
                                                .integrity = {INTEGRITY_SHA1},
                                                .groups = {GROUP_CURVE25519},
                                                .encryption_count = 1,
                                                .integrity_count = 1,
                                                .group_count = 1};

struct seen {
	size_t asked, answered; // octets
	size_t answers, rows, waiting;
	uint64_t computed, cookies;
};

// One spoofed datagram after another, so many in `time`.
static struct seen flood(struct fake *f, const struct fake_init *how, uint8_t group, size_t count, duration time)
{
	struct seen seen = {0};
	struct pair *p = f->p;
	uint64_t computed = counted(p, 0, IKE_KEY_EXCHANGE), cookies = counted(p, 0, IKE_COOKIE_ASKED);
	for (size_t i = 0; i < count; i++) {
		struct bytes message = fake_init(f, how, group);
		struct ike_datagram d = {.local = p->ends[0].config.local,
		                         .remote = p->ends[0].config.remote,
		                         .local_port = 500,
		                         .remote_port = (uint16_t)(1 + i % 65000),
		                         .octets = message};
		p->now += time / (duration)count;
		struct ike_actions actions = {0};
		ike_step(p->ends[0].ike, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = d}, p->now, &actions);
		seen.asked += message.length;
		size_t answered = 0;
		for (size_t k = 0; k < actions.count; k++) {
			bool sends = actions.items[k].kind == IKE_ACTION_SEND;
			answered += sends ? actions.items[k].length : 0;
			seen.answers += sends;
			seen.waiting += sends && !actions.items[k].stateless;
			seen.rows += !sends;
			if (actions.items[k].kind == IKE_ACTION_STATUS) {
				p->ends[0].status = *actions.items[k].status;
			}
		}
		assert_true(answered <= message.length); // never more than came
		seen.answered += answered;
		ike_actions_free(&actions);
	}
	seen.computed = counted(p, 0, IKE_KEY_EXCHANGE) - computed;
	seen.cookies = counted(p, 0, IKE_COOKIE_ASKED) - cookies;
	return seen;
}

static struct pair *waiting_pair(void)
{
	struct pair *p = new_pair();
	p->ends[0].config.initiate = false;
	p->ends[1].config.initiate = true;
	p->ends[0].config.ike.groups[2] = GROUP_MODP_2048;
	p->ends[0].config.ike.group_count = 3;
	tell(p, 0);
	return p;
}

// While all of it comes, the peer itself comes up.
static void peer_comes_up(struct pair *p)
{
	forget_record(p);
	tell(p, 1);
	run(p, SECONDS(1));
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(p->ends[1].status.state, TUNNEL_UP);
}

static const uint8_t zero[256], ones[256] = {[0 ... 255] = 0xff};
static uint8_t one[256], last[256];
// p-1 of the 2048-bit group (RFC 3526 §3).
static const char last_of_group_14[] = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a087"
                                       "98e3404ddef9519b3cd3a431b302b0a6df25f1437"
                                       "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f241"
                                       "17c4b1fe649286651ece45b3dc2007cb8a163bf05"
                                       "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354"
                                       "e4abc9804f1746c08ca18217c32905e462e36ce3b"
                                       "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261"
                                       "898fa051015728e5a8aacaa68fffffffffffffffe";

static const struct {
	const char *what;
	struct fake_init how;
	uint8_t group;
	bool computed; // with a cookie
} kinds[] = {
    {"good", {0}, GROUP_CURVE25519, true},
    {"no proposal of ours", {.offer = &offered_wrong}, GROUP_CURVE25519, false},
    {"X25519 0", {.value = zero, .value_length = 32}, GROUP_CURVE25519, false},
    {"off P-256", {.value = ones, .value_length = 64}, GROUP_ECP_256, false},
    {"P-256 0", {.value = zero, .value_length = 64}, GROUP_ECP_256, false},
    {"MODP 0", {.value = zero, .value_length = 256}, GROUP_MODP_2048, false},
    {"MODP 1", {.value = one, .value_length = 256}, GROUP_MODP_2048, false},
    {"MODP above p", {.value = ones, .value_length = 256}, GROUP_MODP_2048, false},
    {"MODP p-1", {.value = last, .value_length = 256}, GROUP_MODP_2048, false},
    {"too short", {.value = zero, .value_length = 31}, GROUP_CURVE25519, false},
    {"small", {.no_nat_detection = true}, GROUP_CURVE25519, true},
};

static int make_values(void **state)
{
	(void)state;
	one[255] = 1;
	return hex_parse(last_of_group_14, last, sizeof last) == sizeof last ? 0 : -1;
}

static void no_flood_costs_a_key_exchange_or_a_row(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * sizeof kinds / sizeof kinds[0]; i++) {
		bool up = i % 2;
		struct pair *p = waiting_pair();
		if (up) {
			peer_comes_up(p);
		}
		struct fake *f = new_fake(p, true);
		struct seen seen = flood(f, &kinds[i / 2].how, kinds[i / 2].group, FLOOD, MILLISECONDS(500));
		print_message("%s at a tunnel that is %s: %zu answers, %zu rows\n", kinds[i / 2].what, up ? "up" : "down",
		              seen.answers, seen.rows);
		assert_int_equal(seen.computed, 0);
		assert_int_equal(seen.cookies, FLOOD);
		assert_int_equal(seen.rows, 0);
		assert_int_equal(seen.waiting, 0); // a cookie waits for no row to be safe
		assert_true(seen.answered < seen.asked);
		assert_int_equal(ike_gauges(p->ends[0].ike).half_open, 0);
		assert_int_equal(p->ends[0].down, 0);
		if (!up) {
			peer_comes_up(p);
		}
		run(p, SECONDS(60));
		assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
		free_fake(f);
	}
}

static struct bytes cookie_of(struct fake *f, uint8_t out[static COOKIE_MAX])
{
	struct payloads payloads = fake_payloads(fake_last(f));
	struct notification n;
	assert_true(notification_find(&payloads, COOKIE, &n));
	memcpy(out, n.data.data, n.data.length);
	return (struct bytes){out, n.data.length};
}

// One that receives at the customer's address: sends IKE_SA_INIT, and the same with the cookie that is asked for. Whether the
// second was answered.
static bool ask_with_cookie(struct fake *f, const struct fake_init *how, uint8_t group)
{
	uint8_t octets[COOKIE_MAX];
	struct fake_init second = *how;
	forget_record(f->p);
	fake_send(f, fake_init(f, how, group));
	second.cookie = cookie_of(f, octets);
	size_t before = f->p->record_count;
	fake_send(f, fake_init(f, &second, group));
	return f->p->record_count > before;
}

// Nor does one that returns its cookie cost a key exchange, unless its value is one that a peer may send.
static void nothing_is_computed_with_a_value_that_is_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct pair *p = waiting_pair();
		struct fake *f = new_fake(p, true);
		ask_with_cookie(f, &kinds[i].how, kinds[i].group);
		assert_int_equal(counted(p, 0, IKE_KEY_EXCHANGE), kinds[i].computed ? 2 : 0);
		free_fake(f);
	}
}

// A thousand offers, all different, in one instant, of one that returns the cookies: told once; what a neighbour that has not
// the key says after that is told too, and a tunnel that is UP takes no notice.
static void varied_offers_are_told_once(void **state)
{
	(void)state;
	struct pair *p = waiting_pair();
	struct fake *f = new_fake(p, true);
	for (size_t i = 0; i < 1000; i++) {
		struct algorithms offer = offered_wrong;
		offer.encryption[0] = (uint8_t)(ENCRYPTION_AES_CBC_128 + i % 2);
		offer.integrity[0] = (uint8_t)(INTEGRITY_SHA1 + i % 4);
		ask_with_cookie(f, &(struct fake_init){.offer = &offer}, GROUP_CURVE25519);
	}
	assert_true(p->ends[0].events <= 1 && p->ends[0].statuses <= 2);
	assert_non_null(strstr(p->ends[0].status.reason, "no common encryption algorithm"));
	run(p, SECONDS(30));
	f->secret = "another.secret";
	fake_begin(f);
	fake_auth(f, PROTOCOL_ESP, 0);
	assert_non_null(strstr(p->ends[0].status.reason, "pre-shared key mismatch"));
	run(p, SECONDS(5));
	// What anybody may have sent does not cover it: the version is all that is told of one without a cookie.
	struct bytes message = fake_init(f, &(struct fake_init){0}, GROUP_CURVE25519);
	f->request[17] = 0x10;
	fake_send(f, message);
	assert_non_null(strstr(p->ends[0].status.reason, "pre-shared key mismatch"));
	run(p, SECONDS(30));
	fake_send(f, message);
	assert_non_null(strstr(p->ends[0].status.reason, "the peer speaks IKEv1"));
	peer_comes_up(p);
	unsigned events = p->ends[0].events, statuses = p->ends[0].statuses;
	ask_with_cookie(f, &(struct fake_init){.offer = &offered_wrong}, GROUP_CURVE25519);
	assert_int_equal(p->ends[0].events, events);
	assert_int_equal(p->ends[0].statuses, statuses);
	free_fake(f);
}

static void only_our_cookie_opens(void **state)
{
	(void)state;
	struct pair *p = waiting_pair();
	struct fake *f = new_fake(p, true);
	uint64_t computed = counted(p, 0, IKE_KEY_EXCHANGE);
	uint8_t octets[COOKIE_MAX];
	fake_send(f, fake_init(f, &(struct fake_init){0}, GROUP_CURVE25519));
	struct bytes cookie = cookie_of(f, octets);
	octets[5] ^= 1;
	fake_send(f, fake_init(f, &(struct fake_init){.cookie = cookie}, GROUP_CURVE25519));
	assert_int_equal(counted(p, 0, IKE_KEY_EXCHANGE), computed);
	octets[5] ^= 1;
	uint64_t spi = f->sa.spi_i;
	f->sa.spi_i ^= 1;
	fake_send(f, fake_init(f, &(struct fake_init){.cookie = cookie}, GROUP_CURVE25519));
	assert_int_equal(counted(p, 0, IKE_KEY_EXCHANGE), computed);
	f->sa.spi_i = spi;
	fake_send(f, fake_init(f, &(struct fake_init){.cookie = cookie}, GROUP_CURVE25519));
	assert_int_equal(counted(p, 0, IKE_KEY_EXCHANGE), computed + 2);
	free_fake(f);
}

// Who receives at the customer's address without the key (a host behind its NAT) takes so many key exchanges in a second and no
// more, and what it leaves behind fills no place that the peer needs.
static void neighbours_of_the_peer_are_limited_and_take_no_place(void **state)
{
	(void)state;
	struct pair *p = waiting_pair();
	peer_comes_up(p);
	p->cut = true;
	struct fake *f = new_fake(p, true);
	f->secret = "another.secret";
	uint64_t computed = counted(p, 0, IKE_KEY_EXCHANGE);
	for (int i = 0; i < 200; i++) {
		ask_with_cookie(f, &(struct fake_init){0}, GROUP_CURVE25519);
		p->now += MILLISECONDS(10);
	}
	assert_true(counted(p, 0, IKE_KEY_EXCHANGE) - computed <= 2 * (16 + 4 * 2 + 1));
	assert_true(counted(p, 0, IKE_DROP_HALF_OPEN) > 100);
	// Twenty-four that fail, then a rekeying of the peer.
	for (int i = 0; i < 24; i++) {
		run(p, SECONDS(1));
		forget_record(p);
		fake_begin(f);
		fake_auth(f, PROTOCOL_ESP, 0);
	}
	p->cut = false;
	p->flight_count = 0;
	p->ends[1].config.rekey_ike_requests++;
	configure(p, 1);
	run(p, SECONDS(10));
	assert_int_equal(p->ends[0].status.ike_rekeys, 1);
	assert_int_equal(p->ends[1].status.ike_rekeys, 1);
	mirrored(p);
	free_fake(f);
}

static void repeats_are_answered_a_few_times(void **state)
{
	(void)state;
	struct pair *p = waiting_pair();
	p->cut = true;
	struct fake *f = new_fake(p, true);
	assert_true(ask_with_cookie(f, &(struct fake_init){0}, GROUP_CURVE25519));
	struct bytes message = {f->request, f->request_length};
	size_t sent = p->record_count;
	for (int i = 0; i < 200; i++) {
		p->now += MILLISECONDS(1);
		fake_send(f, message);
	}
	assert_true(p->record_count <= sent + 2);
	for (int i = 0; i < 13; i++) {
		p->now += SECONDS(1);
		fake_send(f, message);
	}
	assert_true(p->record_count > sent + 5 && p->record_count <= sent + 8);
	free_fake(f);
}

static void our_own_message_sent_back_begins_nothing(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	p->cut = true;
	tell(p, 0);
	struct fake *f = new_fake(p, true);
	size_t sent = p->record_count;
	fake_send(f, fake_last(f));
	assert_int_equal(p->record_count, sent);
	assert_int_equal(ike_gauges(p->ends[0].ike).half_open, 0);
	free_fake(f);
}

// A device that connects and disconnects four times a second is no stranger.
static void a_busy_peer_is_never_refused(void **state)
{
	(void)state;
	struct pair *p = waiting_pair();
	peer_comes_up(p);
	for (int i = 0; i < 80; i++) {
		forget_record(p);
		p->ends[1].config.enabled = false;
		configure(p, 1);
		run(p, MILLISECONDS(50));
		assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
		p->ends[1].config.enabled = true;
		configure(p, 1);
		run(p, MILLISECONDS(200));
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	}
	assert_int_equal(counted(p, 0, IKE_DROP_HALF_OPEN), 0);
	assert_true(ike_gauges(p->ends[0].ike).ike_sas <= 24);
	free_pair(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(no_flood_costs_a_key_exchange_or_a_row),
	    cmocka_unit_test(nothing_is_computed_with_a_value_that_is_none),
	    cmocka_unit_test(varied_offers_are_told_once),
	    cmocka_unit_test(only_our_cookie_opens),
	    cmocka_unit_test(neighbours_of_the_peer_are_limited_and_take_no_place),
	    cmocka_unit_test(repeats_are_answered_a_few_times),
	    cmocka_unit_test(our_own_message_sent_back_begins_nothing),
	    cmocka_unit_test(a_busy_peer_is_never_refused),
	};
	return cmocka_run_group_tests(tests, make_values, NULL);
}
