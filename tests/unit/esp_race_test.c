// Workers in full run while the control thread turns every table over: what a worker holds must stay alive as long as it may
// look at it (the address sanitizer sees when it does not), packets of flows whose rows stay are all there, and an SA that goes
// and comes back with the same key never sends the same number twice.
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/esp_pair.h"

#include "common/base/random.h"

enum { WORKERS = 2, TURNS = 300000, RECORDS = 256, RETURNING = 0x30000 };
enum { NUMBERS_MAX = 4 << 20 };

static struct esp *esp;
static struct esp_gateway *gateway;
static atomic_bool stop;
static atomic_uint_fast64_t sent, steady_lost;
static uint8_t key[64] = {3};
static struct esp_sequence_record records[RECORDS];
static uint64_t *numbers[WORKERS]; // SPI and number of what each worker sent by the SA that comes and goes
static size_t number_count[WORKERS];

// Each worker's SA loops back to itself: what it sends it receives.
static void set_sa(const char *tunnel, uint32_t spi, uint64_t generation)
{
	// Those that come and go at random have a new key each time, as after a rekeying; the others keep theirs.
	uint8_t own[20];
	memcpy(own, key, sizeof own);
	if (spi < 0x20000) {
		memcpy(own, &generation, sizeof generation);
	}
	struct esp_sa_keys keys = {.spi = spi, .encryption = {own, sizeof own}};
	assert_null(esp_sa_set(esp, &(struct esp_sa_row){
	                                .tunnel = tunnel,
	                                .inbound = keys,
	                                .outbound = keys,
	                                .outbound_in_use = true,
	                                .generation = generation,
	                                .encryption = ESP_AES_GCM16_128,
	                                .udp = true,
	                                .local = address_text("198.51.100.17"),
	                                .remote = address_text("203.0.113.1"),
	                                .local_port = 4500,
	                                .remote_port = (uint16_t)(4500 + generation % 2),
	                            }));
}

static void one_burst(struct esp_worker *worker, unsigned index, struct random *random, uint8_t *wire)
{
	static _Thread_local uint8_t frame[4096];
	char destination[32];
	bool steady = random_below(random, 2), returning = !steady && random_below(random, 2);
	bool inside = steady && random_below(random, 2); // our own BGP, whose tunnel's row is set again and again
	esp_worker_begin(worker, SECONDS(1));
	for (int i = 0; i < 8; i++) {
		struct build build = to_idc;
		snprintf(destination, sizeof destination,
		         steady      ? "172.16.%u.1"
		         : returning ? "172.17.%u.1"
		                     : "192.168.%u.1",
		         steady      ? index
		         : returning ? 0
		                     : random_below(random, 16));
		build.destination = inside ? "169.254.50.2" : destination;
		build.source = inside ? "169.254.50.1" : to_idc.source;
		esp_encap(worker, gateway, frame, build_frame(&build, frame));
	}
	esp_worker_end(worker);
	size_t count, at = 0;
	const struct esp_datagram *datagrams = esp_worker_datagrams(worker, &count);
	struct esp_received runs[8];
	for (size_t i = 0; i < count; i++) {
		runs[i] =
		    (struct esp_received){.data = wire + at, .length = datagrams[i].length, .segment = datagrams[i].segment};
		for (unsigned v = 0; v < datagrams[i].iov_count; v++) {
			memcpy(wire + at, datagrams[i].iov[v].iov_base, datagrams[i].iov[v].iov_len);
			at += datagrams[i].iov[v].iov_len;
		}
		for (size_t packet = 0; returning && packet < runs[i].length && number_count[index] < NUMBERS_MAX;
		     packet += runs[i].segment) {
			memcpy(&numbers[index][number_count[index]++], runs[i].data + packet, 8);
		}
		at += ESP_TAILROOM;
		atomic_fetch_add(&sent, datagrams[i].count);
	}
	if (steady && (count != 1 || datagrams->count != 8)) {
		atomic_fetch_add(&steady_lost, 1);
	}
	esp_worker_begin(worker, SECONDS(1));
	for (size_t i = 0; i < count; i++) {
		esp_decap(worker, &runs[i]);
	}
	esp_worker_end(worker);
	esp_worker_quiescent(worker);
}

static void *work(void *context)
{
	unsigned index = (unsigned)(uintptr_t)context;
	static const uint8_t seed[32] = {1};
	struct random random;
	random_init_number(&random, 100 + index);
	struct esp_worker *worker = esp_worker_new(esp, index, seed);
	uint8_t *wire = calloc(1, 1 << 16);
	esp_worker_register(worker);
	for (unsigned i = 0; !atomic_load(&stop); i++) {
		one_burst(worker, index, &random, wire);
		if (i % 64 == 0) {
			esp_worker_sleep(worker);
			esp_worker_wake(worker);
		}
	}
	esp_worker_unregister(worker);
	esp_worker_free(&worker);
	free(wire);
	return NULL;
}

