// JSON to records and back, and what is refused on the way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message_json.h"

static struct record *read_text(enum resource_kind kind, const char *text, struct cleared *cleared, struct problem *problem)
{
	json_t *json = json_loads(text, 0, NULL);
	assert_non_null(json);
	*problem = (struct problem){0};
	struct record *record = record_from_json(kind, json, cleared, problem);
	json_decref(json);
	return record;
}

static void test_round_trip(void **state)
{
	(void)state;
	static const char text[] =
	    "{\"id\":\"tun-aaaaaaaaaa\",\"revision\":9007199254740993,\"adminState\":\"DOWN\",\"insideSwapped\":true,"
	    "\"ike\":{\"version\":\"V2\",\"encryption\":[\"AES256_GCM16\",\"AES128\"],\"integrity\":[],\"dhGroups\":[31,14]}}";
	struct problem problem;
	struct cleared cleared;
	struct record *record = read_text(RESOURCE_VPN_TUNNEL, text, &cleared, &problem);
	assert_non_null(record);
	assert_int_equal(record_kind(record), RESOURCE_VPN_TUNNEL);
	assert_true(record_is(record, "adminState", "DOWN"));
	assert_true(record_flag(record, "insideSwapped"));
	assert_true(record_number(record, "revision") == UINT64_C(9007199254740993));
	assert_int_equal(record_count(record, "ike.dhGroups"), 2);
	assert_string_equal(record_text_at(record, "ike.encryption", 0), "AES256_GCM16");
	assert_int_equal(cleared.count, 1);
	assert_string_equal(cleared.fields[0].path, "ike.integrity");
	assert_true(cleared.fields[0].empty_list);

	json_t *json = record_to_json(record);
	struct record *again = record_from_json(RESOURCE_VPN_TUNNEL, json, NULL, &problem);
	assert_non_null(again);
	assert_true(record_equal(record, again));
	json_decref(json);

	uint8_t packed[512];
	size_t length = record_pack(record, packed);
	struct record *unpacked = record_unpack(RESOURCE_VPN_TUNNEL, (struct bytes){packed, length});
	assert_true(record_equal(record, unpacked));
	record_free(&unpacked);
	record_free(&again);
	record_free(&record);
}

