// The matrix: what it admits, and that proto/README.md says the same.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bus/tables.h"

static const char *const scopes[] = {[TABLE_REGION] = "region", [TABLE_NODE] = "node", [TABLE_OWN_NODE] = "own node"};

// The line that the README should have of a rule, but for the columns that only people read (row, key).
static void expect_line(const struct table_rule *rule, char *head, char *tail, size_t size)
{
	snprintf(head, size, "| `%s` | ", rule->name);
	size_t length = (size_t)snprintf(tail, size, " | %s | ", rule->owner);
	for (size_t i = 0; i < 6 && rule->readers[i]; i++) {
		length += (size_t)snprintf(tail + length, size - length, "%s%s", i ? ", " : "", rule->readers[i]);
	}
	snprintf(tail + length, size - length, " | %s |\n", scopes[rule->scope]);
}

static bool ends_with(const char *line, const char *tail)
{
	size_t length = strlen(line), tail_length = strlen(tail);
	return length >= tail_length && strcmp(line + length - tail_length, tail) == 0;
}

static void the_readme_says_the_same(void **state)
{
	(void)state;
	FILE *in = fopen("proto/README.md", "r");
	assert_non_null(in);
	char line[512], head[128], tail[256];
	size_t at = 0;
	while (fgets(line, sizeof line, in)) {
		if (strncmp(line, "| `", 3) != 0) {
			continue;
		}
		assert_true(at < table_rule_count);
		expect_line(&table_rules[at++], head, tail, sizeof head);
		if (strncmp(line, head, strlen(head)) != 0 || !ends_with(line, tail)) {
			fail_msg("proto/README.md has\n%swhere tables.c says\n%s…%s", line, head, tail);
		}
	}
	fclose(in);
	assert_int_equal(at, table_rule_count);
}

static bool admits(const char *table, const char *owner, const char *reader)
{
	return table_admits(table_rule_find(table), owner, reader);
}

static void secrets_are_for_their_own(void **state)
{
	(void)state;
	static const char *const all[] = {"resource",   "route",          "esp.node-a", "ike.node-a",
	                                  "bgp.node-a", "vrouter.host-1", "esp.node-b"};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		assert_int_equal(admits("tunnel_secret", "resource", all[i]), strncmp(all[i], "ike.", 4) == 0);
		assert_int_equal(admits("child_sa", "ike.node-a", all[i]), strcmp(all[i], "esp.node-a") == 0);
		assert_int_equal(admits("ike_sa", "ike.node-a", all[i]), strcmp(all[i], "esp.node-a") == 0);
	}
	assert_false(admits("child_sa", "ike.node-b", "esp.node-a"));
	assert_false(admits("tunnel_status", "esp.node-a", "route")); // not its owner
	assert_false(admits("node", "resource", "resource.node-a.b") || admits("node", "resource", "") ||
	             admits("node", "resource", "esp."));
	assert_true(admits("tunnel_status", "ike.node-a", "route"));
	assert_true(admits("node_status", "esp.node-a", "route"));
	assert_false(admits("node_status", "esp.node-a", "resource") || admits("node_status", "esp.node-a", "ike.node-a") ||
	             admits("node_status", "esp.node-a", "bgp.node-a")); // nothing there reads it
	assert_null(table_rule_find("nonsense"));
}

static void identities(void **state)
{
	(void)state;
	char service[32], node[64], text[200];
	assert_true(identity_split("ike.node-a", service, node));
	assert_string_equal(service, "ike");
	assert_string_equal(node, "node-a");
	assert_true(identity_split("route", service, node));
	assert_string_equal(node, "");
	assert_false(identity_split(".node-a", service, node) || identity_split("", service, node));
	memset(text, 'x', sizeof text);
	text[32] = '\0';
	assert_false(identity_split(text, service, node));
	text[3] = '.';
	text[32] = 'x';
	text[4 + 64] = '\0';
	assert_false(identity_split(text, service, node));
	text[4 + 63] = '\0';
	assert_true(identity_split(text, service, node));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_readme_says_the_same),
	    cmocka_unit_test(secrets_are_for_their_own),
	    cmocka_unit_test(identities),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