static void set_tunnel(const char *id, unsigned turn)
{
	esp_tunnel_set(esp, &(struct esp_tunnel_row){.id = id,
	                                             .gateway = "bgw",
	                                             .connection = turn % 2 ? "vpn" : "vpn-other",
	                                             .cloud_inside = address_text("169.254.10.1"),
	                                             .customer_inside = address_text("169.254.10.2")});
}

static void turn_over(struct random *random, unsigned turn)
{
	char tunnel[16], group[16], text[32];
	unsigned n = random_below(random, 8);
	snprintf(tunnel, sizeof tunnel, "tun-%u", n);
	snprintf(group, sizeof group, "nhg-%u", random_below(random, 8));
	snprintf(text, sizeof text, "192.168.%u.0/24", random_below(random, 16));
	struct prefix prefix = prefix_text(text);
	switch (random_below(random, 9)) {
	case 0:
	case 1:
		esp_route_set(esp, "bgw", &prefix, group);
		break;
	case 2:
		esp_route_remove(esp, "bgw", &prefix);
		break;
	case 3:
		group_set(esp, group, tunnel, "vpn");
		break;
	case 4:
		esp_group_remove(esp, group);
		break;
	case 5:
		set_sa(tunnel, 0x10000 + n, turn);
		break;
	case 6:
		esp_sa_remove(esp, tunnel, 0x10000 + n);
		break;
	case 7:
		set_tunnel(tunnel, turn);
		break;
	default:
		esp_tunnel_remove(esp, tunnel);
	}
	if (turn % 16 == 0) {
		// The steady ones too: set again, with another path, never gone.
		set_sa("steady-0", 0x20000, turn);
		set_sa("steady-1", 0x20001, turn);
	}
	if (turn % 4 == 0) {
		esp_tunnel_set(esp, &(struct esp_tunnel_row){.id = "steady-0",
		                                             .gateway = "bgw",
		                                             .connection = "vpn",
		                                             .cloud_inside = address_text("169.254.50.1"),
		                                             .customer_inside = address_text("169.254.50.2")});
	}
	if (turn % 2048 == 0) {
		esp_sa_remove(esp, "returning", RETURNING);
		set_sa("returning", RETURNING, turn);
	}
}

static int by_number(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(uint64_t));
}

static void assert_no_number_twice(void)
{
	size_t total = 0;
	for (unsigned i = 0; i < WORKERS; i++) {
		total += number_count[i];
	}
	uint64_t *all = calloc(total + 1, sizeof *all), *at = all;
	for (unsigned i = 0; i < WORKERS; i++) {
		memcpy(at, numbers[i], number_count[i] * sizeof *at);
		at += number_count[i];
		free(numbers[i]);
	}
	qsort(all, total, sizeof *all, by_number);
	for (size_t i = 1; i < total; i++) {
		assert_true(all[i] != all[i - 1]);
	}
	assert_true(total > 1000);
	free(all);
}

static void tables_turn_over_under_load(void **state)
{
	(void)state;
	static int context;
	struct random random;
	random_init_number(&random, 8);
	esp = esp_new(&(struct esp_config){
	    .workers = WORKERS, .outer_mtu = 1500, .hash_seed = 3, .sequences = records, .sequence_count = RECORDS});
	group_set(esp, "nhg-returning", "returning", "vpn");
	route_set(esp, "172.17.0.0/16", "nhg-returning");
	for (unsigned i = 0; i < WORKERS; i++) {
		numbers[i] = calloc(NUMBERS_MAX, sizeof *numbers[i]);
	}
	gateway = esp_gateway_set(esp, "bgw", true, &context);
	route_set(esp, "10.0.0.0/8", NULL);
	for (unsigned i = 0; i < WORKERS; i++) {
		char tunnel[16], group[16], prefix[32];
		snprintf(tunnel, sizeof tunnel, "steady-%u", i);
		snprintf(group, sizeof group, "nhg-steady-%u", i);
		snprintf(prefix, sizeof prefix, "172.16.%u.0/24", i);
		set_sa(tunnel, 0x20000 + i, 0);
		group_set(esp, group, tunnel, "vpn");
		route_set(esp, prefix, group);
	}
	turn_over(&random, 0); // everything steady is there before the first packet
	pthread_t threads[WORKERS];
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i), 0);
	}
	for (unsigned turn = 0; turn < TURNS || atomic_load(&sent) < 500000; turn++) {
		turn_over(&random, turn);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&steady_lost), 0);
	assert_no_number_twice();
	print_message("%llu packets sent while the tables turned over\n", (unsigned long long)atomic_load(&sent));
	esp_free(&esp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(tables_turn_over_under_load)};
	return cmocka_run_group_tests_name("esp_race", tests, NULL, NULL);
}
