// Rows as messages: keys taken apart, messages packed into a table.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bus/owner.h"
#include "common/bus/owner_state.h"
#include "common/bus/row.h"
#include "proto/tables.pb-c.h"

static void a_key_is_taken_apart(void **state)
{
	(void)state;
	struct row_key key;
	assert_true(row_key_read(text_bytes("vpnt-1/10.0.0.0/8"), &key));
	assert_string_equal(key.text, "vpnt-1/10.0.0.0/8");
	assert_string_equal(key.id, "vpnt-1");
	assert_string_equal(key.rest, "10.0.0.0/8");
	assert_true(row_key_read(text_bytes("node-a"), &key));
	assert_string_equal(key.id, "node-a");
	assert_string_equal(key.rest, "");
}

static void what_is_no_key_is_refused(void **state)
{
	(void)state;
	struct row_key key;
	uint8_t longest[ROW_KEY_TEXT];
	memset(longest, 'x', sizeof longest);
	assert_false(row_key_read((struct bytes){0}, &key));
	assert_false(row_key_read(text_bytes("/10.0.0.0/8"), &key));
	assert_false(row_key_read((struct bytes){(const uint8_t *)"a\0b", 3}, &key));
	assert_true(row_key_read((struct bytes){longest, sizeof longest - 1}, &key));
	assert_false(row_key_read((struct bytes){longest, sizeof longest}, &key));
}

static bool send_nothing(void *context, struct bytes peer, struct bytes frame)
{
	(void)context, (void)peer, (void)frame;
	return true;
}

static void note(void *context)
{
	(void)context;
}

struct seen {
	unsigned rows;
	char tunnel[32];
	size_t key_length;
};

static void look(void *context, struct bytes key, struct bytes value, bool removed)
{
	(void)key;
	struct seen *seen = context;
	assert_false(removed);
	seen->rows++;
	Twinspan__TunnelSecret *row = twinspan__tunnel_secret__unpack(NULL, value.length, value.data);
	assert_non_null(row);
	snprintf(seen->tunnel, sizeof seen->tunnel, "%s", row->tunnel_id);
	seen->key_length = row->pre_shared_key.len;
	twinspan__tunnel_secret__free_unpacked(row, NULL);
}

static void a_message_is_put_and_what_was_packed_of_a_secret_is_wiped(void **state)
{
	(void)state;
	const struct bus_owner_world world = {.send = send_nothing, .unsettled = note};
	struct bus_owner *owner = bus_owner_new("resource", 1, &world);
	struct table *table = bus_owner_table(owner, "tunnel_secret");
	Twinspan__TunnelSecret row = TWINSPAN__TUNNEL_SECRET__INIT;
	row.tunnel_id = "vpnt-1";
	row.pre_shared_key = (ProtobufCBinaryData){.len = 9, .data = (uint8_t *)"sesame-42"};
	row_put(table, "node-a", text_bytes("vpnt-1"), &row.base);
	table_commit(table);
	struct seen seen = {0};
	table_rows_changes(table->rows, "node-a", 0, look, &seen);
	assert_int_equal(seen.rows, 1);
	assert_string_equal(seen.tunnel, "vpnt-1");
	assert_int_equal(seen.key_length, 9);
	assert_null(memmem(owner->room.octets, owner->room.capacity, "sesame", 6));
	bus_owner_free(&owner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_key_is_taken_apart),
	    cmocka_unit_test(what_is_no_key_is_refused),
	    cmocka_unit_test(a_message_is_put_and_what_was_packed_of_a_secret_is_wiped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
