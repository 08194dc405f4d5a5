// The rules and the descriptors hold together: a field that only one of the two knows is a mistake.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/field.h"
#include "proto/openapi.h"
#include "proto/record.h"

static void check_fields(enum resource_kind kind, const ProtobufCMessageDescriptor *descriptor, const char *above)
{
	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		char name[FIELD_NAME], path[160];
		field_json_name(field->name, name);
		snprintf(path, sizeof path, "%s%s%s", above, *above ? "." : "", name);
		const struct field_rule *rule = field_rule_find(kind, path);
		assert_int_not_equal(field_type(field), TYPE_NONE);
		if (rule && rule->flags & FIELD_OUTPUT) {
			continue; // covers what is below it
		}
		if (field_type(field) == TYPE_MESSAGE) {
			assert_true(!field_is_list(field) || rule);
			check_fields(kind, field->descriptor, path);
		} else if (!rule || strcmp(rule->path, path) != 0) {
			fail_msg("%s.%s has no rule", kind_rules[kind].message, path);
		}
	}
}

static void test_every_field_has_a_rule(void **state)
{
	(void)state;
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		assert_string_equal(kind_rules[kind].message, kind_rules[kind].descriptor->short_name);
		check_fields((enum resource_kind)kind, kind_rules[kind].descriptor, "");
	}
}

static void check_items(const struct field_rule *rule, const struct field_shape *shape, const char *list)
{
	while (list && *list) {
		char item[64];
		size_t length = strcspn(list, ",");
		snprintf(item, sizeof item, "%.*s", (int)length, list);
		if (shape->type == TYPE_ENUM) {
			bool known = false;
			for (size_t i = 0; i < shape->value_count; i++) {
				known = known || strcmp(shape->values[i], item) == 0;
			}
			assert_true(known);
		} else if (shape->type == TYPE_NUMBER) {
			unsigned long long number = strtoull(item, NULL, 10);
			assert_true(strspn(item, "0123456789") == strlen(item) && number <= shape->largest);
			assert_true(list != rule->fallback || rule->maximum == 0 ||
			            (number >= rule->minimum && number <= rule->maximum));
		}
		list += length + (list[length] == ',');
	}
}

static void test_every_rule_has_a_field(void **state)
{
	(void)state;
	for (size_t i = 0; i < field_rule_count; i++) {
		const struct field_rule *rule = &field_rules[i];
		struct field_shape shape = field_shape_of(rule->kind, rule->path);
		if (shape.type == TYPE_NONE) {
			fail_msg("%s has no field %s", kind_rules[rule->kind].message, rule->path);
		}
		assert_non_null(rule->help);
		assert_true(rule->maximum >= rule->minimum &&
		            rule->maximum <= (shape.type == TYPE_NUMBER ? shape.largest : INT64_MAX));
		assert_true(rule->count_maximum >= rule->count_minimum);
		assert_true(shape.list || rule->count_maximum == 0);
		assert_true(!shape.list || rule->count_maximum > 0 || rule->flags & FIELD_OUTPUT);
		check_items(rule, &shape, rule->fallback);
		check_items(rule, &shape, rule->values);
		check_items(rule, &shape, rule->weak);
		check_items(rule, &shape, rule->unavailable);
		assert_true(rule->format != FORMAT_ID || kind_rules[rule->reference].id_prefix);
		assert_ptr_equal(field_rule_find(rule->kind, rule->path), rule); // and no path comes twice
	}
}

static void test_rules_are_in_the_order_of_kinds(void **state)
{
	(void)state;
	size_t total = 0;
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		size_t count;
		assert_non_null(field_rules_of((enum resource_kind)kind, &count));
		total += count;
		assert_int_equal(kind_by_singular(kind_rules[kind].singular), kind);
		assert_int_equal(kind_by_plural(kind_rules[kind].plural), kind);
	}
	assert_int_equal(total, field_rule_count);
	assert_int_equal(kind_by_singular("nothing"), RESOURCE_KINDS);
}

