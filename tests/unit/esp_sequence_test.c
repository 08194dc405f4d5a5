// Sequence numbers are never used twice under a key: not by two workers, not by the next process after a kill, not after a full
// file.
#include <pthread.h>

#include "tests/unit/esp_forge.h"

#include "services/esp/sequence.h"

enum { RECORDS = 64 };
static struct esp_sequence_record records[RECORDS];

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
	fingerprint_number(fingerprint, 1000);
	assert_true(sequence_must_wait(&file, fingerprint)); // workers may still see the one that it would get
	assert_true(sequence_must_wait(&file, records[4].fingerprint));
	assert_false(sequence_must_wait(&file, records[5].fingerprint));
	sequence_waited(&file);
	assert_false(sequence_must_wait(&file, fingerprint));
	assert_true(sequence_init(&held[RECORDS], &file, fingerprint, false));
	assert_ptr_equal(held[RECORDS].record, &records[9]); // released before the other
	assert_int_equal(sequence_take(&held[RECORDS], 1), 1);
	fingerprint_number(fingerprint, 4);
	assert_true(sequence_init(&held[4], &file, fingerprint, false)); // still known
	assert_true(sequence_take(&held[4], 1) > 5);
	sequence_file_fini(&file);
}

// A worker may be between taking and reserving when its SA goes.
static void a_released_record_still_reserves(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct sequence_file file;
	struct sequence sequence;
	uint8_t fingerprint[16];
	fingerprint_number(fingerprint, 1);
	sequence_file_init(&file, records, RECORDS);
	assert_true(sequence_init(&sequence, &file, fingerprint, false));
	sequence_fini(&sequence, &file);
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t first = sequence_take(&sequence, SEQUENCE_CHUNK);
		assert_true(first + SEQUENCE_CHUNK <= records[0].reserved);
	}
	uint64_t reserved = records[0].reserved;
	assert_true(sequence_must_wait(&file, fingerprint));
	sequence_waited(&file);
	assert_true(sequence_init(&sequence, &file, fingerprint, false));
	assert_true(sequence_take(&sequence, 1) >= reserved);
	sequence_file_fini(&file);
}

static void claim_all(struct sequence_file *file, struct sequence held[RECORDS], unsigned first, uint32_t above)
{
	uint8_t fingerprint[16];
	for (uint32_t i = first; i < RECORDS; i++) {
		fingerprint_number(fingerprint, i);
		assert_true(sequence_init(&held[i], file, fingerprint, false));
		assert_true(sequence_take(&held[i], 5) > above);
	}
}

// After a kill the file is full of records of SAs that live on, and whose rows have not come back yet: a new SA must not have
// one of them.
static void what_lives_keeps_its_record_over_a_kill(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct sequence_file file;
	static struct sequence held[RECORDS], fresh;
	uint8_t fingerprint[16];
	sequence_file_init(&file, records, RECORDS);
	claim_all(&file, held, 0, 0);
	sequence_fini(&held[7], &file);
	sequence_file_fini(&file);
	for (int kills = 0; kills < 3; kills++) {
		sequence_file_init(&file, records, RECORDS);
		fingerprint_number(fingerprint, 1000 + (unsigned)kills);
		// One record is nobody's: that of the SA that went before the kill, later those of the new ones.
		assert_false(sequence_must_wait(&file, fingerprint));
		assert_true(sequence_init(&fresh, &file, fingerprint, false));
		assert_ptr_equal(fresh.record, &records[7]);
		fingerprint_number(fingerprint, 2000);
		assert_false(sequence_init(&held[0], &file, fingerprint, false));
		sequence_fini(&fresh, &file);
		sequence_file_fini(&file);
	}
	// All rows have come, one SA is gone for good: its record is free then.
	sequence_file_init(&file, records, RECORDS);
	for (uint32_t i = 0; i < 7; i++) {
		fingerprint_number(fingerprint, i);
		assert_true(sequence_init(&held[i], &file, fingerprint, false));
		assert_true(sequence_take(&held[i], 1) > 5);
	}
	claim_all(&file, held, 9, 5);
	sequence_file_complete(&file);
	fingerprint_number(fingerprint, 3000);
	assert_true(sequence_init(&fresh, &file, fingerprint, false));
	assert_ptr_equal(fresh.record, &records[7]); // released before record 8
	fingerprint_number(fingerprint, 3001);
	assert_true(sequence_init(&fresh, &file, fingerprint, false));
	assert_ptr_equal(fresh.record, &records[8]);
	fingerprint_number(fingerprint, 3002);
	assert_false(sequence_init(&fresh, &file, fingerprint, false));
	sequence_file_fini(&file);
}

