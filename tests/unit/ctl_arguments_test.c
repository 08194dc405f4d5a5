// The command line's words: flags to the JSON of a request, by the rules of the kind; what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "services/ctl/arguments.h"
#include "services/ctl/nearest.h"

// The body that "twinspan <words>" makes, as compact JSON with sorted keys; NULL when it is refused.
static char *body_of(const char *kind, const char *const *words)
{
	char *copies[32] = {strdup("twinspan"), strdup(kind), strdup("create")};
	int count = 3;
	for (size_t i = 0; words[i]; i++) {
		copies[count++] = strdup(words[i]);
	}
	struct arguments arguments;
	char *text = NULL;
	if (arguments_read(count, copies, &arguments)) {
		json_t *body = arguments_body(&arguments, kind_by_singular(kind), NULL);
		text = body ? json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
		json_decref(body);
	}
	for (int i = 0; i < count; i++) {
		free(copies[i]);
	}
	return text;
}

static void check(const char *kind, const char *const *words, const char *expected)
{
	char *body = body_of(kind, words);
	if (expected) {
		assert_non_null(body);
		assert_string_equal(body, expected);
	} else {
		assert_null(body);
	}
	free(body);
}
#define CHECK(kind, expected, ...) check(kind, (const char *const[]){__VA_ARGS__, NULL}, expected)

static void test_types(void **state)
{
	(void)state;
	CHECK("vpc", "{\"cidrBlocks\":[\"10.0.0.0/16\",\"10.1.0.0/16\"],\"name\":\"prod\"}", "--name", "prod", "--cidr-blocks",
	      "10.0.0.0/16,10.1.0.0/16");
	CHECK("border-gateway", "{\"allowTransit\":true,\"asn\":65001}", "--allow-transit", "true", "--asn", "65001");
	CHECK("vpn-connection", "{\"routing\":\"STATIC\"}", "--routing", "STATIC");
	CHECK("border-gateway", "{\"name\":\"a=b\"}", "--name=a=b");
}

static void test_nested(void **state)
{
	(void)state;
	CHECK("vpn-tunnel", "{\"dpd\":{\"intervalSeconds\":2,\"timeoutSeconds\":6},\"ike\":{\"dhGroups\":[20,19]}}",
	      "--ike-dh-groups", "20,19", "--dpd-interval-seconds", "2", "--dpd-timeout-seconds", "6");
	CHECK("vpn-tunnel", "{\"ipsec\":{\"encryption\":[\"AES256_GCM16\"]}}", "--ipsec-encryption", "AES256_GCM16");
}

static void test_lists_of_messages(void **state)
{
	(void)state;
	static const char two[] =
	    "{\"propagations\":[{\"borderGatewayId\":\"a\",\"ranges\":[\"10.0.0.0/8\",\"172.16.0.0/12\"]},"
	    "{\"borderGatewayId\":\"b\"}]}";
	CHECK("vpc-route-table", two, "--propagations", "borderGatewayId=a,ranges=10.0.0.0/8+172.16.0.0/12;borderGatewayId=b");
	CHECK("vpc-route-table", two, "--propagation", "borderGatewayId=a,ranges=10.0.0.0/8+172.16.0.0/12", "--propagation",
	      "borderGatewayId=b");
	CHECK("vpc-route-table", two, "--propagations",
	      "[{\"borderGatewayId\":\"a\",\"ranges\":[\"10.0.0.0/8\",\"172.16.0.0/12\"]},{\"borderGatewayId\":\"b\"}]");
	CHECK("vpc-route-table", "{\"staticRoutes\":[{\"destination\":\"172.16.0.0/12\",\"nextHopId\":\"edge\"}]}",
	      "--static-route", "destination=172.16.0.0/12,nextHopId=edge");
}

static void test_repeated(void **state)
{
	(void)state;
	CHECK("vpn-tunnel", "{\"ike\":{\"dhGroups\":[20,19,14]}}", "--ike-dh-groups", "20,19", "--ike-dh-groups", "14");
	CHECK("vpc", "{\"name\":\"second\"}", "--name", "first", "--name", "second");
}

static void test_secret_from_file(void **state)
{
	(void)state;
	char path[] = "/tmp/twinspan-ctl-key-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0 && write(fd, "Secret.Key_123\n", 15) == 15);
	close(fd);
	CHECK("vpn-tunnel", "{\"ike\":{\"preSharedKey\":\"Secret.Key_123\"}}", "--ike-pre-shared-key-file", path);
	unlink(path);
	CHECK("vpn-tunnel", NULL, "--ike-pre-shared-key-file", path);
}

