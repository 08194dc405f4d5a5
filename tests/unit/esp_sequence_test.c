// Sequence numbers are never used twice under a key: not by two workers, not by the next process after a kill, not after a full
// file.
#include <pthread.h>

#include "tests/unit/esp_pair.h"

#include "services/esp/sequence.h"

enum { RECORDS = 64 };
static struct esp_sequence_record records[RECORDS];
static uint8_t frame[4096];
static struct packet packets[64];

static uint32_t number_of(const struct packet *packet)
{
	return (uint32_t)packet->octets[4] << 24 | (uint32_t)packet->octets[5] << 16 | (uint32_t)packet->octets[6] << 8 |
	       packet->octets[7];
}

static struct options kept(void)
{
	struct options options = gcm_udp;
	options.sequences = records;
	options.sequence_count = RECORDS;
	return options;
}

// The records are all that a killed process leaves. Each life sends some packets; every number is above all before it.
static void a_hundred_lives(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct options options = kept();
	uint32_t highest = 0;
	for (int life = 0; life < 100; life++) {
		struct pair pair;
		pair_init(&pair, &options);
		for (int i = 0; i < 1 + life % 7; i++) {
			assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
			assert_true(number_of(&packets[0]) > highest);
			highest = number_of(&packets[0]);
			// GCM's IV is the number: 8 octets behind the header.
			assert_memory_equal(packets[0].octets + 12, packets[0].octets + 4, 4);
		}
		assert_true(records[0].reserved > highest);
		// Killed: nothing is written down at the end that was not before.
		struct esp_sequence_record left = records[0];
		pair_fini(&pair);
		assert_memory_equal(&left, &records[0], sizeof left);
	}
	assert_int_equal(records[1].stamp, 0); // one key, one record
}

static void the_same_key_again_in_one_life(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct options options = kept();
	struct pair pair;
	pair_init(&pair, &options);
	uint32_t highest = 0;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		assert_true(number_of(&packets[0]) > highest);
		highest = number_of(&packets[0]);
		esp_worker_quiescent(pair.a.worker);
		esp_sa_remove(pair.a.esp, "tun", pair.row_a.inbound.spi);
		assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	}
	// A row that changes only its path or use goes on where it was.
	pair.row_a.remote_port = 999;
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets + 1, 8), 1);
	assert_int_equal(number_of(&packets[1]), number_of(&packets[0]) + 1);
	pair_fini(&pair);
}

static void fingerprint_number(uint8_t out[static 16], uint32_t n)
{
	memset(out, 0, 16);
	memcpy(out, &n, sizeof n);
	out[15] = 1;
}

static void a_full_file_gives_up_the_oldest(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct sequence_file file;
	static struct sequence held[RECORDS + 8];
	uint8_t fingerprint[16];
	sequence_file_init(&file, records, RECORDS);
	for (uint32_t i = 0; i < RECORDS; i++) {
		fingerprint_number(fingerprint, i);
		assert_true(sequence_init(&held[i], &file, fingerprint, false));
		assert_int_equal(sequence_take(&held[i], 5), 1);
	}
	fingerprint_number(fingerprint, 1000);
	assert_false(sequence_init(&held[RECORDS], &file, fingerprint, false)); // all in use
	fingerprint_number(fingerprint, 3);
	assert_false(sequence_init(&held[RECORDS], &file, fingerprint, false)); // somebody has that key
	sequence_fini(&held[9], &file);
	sequence_fini(&held[4], &file);
	assert_true(sequence_released(&file, records[4].fingerprint));
	fingerprint_number(fingerprint, 1000);
	assert_true(sequence_init(&held[RECORDS], &file, fingerprint, false));
	assert_ptr_equal(held[RECORDS].record, &records[4]); // the older of the two
	assert_int_equal(sequence_take(&held[RECORDS], 1), 1);
	fingerprint_number(fingerprint, 9);
	assert_true(sequence_init(&held[9], &file, fingerprint, false)); // still known
	assert_true(sequence_take(&held[9], 1) > 5);
	sequence_file_fini(&file);
}

static void numbers_end(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct options options = kept();
	struct pair pair;
	pair_init(&pair, &options);
	pair_fini(&pair);
	records[0].reserved = UINT32_MAX - 1;
	pair_init(&pair, &options);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		assert_int_equal(number_of(&packets[0]), UINT32_MAX - 1 + (unsigned)i);
	}
	// RFC 4303 section 3.3.3: never cycles.
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 0);
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_SEQUENCE_EXHAUSTED), 1);
	pair_fini(&pair);
	// With extended numbers it goes on, and the peer follows over the wrap.
	memset(records, 0, sizeof records);
	options.extended = true;
	pair_init(&pair, &options);
	pair_fini(&pair);
	records[0].reserved = UINT32_MAX - 3;
	pair_init(&pair, &options);
	static uint8_t plain[4096];
	for (int i = 0; i < 8; i++) {
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		assert_true(decap(&pair.b, &packets[0], plain) > 0);
	}
	pair_fini(&pair);
}

// ---- many workers ----

enum { THREADS = 4, TAKES = 50000 };
static struct sequence shared;
static uint8_t taken[THREADS * TAKES * 8 + SEQUENCE_CHUNK];

static void *take_many(void *context)
{
	(void)context;
	for (uint32_t i = 0; i < TAKES; i++) {
		uint32_t count = 1 + i % 4;
		uint64_t first = sequence_take(&shared, count);
		for (uint64_t n = first; n < first + count; n++) {
			__atomic_add_fetch(&taken[n], 1, __ATOMIC_RELAXED);
			assert_true(n < __atomic_load_n(&records[0].reserved, __ATOMIC_RELAXED));
		}
	}
	return NULL;
}

static void workers_never_take_the_same(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct sequence_file file;
	uint8_t fingerprint[16];
	fingerprint_number(fingerprint, 1);
	sequence_file_init(&file, records, RECORDS);
	assert_true(sequence_init(&shared, &file, fingerprint, false));
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, NULL), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	uint64_t end = sequence_take(&shared, 1);
	assert_int_equal(taken[0], 0);
	for (uint64_t n = 1; n < end; n++) {
		assert_int_equal(taken[n], 1);
	}
	sequence_file_fini(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_hundred_lives),
	    cmocka_unit_test(the_same_key_again_in_one_life),
	    cmocka_unit_test(a_full_file_gives_up_the_oldest),
	    cmocka_unit_test(numbers_end),
	    cmocka_unit_test(workers_never_take_the_same),
	};
	return cmocka_run_group_tests_name("esp_sequence", tests, NULL, NULL);
}
