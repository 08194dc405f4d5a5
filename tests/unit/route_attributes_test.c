// What comes after the metric: GRACEFUL_SHUTDOWN (RFC 8326), the origin and the MED (RFC 4271 §9.1.2.2 b, c); and what a
// transit gateway tells on of a learned route (RFC 1997, RFC 4271 §5.1.4).
#include "tests/unit/route_region.h"

enum { SHUTDOWN = 0xffff0000, NO_EXPORT = 0xffffff01, NO_ADVERTISE = 0xffffff02, NO_EXPORT_SUBCONFED = 0xffffff03 };
enum { IGP, EGP, INCOMPLETE };
static const char net[] = "192.168.0.0/16", key[] = "bgw/192.168.0.0/16";

static void test_graceful_shutdown(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 0);
	learn_with(&region, "tun-b", net, 65010, 0, IGP, 0);
	assert_string_equal(through(&region, key), "tun-a,tun-b of vpn");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, SHUTDOWN);
	assert_string_equal(through(&region, key), "tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] the EBGP route to vpn is preferred: this one is being shut down");
	learn_with(&region, "tun-b", net, 65010, 9, INCOMPLETE, 0); // however good the other is otherwise
	assert_string_equal(through(&region, key), "tun-b of vpn");
	tunnel_is(&region, "tun-b", false); // better than nothing
	assert_string_equal(through(&region, key), "tun-a of vpn");
	// The metric comes before it.
	tunnel_is(&region, "tun-b", true);
	learn(&region, "tun-b", net, 2);
	assert_string_equal(through(&region, key), "tun-a of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-b",
	           "EBGP vpn 2 [tun-b] the EBGP route to vpn is preferred: its AS path is shorter");
	region_free(&region);
}

static void test_origin(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn_with(&region, "tun-a", net, 65010, 0, EGP, 0);
	learn_with(&region, "tun-b", net, 65010, 7, IGP, 0); // before the MED
	assert_string_equal(through(&region, key), "tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] the EBGP route to vpn is preferred: its origin is better");
	learn_with(&region, "tun-b", net, 65010, 7, INCOMPLETE, 0);
	assert_string_equal(through(&region, key), "tun-a of vpn");
	region_free(&region);
}

static void test_med(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	learn_with(&region, "tun-a", net, 65010, 20, IGP, 0);
	learn_with(&region, "tun-b", net, 65010, 10, IGP, 0);
	assert_string_equal(through(&region, key), "tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] the EBGP route to vpn is preferred: its MED is lower");
	learn_with(&region, "tun-c", net, 65020, 500, IGP, 0); // of another neighbour: not compared
	assert_string_equal(through(&region, key), "tun-b,tun-c of vpn,vpn-2");
	learn_with(&region, "tun-c", net, 65010, 10, IGP, 0);
	assert_string_equal(through(&region, key), "tun-b,tun-c of vpn,vpn-2");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 0); // none counts as 0
	assert_string_equal(through(&region, key), "tun-a of vpn,vpn-2");
	session(&region, "tun-a", 65010, false); // the next best, at once
	assert_string_equal(through(&region, key), "tun-b,tun-c of vpn,vpn-2");
	// The metric comes first.
	learn(&region, "tun-a", net, 2);
	session(&region, "tun-a", 65010, true);
	assert_string_equal(through(&region, key), "tun-b,tun-c of vpn,vpn-2");
	region_free(&region);
}

// What is out of the quota or of a session-less connection does not spoil the MED of the others.
static void test_med_of_what_may_not_forward(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", false);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	learn_with(&region, "tun-a", net, 65010, 20, IGP, 0);
	learn_with(&region, "tun-b", net, 65020, 20, IGP, 0);
	learn_with(&region, "tun-c", net, 65010, 5, IGP, 0);
	assert_string_equal(through(&region, key), "tun-a,tun-b of vpn");
	region_free(&region);
}

static void test_kept_from_other_connections(void **state)
{
	(void)state;
	static const uint32_t communities[] = {NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED};
	struct region region = region_of_tutorial();
	gateway(&region, "bgw", true);
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-b");
	connection(&region, "vpn-3", "bgw", true);
	tunnel(&region, "tun-d", "vpn-3", "node-a");
	tunnel_is(&region, "tun-d", true);
	for (size_t i = 0; i < 3; i++) {
		learn_with(&region, "tun-a", net, 65010, 0, IGP, 0);
		assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16", "65010 origin 0");
		learn_with(&region, "tun-a", net, 65010, 0, IGP, communities[i]);
		assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16");
		assert_string_equal(through(&region, key), "tun-a of vpn"); // it forwards as ever
	}
	// Together with one that says nothing of the kind; and when it is only the spare.
	learn_with(&region, "tun-d", net, 65020, 0, IGP, 0);
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16");
	learn_with(&region, "tun-a", net, 65010, 0, EGP, NO_EXPORT);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16", "65020 origin 0");
	region_free(&region);
}

static void test_origin_is_told_on(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	gateway(&region, "bgw", true);
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-b");
	learn_with(&region, "tun-a", net, 65010, 0, INCOMPLETE, 0);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16", "65010 origin 2");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 0);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/192.168.0.0/16", "65010 origin 0");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/10.0.1.0/24", " origin 0");
	learn_with(&region, "tun-a", net, 65010, 7, IGP, 0); // the MED is for us alone: nothing is said anew
	for (size_t i = 0; i < region.log_count; i++) {
		assert_int_not_equal(region.log[i][0], '0' + ROUTE_TABLE_ADVERTISED);
	}
	region_free(&region);
}

// What the customer has marked its routes with reaches the other customers, GRACEFUL_SHUTDOWN too (RFC 1997, RFC 8326).
static void test_communities_are_told_on(void **state)
{
	(void)state;
	static const char told[] = "vpn-2/node-b/192.168.0.0/16";
	struct region region = region_of_tutorial();
	gateway(&region, "bgw", true);
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-b");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 65010u << 16 | 7);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, told, "65010 origin 0 65010:7");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 65010u << 16 | 8); // another one is news
	assert_row(&region, ROUTE_TABLE_ADVERTISED, told, "65010 origin 0 65010:8");
	learn_with(&region, "tun-a", net, 65010, 0, IGP, SHUTDOWN);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, told, "65010 origin 0 65535:0");
	// A community is not the next AS of a path.
	learn_with(&region, "tun-a", net, 65010, 0, IGP, 65011);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, told, "65010 origin 0 0:65011");
	learn(&region, "tun-a", "192.168.0.0/16", 2);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, told, "65010 65011 origin 0");
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_graceful_shutdown),
	    cmocka_unit_test(test_origin),
	    cmocka_unit_test(test_med),
	    cmocka_unit_test(test_med_of_what_may_not_forward),
	    cmocka_unit_test(test_kept_from_other_connections),
	    cmocka_unit_test(test_origin_is_told_on),
	    cmocka_unit_test(test_communities_are_told_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