static void test_refused(void **state)
{
	(void)state;
	CHECK("vpc", NULL, "--no-such-flag", "1");
	CHECK("vpc", NULL, "--id", "vpc-aaaaaaaaaa"); // an output
	CHECK("vpn-tunnel", NULL, "--running-status", "UP");
	CHECK("vpc", NULL, "--name"); // without a value
	CHECK("border-gateway", NULL, "--asn", "many");
	CHECK("border-gateway", NULL, "--asn", "4294967296");
	CHECK("border-gateway", NULL, "--allow-transit", "perhaps");
	CHECK("vpn-connection", NULL, "--routing", "OSPF");
	CHECK("vpc-route-table", NULL, "--static-route", "destination");
	CHECK("vpc-route-table", NULL, "--static-route", "colour=red");
	CHECK("vpc-route-table", NULL, "--static-routes-destination", "10.0.0.0/8"); // is part of its list's flag
	CHECK("vpn-tunnel", NULL, "--ike", "{}");
	CHECK("vpc", NULL, "--output", "xml");
}

static void test_words(void **state)
{
	(void)state;
	char words[8][16] = {"twinspan", "vpn-tunnel", "show", "tun-a", "--wait", "7", "--output", "json"};
	char *values[8];
	for (size_t i = 0; i < 8; i++) {
		values[i] = words[i];
	}
	struct arguments arguments;
	assert_true(arguments_read(8, values, &arguments));
	assert_int_equal(arguments.word_count, 3);
	assert_string_equal(arguments.words[2], "tun-a");
	assert_int_equal(arguments.wait_seconds, 7);
	assert_true(arguments.json);
	assert_true(arguments_read(5, values, &arguments)); // --wait with nothing behind it
	assert_true(arguments.wait_seconds > 0);
	assert_false(arguments.json);
}

static void test_take(void **state)
{
	(void)state;
	struct arguments arguments = {.flag_count = 2, .flags = {{"sa", "IKE"}, {"name", "x"}}};
	assert_string_equal(arguments_take(&arguments, "sa"), "IKE");
	assert_null(arguments_take(&arguments, "sa"));
	assert_int_equal(arguments.flag_count, 1);
	assert_string_equal(arguments.flags[0].name, "name");
}

// An update's flag of one item adds to the list as it is; the list's own flag replaces it.
static void test_one_more(void **state)
{
	(void)state;
	json_t *now = json_loads("{\"propagations\":[{\"borderGatewayId\":\"bgw-aaaaaaaaaa\"}]}", 0, NULL);
	static const struct {
		const char *flag, *expected;
	} cases[] = {
	    {"propagation", "{\"propagations\":[{\"borderGatewayId\":\"bgw-aaaaaaaaaa\"},{\"borderGatewayId\":\"edge\"}]}"},
	    {"propagations", "{\"propagations\":[{\"borderGatewayId\":\"edge\"}]}"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arguments arguments = {.flags = {{cases[i].flag, "borderGatewayId=edge"}}, .flag_count = 1};
		json_t *body = arguments_body(&arguments, RESOURCE_VPC_ROUTE_TABLE, now);
		char *text = json_dumps(body, JSON_COMPACT);
		assert_string_equal(text, cases[i].expected);
		free(text);
		json_decref(body);
	}
	assert_int_equal(json_array_size(json_object_get(now, "propagations")), 1);
	json_decref(now);
}

static void test_reset(void **state)
{
	(void)state;
	json_t *body = json_pack("{s:{s:i}}", "ike", "lifetimeSeconds", 900);
	assert_true(arguments_reset(body, RESOURCE_VPN_TUNNEL, "ike.dhGroups,dpd-interval-seconds,description"));
	char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(text, "{\"description\":null,\"dpd\":{\"intervalSeconds\":null},\"ike\":{\"dhGroups\":null,\"lifetimeSeconds\":900}}");
	free(text);
	assert_false(arguments_reset(body, RESOURCE_VPN_TUNNEL, "runningStatus")); // an output has no default
	assert_false(arguments_reset(body, RESOURCE_VPN_TUNNEL, "colour"));
	json_decref(body);
}

static void test_nearest(void **state)
{
	(void)state;
	static const struct {
		const char *given, *hint;
	} cases[] = {{"vpn-tunel", "; did you mean vpn-tunnel?"}, {"vnp-tunnel", "; did you mean vpn-tunnel?"}, {"vpcs", "; did you mean vpc?"},
	             {"house", ""}, {"", ""}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct nearest nearest = {.given = cases[i].given};
		for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
			nearest_offer(&nearest, kind_rules[kind].singular);
		}
		assert_string_equal(nearest_hint(&nearest), cases[i].hint);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_more), cmocka_unit_test(test_reset), cmocka_unit_test(test_nearest),
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_nested),
	    cmocka_unit_test(test_lists_of_messages),
	    cmocka_unit_test(test_repeated),
	    cmocka_unit_test(test_secret_from_file),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_take),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