static void test_refusals(void **state)
{
	(void)state;
	static const struct {
		const char *text, *type, *field;
	} cases[] = {
	    {"[]", "not-an-object", ""},
	    {"{\"nothing\":1}", "unknown-field", "nothing"},
	    {"{\"ike\":{\"preSharedKeyy\":\"canary-key\"}}", "unknown-field", "ike.preSharedKeyy"},
	    {"{\"name\":5}", "wrong-type", "name"},
	    {"{\"ike\":\"canary-key\"}", "wrong-type", "ike"},
	    {"{\"ike\":{\"preSharedKey\":[\"canary-key\"]}}", "wrong-type", "ike.preSharedKey"},
	    {"{\"ike\":{\"lifetimeSeconds\":\"900\"}}", "wrong-type", "ike.lifetimeSeconds"},
	    {"{\"ike\":{\"lifetimeSeconds\":-1}}", "wrong-type", "ike.lifetimeSeconds"},
	    {"{\"ike\":{\"lifetimeSeconds\":4294967296}}", "wrong-type", "ike.lifetimeSeconds"},
	    {"{\"ike\":{\"lifetimeSeconds\":900.0}}", "wrong-type", "ike.lifetimeSeconds"},
	    {"{\"ike\":{\"dhGroups\":14}}", "wrong-type", "ike.dhGroups"},
	    {"{\"ike\":{\"dhGroups\":[14,null]}}", "wrong-type", "ike.dhGroups[1]"},
	    {"{\"adminState\":\"ADMIN_STATE_UP\"}", "wrong-type", "adminState"},
	    {"{\"insideSwapped\":\"true\"}", "wrong-type", "insideSwapped"},
	    {"{\"admin_state\":\"UP\"}", "unknown-field", "admin_state"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct problem problem;
		assert_null(read_text(RESOURCE_VPN_TUNNEL, cases[i].text, NULL, &problem));
		assert_int_equal(problem.status, 400);
		assert_string_equal(problem.type, cases[i].type);
		assert_string_equal(problem.field, cases[i].field);
		assert_true(problem.rule[0]);
		json_t *json = problem_to_json(&problem);
		char *text = json_dumps(json, 0);
		assert_null(strstr(text, "canary"));
		free(text);
		json_decref(json);
	}
}

static void test_problem_shows_what_was_given(void **state)
{
	(void)state;
	struct problem problem;
	assert_null(read_text(RESOURCE_VPN_TUNNEL, "{\"adminState\":\"ON\"}", NULL, &problem));
	assert_string_equal(problem.value, "\"ON\"");
	assert_string_equal(problem.rule, "must be one of UP, DOWN");
}

static void test_merge(void **state)
{
	(void)state;
	struct problem problem;
	struct record *row = read_text(
	    RESOURCE_VPN_TUNNEL, "{\"name\":\"a\",\"ike\":{\"dhGroups\":[31,14],\"lifetimeSeconds\":900}}", NULL, &problem);
	struct record *change = read_text(RESOURCE_VPN_TUNNEL, "{\"ike\":{\"dhGroups\":[19]}}", NULL, &problem);
	record_merge(row, change);
	assert_string_equal(record_text(row, "name"), "a");
	assert_int_equal(record_number(row, "ike.lifetimeSeconds"), 900);
	assert_int_equal(record_count(row, "ike.dhGroups"), 1);
	assert_int_equal(record_number_at(row, "ike.dhGroups", 0), 19);
	record_free(&change);
	record_free(&row);
}

static bool count_value(void *context, const struct record_value *value)
{
	char *places = context;
	strcat(places, value->place);
	strcat(places, " ");
	return true;
}

static void test_walk(void **state)
{
	(void)state;
	struct problem problem;
	struct record *row = read_text(
	    RESOURCE_VPC_ROUTE_TABLE,
	    "{\"propagations\":[{\"ranges\":[\"10.0.0.0/8\"]},{\"ranges\":[\"0.0.0.0/0\",\"1.0.0.0/8\"]}]}", NULL, &problem);
	char places[256] = "";
	assert_true(record_walk(row, "propagations.ranges", count_value, places));
	assert_string_equal(places, "propagations[0].ranges[0] propagations[1].ranges[0] propagations[1].ranges[1] ");
	record_remove_at(row, "propagations", 0);
	assert_int_equal(record_count(row, "propagations"), 1);
	assert_int_equal(record_count(record_at(row, "propagations", 0), "ranges"), 2);
	record_remove_at(row, "propagations", 0);
	assert_false(record_has(row, "propagations"));
	record_free(&row);
}

static void expect_text(enum resource_kind kind, const char *path, const char *text, const char *json_text)
{
	struct problem problem = {0};
	json_t *object = json_object();
	bool done = json_set_from_text(object, kind, path, text, &problem);
	if (!json_text) {
		assert_false(done);
		assert_int_equal(problem.status, 400);
	} else {
		char *made = json_dumps(object, JSON_COMPACT);
		assert_true(done);
		assert_string_equal(made, json_text);
		free(made);
	}
	json_decref(object);
}

static void test_flags(void **state)
{
	(void)state;
	expect_text(RESOURCE_VPN_TUNNEL, "ike.dhGroups", "20,19", "{\"ike\":{\"dhGroups\":[20,19]}}");
	expect_text(RESOURCE_VPN_TUNNEL, "dpd.enabled", "false", "{\"dpd\":{\"enabled\":false}}");
	expect_text(RESOURCE_VPN_TUNNEL, "dpd.enabled", "no", NULL);
	expect_text(RESOURCE_VPN_TUNNEL, "adminState", "DOWN", "{\"adminState\":\"DOWN\"}");
	expect_text(RESOURCE_VPN_TUNNEL, "adminState", "down", NULL);
	expect_text(RESOURCE_VPN_TUNNEL, "ike.lifetimeSeconds", "5s", NULL);
	expect_text(RESOURCE_VPN_TUNNEL, "ike.lifetimeSeconds", "4294967296", NULL);
	expect_text(RESOURCE_VPN_TUNNEL, "ike.nothing", "5", NULL);
	expect_text(RESOURCE_VPN_TUNNEL, "ike", "5", NULL);
	expect_text(RESOURCE_VPC, "cidrBlocks", "", "{\"cidrBlocks\":[]}");
	expect_text(RESOURCE_VPC_ROUTE_TABLE, "propagations",
	            "borderGatewayId=bgw-1,ranges=10.0.0.0/8+11.0.0.0/8;borderGatewayId=bgw-2",
	            "{\"propagations\":[{\"borderGatewayId\":\"bgw-1\",\"ranges\":[\"10.0.0.0/8\",\"11.0.0.0/"
	            "8\"]},{\"borderGatewayId\":\"bgw-2\"}]}");
	expect_text(RESOURCE_VPC_ROUTE_TABLE, "propagations", "[{\"borderGatewayId\":\"b\"}]",
	            "{\"propagations\":[{\"borderGatewayId\":\"b\"}]}");
	expect_text(RESOURCE_VPC_ROUTE_TABLE, "propagations", "[{", NULL);
	expect_text(RESOURCE_VPC_ROUTE_TABLE, "propagations", "bgw-1", NULL);
	expect_text(RESOURCE_VPC_ROUTE_TABLE, "propagations", "nothing=1", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_problem_shows_what_was_given),
	    cmocka_unit_test(test_merge),
	    cmocka_unit_test(test_walk),
	    cmocka_unit_test(test_flags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
