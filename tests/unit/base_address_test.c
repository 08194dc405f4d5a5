// Addresses and prefixes, at the edges of their lengths.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/address.h"

static struct prefix prefix(const char *text)
{
	struct prefix p;
	assert_true(prefix_parse(text, &p));
	return p;
}

static struct address address(const char *text)
{
	struct address a;
	assert_true(address_parse(text, &a));
	return a;
}

static void text_forms(void **state)
{
	(void)state;
	struct address a;
	char text[ADDRESS_TEXT];
	static const char *const bad[] = {"",         "1.2.3",     "1.2.3.256", "01.2.3.4", " 1.2.3.4",
	                                  "1.2.3.4 ", "1.2.3.4/8", "::g",       "1:::2",    "fe80::1%eth0"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(address_parse(bad[i], &a));
		assert_int_equal(a.length, 0);
	}
	a = address("198.51.100.17");
	assert_int_equal(a.length, 4);
	assert_string_equal(address_format(&a, text), "198.51.100.17");
	a = address("FD00:0:0::1");
	assert_int_equal(a.length, 16);
	assert_string_equal(address_format(&a, text), "fd00::1");
	struct address b;
	assert_true(address_from_bytes(address_bytes(&a), &b));
	assert_true(address_equal(&a, &b));
	assert_false(address_from_bytes((struct bytes){a.octets, 5}, &b));
	assert_string_equal(address_format(&b, text), "");
	b = address("fd00::2");
	assert_true(address_compare(&a, &b) < 0);
	b = address("255.0.0.0");
	assert_true(address_compare(&b, &a) < 0); // IPv4 before IPv6
}

static void prefix_text_forms(void **state)
{
	(void)state;
	struct prefix p;
	char text[PREFIX_TEXT];
	static const char *const bad[] = {"10.0.0.0",    "10.0.0.0/",   "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8",
	                                  "10.0.0.1/24", "10.0.0.0/8 ", "10.0.0.0/-1", "fd00::/129",  "fd00::1/127",
	                                  "/8",          "0.0.0.0/256", "0.0.0.0/1000"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(prefix_parse(bad[i], &p));
		assert_int_equal(p.address.length, 0);
	}
	static const char *const good[] = {"0.0.0.0/0", "10.0.0.0/8", "192.168.255.255/32", "128.0.0.0/1",
	                                   "::/0",      "fd00::/8",   "fd00::1/128"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		p = prefix(good[i]);
		assert_string_equal(prefix_format(&p, text), good[i]);
	}
}

static void masks(void **state)
{
	(void)state;
	char text[PREFIX_TEXT];
	struct address a = address("255.255.255.255");
	static const char *const masked[] = {"0.0.0.0/0", "254.0.0.0/7", "255.128.0.0/9", "255.255.255.254/31",
	                                     "255.255.255.255/32"};
	static const uint8_t lengths[] = {0, 7, 9, 31, 32};
	for (size_t i = 0; i < 5; i++) {
		struct prefix p = prefix_of(&a, lengths[i]);
		assert_string_equal(prefix_format(&p, text), masked[i]);
	}
	struct prefix p = prefix_of(&a, 200);
	assert_int_equal(p.length, 32);
}

static void containment(void **state)
{
	(void)state;
	struct prefix all = prefix("0.0.0.0/0"), ten = prefix("10.0.0.0/8"), sub = prefix("10.0.1.0/24"), six = prefix("::/0");
	struct address inside = address("10.0.1.255"), outside = address("10.0.2.0"), v6 = address("::1");
	assert_true(prefix_contains(&all, &ten) && prefix_contains(&ten, &sub) && prefix_contains(&ten, &ten));
	assert_false(prefix_contains(&sub, &ten) || prefix_contains(&six, &ten) || prefix_contains(&all, &six));
	assert_true(prefix_overlaps(&sub, &ten) && prefix_overlaps(&ten, &sub));
	assert_true(prefix_contains_address(&sub, &inside) && prefix_contains_address(&six, &v6));
	assert_false(prefix_contains_address(&sub, &outside) || prefix_contains_address(&all, &v6));
	struct prefix none = {0};
	struct address no_address = {0};
	assert_false(prefix_contains_address(&none, &no_address) || prefix_contains_address(&none, &inside));
	assert_true(prefix_compare(&all, &ten) < 0 && prefix_compare(&sub, &ten) > 0 && prefix_compare(&ten, &ten) == 0);
	struct prefix longer = prefix("10.0.0.0/16"); // the same address
	assert_false(prefix_contains(&longer, &ten));
	struct prefix shorter = prefix("10.0.0.0/7");
	assert_true(prefix_compare(&shorter, &ten) < 0);
	assert_false(prefix_equal(&shorter, &ten));
}

static void nth(void **state)
{
	(void)state;
	char text[ADDRESS_TEXT];
	struct prefix p = prefix("169.254.10.4/30");
	struct address a = prefix_nth(&p, 2);
	assert_string_equal(address_format(&a, text), "169.254.10.6");
	p = prefix("255.255.255.0/24");
	a = prefix_nth(&p, 256);
	assert_string_equal(address_format(&a, text), "0.0.0.0");
	p = prefix("fd00::ffff:ff00/120");
	a = prefix_nth(&p, 255);
	assert_string_equal(address_format(&a, text), "fd00::ffff:ffff");
	a = prefix_nth(&p, 256);
	assert_string_equal(address_format(&a, text), "fd00::");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text_forms), cmocka_unit_test(prefix_text_forms),
	    cmocka_unit_test(masks),      cmocka_unit_test(containment),
	    cmocka_unit_test(nth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