// Whoever recorded what came to us before the kill plays it again.
static void replays_after_a_kill(void **state)
{
	(void)state;
	enum { RECORDED = 200, LIVES = 20 };
	static struct packet recorded[LIVES * RECORDED];
	size_t held = 0;
	struct options options = kept();
	for (int esn = 0; esn < 2; esn++) {
		memset(records, 0, sizeof records);
		held = 0;
		options.extended = esn;
		for (int life = 0; life < LIVES; life++) {
			struct pair pair;
			pair_init(&pair, &options);
			// The peer was not killed: it goes on where it was.
			for (size_t i = 0; i < held; i++) {
				assert_int_equal(encap(&pair.b, frame, build_frame(&from_idc, frame), packets, 8), 1);
			}
			uint64_t dropped = all_drops(&pair.a);
			for (size_t i = 0; i < held; i++) {
				assert_int_equal(decap(&pair.a, &recorded[i], plain), 0);
			}
			// What is below an extended window is taken for the next 2^32, which does not authenticate.
			assert_int_equal(all_drops(&pair.a), dropped + held);
			assert_true(esn || esp_drops(pair.a.esp, ESP_DROP_REPLAY) == held);
			// New ones pass, a reordered pair among them, from the first on.
			for (int i = 0; i < RECORDED; i += 2) {
				assert_int_equal(encap(&pair.b, frame, build_frame(&from_idc, frame), &recorded[held], 1), 1);
				assert_int_equal(encap(&pair.b, frame, build_frame(&from_idc, frame), &recorded[held + 1], 1),
				                 1);
				assert_true(decap(&pair.a, &recorded[held + 1], plain) > 0);
				assert_true(decap(&pair.a, &recorded[held], plain) > 0);
				held += 2;
			}
			assert_int_equal(records[0].received, held);
			pair_fini(&pair);
		}
	}
}

// Without the record the upper half of the number would be guessed as 0, and nothing would authenticate until the next rekey.
static void extended_numbers_after_a_kill(void **state)
{
	(void)state;
	memset(records, 0, sizeof records);
	struct options options = kept();
	options.extended = true;
	struct pair pair;
	pair_init(&pair, &options);
	pair_fini(&pair);
	records[0].received = ((uint64_t)3 << 32) + 9;
	pair_init(&pair, &options);
	struct forge forge = forge_new(&pair);
	cipher_free(&forge.cipher);
	struct suite suite;
	assert_true(suite_of(pair.row_a.encryption, pair.row_a.integrity, &suite));
	forge.cipher = cipher_new(forge.engine, &suite, &pair.row_a.inbound, true, true);
	forge.sequence = ((uint64_t)3 << 32) + 9;
	assert_int_equal(send_build(&forge, &from_idc, 0), 0);
	assert_true(send_build(&forge, &from_idc, 0) > 0);
	assert_int_equal(records[0].received, ((uint64_t)3 << 32) + 10);
	forge_free(&forge);
	pair_fini(&pair);
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
	    cmocka_unit_test(a_released_record_still_reserves),
	    cmocka_unit_test(what_lives_keeps_its_record_over_a_kill),
	    cmocka_unit_test(replays_after_a_kill),
	    cmocka_unit_test(extended_numbers_after_a_kill),
	    cmocka_unit_test(numbers_end),
	    cmocka_unit_test(workers_never_take_the_same),
	};
	return cmocka_run_group_tests_name("esp_sequence", tests, NULL, NULL);
}