// A list's columns are fields that are shown, and what an action's parameters may be is said.
static void test_columns_and_actions(void **state)
{
	(void)state;
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		for (const char *at = kind_rules[kind].columns; *at;) {
			char name[64];
			size_t length = strcspn(at, ",");
			snprintf(name, sizeof name, "%.*s", (int)length, at);
			const struct field_rule *rule = field_rule_find((enum resource_kind)kind, name);
			assert_non_null(rule);
			assert_false(rule->flags & FIELD_SECRET);
			at += length + (at[length] == ',');
		}
	}
	for (size_t i = 0; i < ACTION_RULES; i++) {
		const struct action_rule *rule = &action_rules[i];
		assert_true(rule->help && rule->verb && rule->operation && (!rule->values || rule->parameters));
		for (size_t j = 0; j < i; j++) {
			assert_true(rule->kind != action_rules[j].kind || strcmp(rule->name, action_rules[j].name) != 0);
			assert_string_not_equal(rule->operation, action_rules[j].operation);
		}
	}
}

static void test_paths(void **state)
{
	(void)state;
	char flag[64];
	assert_string_equal(field_rule_find(RESOURCE_VPN_TUNNEL, "ike.dhGroups[3]")->path, "ike.dhGroups");
	assert_string_equal(field_rule_find(RESOURCE_VPC_ROUTE_TABLE, "propagations[0].ranges[1]")->path,
	                    "propagations.ranges");
	assert_string_equal(field_rule_find(RESOURCE_VPC_ROUTE_TABLE, "routes[0].metric")->path, "routes");
	assert_null(field_rule_find(RESOURCE_VPN_TUNNEL, "ike.nothing"));
	assert_null(field_rule_find(RESOURCE_VPN_TUNNEL, "ike"));
	assert_true(flag_name("ike.dhGroups", flag, sizeof flag));
	assert_string_equal(flag, "ike-dh-groups");
	assert_false(flag_name("ike.dhGroups", flag, 8));
	assert_true(in_list("2,5,14", "5"));
	assert_false(in_list("2,15,14", "5"));
	assert_false(in_list(NULL, "5"));
}

static void test_openapi(void **state)
{
	(void)state;
	json_t *document = openapi_document();
	assert_non_null(document);
	json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
	json_t *tunnel = json_object_get(json_object_get(schemas, "NewVpnTunnel"), "properties");
	assert_non_null(json_object_get(tunnel, "customerAddress"));
	assert_null(json_object_get(tunnel, "runningStatus")); // an output is never given
	assert_true(json_is_true(json_object_get(
	    json_object_get(json_object_get(json_object_get(tunnel, "ike"), "properties"), "preSharedKey"), "writeOnly")));
	// null is back to the default, where there is one; a filter has the values that are shown.
	json_t *changed = json_object_get(json_object_get(schemas, "ChangedVpnTunnel"), "properties");
	assert_int_equal(json_array_size(json_object_get(json_object_get(changed, "localId"), "type")), 2);
	assert_true(json_is_string(json_object_get(json_object_get(changed, "revision"), "type")));
	json_t *shown = json_object_get(json_object_get(schemas, "VpnTunnel"), "properties");
	assert_int_equal(json_array_size(json_object_get(json_object_get(shown, "runningStatus"), "enum")), 4);
	json_t *paths = json_object_get(document, "paths");
	for (size_t i = 0; i < ACTION_RULES; i++) {
		char path[128], method[8];
		snprintf(path, sizeof path, "/v1/%s/{id}/%s", kind_rules[action_rules[i].kind].plural, action_rules[i].name);
		snprintf(method, sizeof method, "%s", strcmp(action_rules[i].method, "POST") == 0 ? "post" : "get");
		assert_non_null(json_object_get(json_object_get(json_object_get(paths, path), method), "responses"));
	}
	// Every reference leads somewhere.
	char *text = json_dumps(document, JSON_COMPACT);
	for (const char *at = text; (at = strstr(at, "#/components/schemas/")) != NULL; at++) {
		char name[64] = "";
		sscanf(at, "#/components/schemas/%63[A-Za-z]", name);
		assert_non_null(json_object_get(schemas, name));
	}
	free(text);
	json_decref(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_field_has_a_rule),
	    cmocka_unit_test(test_every_rule_has_a_field),
	    cmocka_unit_test(test_rules_are_in_the_order_of_kinds),
	    cmocka_unit_test(test_columns_and_actions),
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_openapi),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
