// Keys that are revoked and endpoints that move, while everybody is connected: over real sockets, readers in processes of their
// own.
#include "tests/unit/bus_bench.h"

static void remove_key(const char *identity)
{
	char *file = format_text("%s/%s.public", directory, identity);
	assert_int_equal(unlink(file), 0);
	free(file);
}

static void make_key_anew(const char *identity)
{
	char *file = format_text("%s/%s.secret", directory, identity);
	assert_int_equal(unlink(file), 0);
	free(file);
	assert_true(bus_keys_write(directory, identity));
}

static bool route_has_it(struct owner *owner)
{
	return table_applied(owner->table, "route") == table_sequence(owner->table);
}

static bool esp_has_it(struct owner *owner)
{
	return table_applied(owner->table, "esp.node-a") == table_sequence(owner->table);
}

static bool route_is_not_served(struct owner *owner)
{
	return table_applied(owner->table, "route") == 0;
}

static bool frame_was_refused(struct owner *owner)
{
	(void)owner;
	return counted("twinspan_bus_dropped_total", "reason=\"revoked key\"") > 0;
}

static struct owner owner_of_one_row(void)
{
	struct owner owner = owner_new();
	table_put(owner.table, "", text("node-a"), text("A"));
	table_complete(owner.table);
	return owner;
}

static void a_removed_key_ends_what_is_open(void **state)
{
	(void)state;
	struct owner owner = owner_of_one_row();
	pid_t revoked = start("route", "resource", "node", "", "node-b", 60000),
	      other = start("esp.node-a", "resource", "node", "", "node-b", 60000);
	assert_true(run_until(&owner, route_has_it, SECONDS(30)));
	assert_true(run_until(&owner, esp_has_it, SECONDS(30)));
	remove_key("route");
	assert_true(run_until(&owner, route_is_not_served, SECONDS(30)));
	table_put(owner.table, "", text("node-b"), text("B"));
	table_commit(owner.table);
	assert_true(run_until(&owner, esp_has_it, SECONDS(30)));
	assert_int_equal(table_applied(owner.table, "route"), 0);
	assert_int_equal(result_of(other), 0);
	assert_int_equal(result_of(revoked), 1); // the second row did not come
	make_key_anew("route");
	pid_t anew = start("route", "resource", "node", "", "node-b", 60000);
	assert_true(run_until(&owner, route_has_it, SECONDS(30)));
	assert_int_equal(result_of(anew), 0);
	owner_free(&owner);
}

// A frame on the connection that was made with the former key.
static void what_a_revoked_key_still_says_is_refused_and_counted(void **state)
{
	(void)state;
	struct owner owner = owner_of_one_row();
	pid_t revoked = start("route", "resource", "node", "", "node-b", 60000);
	assert_true(run_until(&owner, route_has_it, SECONDS(30)));
	remove_key("route");
	make_key_anew("route"); // another key of the same name does not make the former one good
	assert_true(run_until(&owner, route_is_not_served, SECONDS(30)));
	assert_true(run_until(&owner, frame_was_refused, SECONDS(60))); // a replica that was refused asks again
	assert_int_equal(table_applied(owner.table, "route"), 0);
	kill(revoked, SIGKILL);
	result_of(revoked);
	owner_free(&owner);
}

// ---- the reader's side ----

struct seat {
	struct bus *bus;
	struct replica *replica;
	unsigned calls;
};

static struct seat *present;

static void on_reader_rows(void *context, const struct replica_row *rows, size_t count)
{
	(void)rows;
	(void)count;
	((struct seat *)context)->calls++;
}

static bool reader_has_an_owner(struct owner *owner)
{
	(void)owner;
	return present->calls > 0 && replica_owner_alive(present->replica);
}

static bool reader_has_no_owner(struct owner *owner)
{
	(void)owner;
	return !replica_owner_alive(present->replica);
}

static struct seat seat_of(struct owner *owner)
{
	return (struct seat){.bus = bus_new(owner->loop, NULL, "esp.node-a")};
}

static void follow(struct seat *reader)
{
	present = reader;
	reader->replica = replica_new(reader->bus, "resource", "node", "", on_reader_rows, reader);
}

static void an_owner_whose_key_is_gone_is_left(void **state)
{
	(void)state;
	struct owner owner = owner_of_one_row();
	struct seat reader = seat_of(&owner);
	follow(&reader);
	assert_true(run_until(&owner, reader_has_an_owner, SECONDS(30)));
	char *file = path("resource.public"), *away = path("resource.away");
	assert_int_equal(rename(file, away), 0);
	assert_true(run_until(&owner, reader_has_no_owner, SECONDS(30)));
	assert_false(run_until(&owner, never, MILLISECONDS(2500))); // it is not there, and that is known
	assert_int_equal(rename(away, file), 0);
	assert_true(run_until(&owner, reader_has_an_owner, SECONDS(30)));
	free(file);
	free(away);
	bus_free(&reader.bus);
	owner_free(&owner);
}

static void write_resource_at(const char *name)
{
	char *file = path("endpoints");
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	if (name) {
		fprintf(out, "resource ipc://%s/%s\n", directory, name);
	}
	fclose(out);
	free(file);
}

static void an_owner_that_moves_is_followed(void **state)
{
	(void)state;
	struct owner first = owner_of_one_row();
	struct seat reader = seat_of(&first);
	follow(&reader);
	assert_true(run_until(&first, reader_has_an_owner, SECONDS(30)));
	write_resource_at(NULL); // no word of where it is: it stays where it was
	assert_false(run_until(&first, reader_has_no_owner, MILLISECONDS(2500)));
	write_resource_at("elsewhere"); // nobody is there yet, while the first owner lives on
	assert_true(run_until(&first, reader_has_no_owner, SECONDS(30)));
	struct owner second = {.loop = first.loop};
	second.bus = bus_new(second.loop, NULL, "resource");
	second.table = table_own(second.bus, "node");
	table_put(second.table, "", text("node-c"), text("C"));
	table_complete(second.table);
	reader.calls = 0;
	assert_true(run_until(&first, reader_has_an_owner, SECONDS(30)));
	bus_free(&reader.bus);
	bus_free(&second.bus);
	owner_free(&first);
	write_endpoints();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_removed_key_ends_what_is_open),
	    cmocka_unit_test(what_a_revoked_key_still_says_is_refused_and_counted),
	    cmocka_unit_test(an_owner_whose_key_is_gone_is_left),
	    cmocka_unit_test(an_owner_that_moves_is_followed),
	};
	log_init("test", NULL);
	if (argc > 2) {
		return play_reader(argv + 1, argc - 1);
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
