// The bounded reader and writer at their bounds, hexadecimal text, secrets and allocation.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/hex.h"
#include "common/base/secret.h"

static const uint8_t octets[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};

static void reads_numbers_in_network_order(void **state)
{
	(void)state;
	struct reader r = reader_of((struct bytes){octets, sizeof octets});
	assert_int_equal(read_u8(&r), 1);
	assert_int_equal(read_u16(&r), 0x0203);
	assert_int_equal(read_u24(&r), 0x040506);
	assert_int_equal(read_u32(&r), 0x0708090a);
	assert_true(read_u64(&r) == 0x0b0c0d0e0f101112);
	assert_int_equal(reader_left(&r), 0);
	assert_false(r.failed);
	assert_int_equal(read_rest(&r).length, 0);
	assert_false(r.failed);
	assert_int_equal(read_u8(&r), 0);
	assert_true(r.failed);
}

static void a_failed_reader_stays_failed(void **state)
{
	(void)state;
	struct reader r = reader_of((struct bytes){octets, 3});
	assert_int_equal(read_u32(&r), 0);
	assert_true(r.failed);
	assert_int_equal(read_u8(&r), 0);
	assert_int_equal(reader_left(&r), 0);
	assert_int_equal(read_bytes(&r, 1).length, 0);
	assert_int_equal(read_rest(&r).length, 0);
	r = reader_of((struct bytes){octets, 3});
	assert_int_equal(read_bytes(&r, SIZE_MAX).length, 0);
	assert_true(r.failed);
	r = reader_of((struct bytes){NULL, 0});
	assert_false(r.failed);
	assert_int_equal(read_bytes(&r, 0).length, 0);
	assert_false(r.failed);
}

static void a_sub_reader_does_not_see_its_neighbour(void **state)
{
	(void)state;
	struct reader r = reader_of((struct bytes){octets, 6});
	struct reader sub = read_sub(&r, 2);
	assert_int_equal(read_u24(&sub), 0);
	assert_true(sub.failed);
	assert_false(r.failed);
	assert_int_equal(read_u8(&r), 3);
	sub = read_sub(&r, 4);
	assert_true(sub.failed && r.failed);
	assert_int_equal(read_u8(&sub), 0);
}

static void writes_within_its_room(void **state)
{
	(void)state;
	uint8_t room[20];
	struct writer w = writer_of(room, 18);
	write_u8(&w, 1);
	write_u16(&w, 0x0203);
	write_u24(&w, 0x040506);
	write_u32(&w, 0x0708090a);
	write_u64(&w, 0x0b0c0d0e0f101112);
	assert_false(w.failed);
	assert_true(bytes_equal(writer_bytes(&w), (struct bytes){octets, 18}));
	write_u16_at(&w, 16, 0xffff);
	assert_false(w.failed);
	assert_int_equal(room[17], 0xff);
	write_bytes(&w, (struct bytes){NULL, 0});
	assert_false(w.failed);
	room[18] = 0x5a;
	write_u8(&w, 9);
	assert_true(w.failed);
	assert_int_equal(room[18], 0x5a);
	assert_int_equal(writer_length(&w), 18);

	w = writer_of(room, 4);
	write_u16(&w, 0);
	write_u32_at(&w, 0, 1);
	assert_true(w.failed);
	w = writer_of(room, 4);
	assert_null(write_space(&w, SIZE_MAX));
	assert_null(write_space(&w, 1));
	w = writer_of(NULL, 0);
	write_u8(&w, 1);
	assert_true(w.failed);
	assert_int_equal(writer_bytes(&w).length, 0);
}

static void hexadecimal(void **state)
{
	(void)state;
	char text[16];
	uint8_t out[4];
	assert_string_equal(hex_format((struct bytes){(const uint8_t *)"\x00\xaf\x10", 3}, text), "00af10");
	assert_string_equal(hex_format((struct bytes){NULL, 0}, text), "");
	assert_int_equal(hex_parse("00aF10", out, 4), 3);
	assert_int_equal(out[1], 0xaf);
	assert_int_equal(hex_parse("", out, 4), 0);
	assert_int_equal(hex_parse("0", out, 4), -1);
	assert_int_equal(hex_parse("0g", out, 4), -1);
	assert_int_equal(hex_parse("0011223344", out, 4), -1);
	assert_int_equal(hex_parse("0011223\n", out, 4), -1);
}

static void secrets(void **state)
{
	(void)state;
	uint8_t long_one[SECRET_CAPACITY + 1] = {1};
	struct secret a, b;
	assert_true(secret_set(&a, (struct bytes){long_one, SECRET_CAPACITY}));
	assert_true(secret_set(&b, secret_bytes(&a)));
	assert_true(secret_equal(&a, &b));
	for (size_t i = 0; i < SECRET_CAPACITY; i += SECRET_CAPACITY - 1) { // the first octet alone, then the last
		b.octets[i] ^= 1;
		assert_false(secret_equal(&a, &b));
		b.octets[i] ^= 1;
	}
	assert_true(secret_equal(&a, &b));
	assert_false(secret_set(&a, (struct bytes){long_one, sizeof long_one}));
	assert_int_equal(a.length, 0);
	assert_int_equal(a.octets[0], 0);
	assert_false(constant_time_equal((struct bytes){long_one, 1}, (struct bytes){long_one, 2}));
}

static void allocation(void **state)
{
	(void)state;
	char *text = format_text("%s-%d", "tun", 7);
	assert_string_equal(text, "tun-7");
	char *copy = duplicate_text(text);
	assert_string_equal(copy, text);
	assert_null(duplicate_text(NULL));
	copy = reallocate(copy, 100, 2);
	assert_string_equal(copy, text);
	free(copy);
	free(text);
	uint8_t *none = allocate_array(0, 8);
	assert_non_null(none);
	free(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_numbers_in_network_order),
	    cmocka_unit_test(a_failed_reader_stays_failed),
	    cmocka_unit_test(a_sub_reader_does_not_see_its_neighbour),
	    cmocka_unit_test(writes_within_its_room),
	    cmocka_unit_test(hexadecimal),
	    cmocka_unit_test(secrets),
	    cmocka_unit_test(allocation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
