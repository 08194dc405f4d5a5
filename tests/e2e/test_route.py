"""route against owners made of the bus in Python: what it publishes, when it calls its tables complete, what it does when others die,
its memory in PostgreSQL, and how long it takes."""
import pathlib
import socket
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402
from route_region import Region, node, node_bgp, put_learned, resource  # noqa: E402


@pytest.fixture
def region(tmp_path):
    made = Region(tmp_path)
    yield made
    made.close()


def members(groups, group):
    return sorted(m.tunnel_id for m in groups.rows[group].members)


def test_tutorial(region):
    tables = resource(region)
    a, b = node(region, "node-a", "tun-a"), node(region, "node-b", "tun-b")
    region.start()
    effective, groups = region.replicate("effective_route", T.EffectiveRoute), region.replicate("next_hop_group", T.NextHopGroup)
    shown = region.replicate("border_gateway_route_row", T.BorderGatewayRouteRow)
    advertised = region.replicate("advertised_route", T.AdvertisedRoute, "bgp.node-a")
    vpc = region.replicate("vpc_route", T.VpcRoute, "vrouter.host-1")
    effective.wait(lambda rows: set(rows) == {"bgw-1/10.0.1.0/24", "bgw-1/192.168.0.0/16"})
    assert effective.rows["bgw-1/10.0.1.0/24"].attachment_id == "att-1"
    group = effective.rows["bgw-1/192.168.0.0/16"].next_hop_group_id
    groups.wait(lambda rows: group in rows)
    assert members(groups, group) == ["tun-a", "tun-b"] and list(groups.rows[group].vpn_connection_ids) == ["vpn-1"]
    advertised.wait(lambda rows: set(rows) == {"vpn-1/node-a/10.0.1.0/24"})
    vpc.wait(lambda rows: set(rows) == {"rtb-1/10.0.0.0/16/LOCAL/", "rtb-1/192.168.0.0/16/PROPAGATED/bgw-1"})
    row = vpc.rows["rtb-1/192.168.0.0/16/PROPAGATED/bgw-1"]
    assert (row.effective, row.next_hop_group_id, row.attachment_id, row.metric) == (True, group, "att-1", 1)
    shown.wait(lambda rows: len(rows) == 5)
    assert list(shown.rows["bgw-1/EFFECTIVE/192.168.0.0/16/vpn-1"].tunnel_ids) == ["tun-a", "tun-b"]

    # A tunnel fails: the group changes and nothing else that forwards.
    before = effective.sequence, vpc.sequence
    a["status"].put("tun-a", T.TunnelStatus(tunnel_id="tun-a", state=T.TunnelStatus.DOWN))
    a["status"].commit()
    groups.wait(lambda rows: members(groups, group) == ["tun-b"])
    shown.wait(lambda rows: list(rows["bgw-1/EFFECTIVE/192.168.0.0/16/vpn-1"].tunnel_ids) == ["tun-b"])
    assert (effective.sequence, vpc.sequence) == before
    # Its session withdraws; then the other's.
    a["learned"].remove("tun-a/192.168.0.0/16")
    a["learned"].commit()
    effective.wait(lambda rows: rows["bgw-1/192.168.0.0/16"].next_hop_group_id != group)
    b["learned"].remove("tun-b/192.168.0.0/16")
    b["learned"].commit()
    effective.wait(lambda rows: set(rows) == {"bgw-1/10.0.1.0/24"})
    groups.wait(lambda rows: not rows)
    # Subnets are followed.
    tables["subnet"].put("sub-2", R.Subnet(id="sub-2", vpc_id="vpc-1", cidr="10.0.2.0/24"))
    tables["subnet"].commit()
    advertised.wait(lambda rows: "vpn-1/node-a/10.0.2.0/24" in rows)
    with pytest.raises(TimeoutError):  # vrouter may not read what is advertised
        region.replicate("advertised_route", T.AdvertisedRoute, "vrouter.host-1").wait(seconds=0.5)


def test_waits_for_its_inputs(region):
    resource(region)
    node(region, "node-a", "tun-a")
    slow = node(region, "node-b", "tun-b", complete=False)
    region.start()
    effective = region.replicate("effective_route", T.EffectiveRoute)
    with pytest.raises(TimeoutError):
        effective.wait(seconds=2)
    for table in slow.values():
        table.complete()
    effective.wait(lambda rows: "bgw-1/192.168.0.0/16" in rows, seconds=3)


def test_does_not_wait_long_for_a_node_that_is_not_there(region):
    resource(region)
    node(region, "node-a", "tun-a")
    started = time.monotonic()
    region.start()
    effective, groups = region.replicate("effective_route", T.EffectiveRoute), region.replicate("next_hop_group", T.NextHopGroup)
    effective.wait(lambda rows: "bgw-1/192.168.0.0/16" in rows, seconds=6)
    assert time.monotonic() - started < 4.5
    groups.wait(lambda rows: [m.tunnel_id for g in rows.values() for m in g.members] == ["tun-a"])
    node(region, "node-b", "tun-b")  # it comes later
    groups.wait(lambda rows: any(len(g.members) == 2 for g in rows.values()))


def tunnels(rows):
    return sorted(sorted(m.tunnel_id for m in group.members) for group in rows.values())


def with_routes(region):
    """Both nodes learn 192.168.0.0/16, node-b alone 192.168.1.0/24; a static route goes to the connection."""
    tables = resource(region)
    tables["border_gateway_route"].put("bgr-1", R.BorderGatewayRoute(
        id="bgr-1", border_gateway_id="bgw-1", destination="172.16.0.0/12", next_hop_type=R.NEXT_HOP_TYPE_VPN_CONNECTION,
        next_hop_id="vpn-1"))
    tables["border_gateway_route"].commit()
    nodes = {name: node(region, name, tunnel, prefixes) for name, tunnel, prefixes in (
        ("node-a", "tun-a", ["192.168.0.0/16"]), ("node-b", "tun-b", ["192.168.0.0/16", "192.168.1.0/24"]))}
    region.start()
    effective, groups = region.replicate("effective_route", T.EffectiveRoute), region.replicate("next_hop_group", T.NextHopGroup)
    effective.wait(lambda rows: len(rows) == 4)

    def through(prefix):
        row = effective.rows.get(f"bgw-1/{prefix}")
        return members(groups, row.next_hop_group_id) if row and row.next_hop_group_id in groups.rows else []

    wait_for(lambda: through("192.168.0.0/16") == ["tun-a", "tun-b"])
    return tables, nodes, effective, groups, through


def test_a_dead_bgp_takes_its_routes_with_it(region):
    _, _, effective, groups, through = with_routes(region)
    shown = region.replicate("border_gateway_route_row", T.BorderGatewayRouteRow)
    region.silence("bgp.node-b")
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a"])
    effective.wait(lambda rows: "bgw-1/192.168.1.0/24" not in rows)
    assert through("172.16.0.0/12") == ["tun-a", "tun-b"]  # what needs no session goes on
    key = "bgw-1/PROPAGATED/192.168.1.0/24/tun-b"
    shown.wait(lambda rows: rows[key].reason == "the BGP service of node node-b is silent")
    node_bgp(region, "node-b", "tun-b", ["192.168.0.0/16"])  # another incarnation, which has learned less
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a", "tun-b"])
    shown.wait(lambda rows: key not in rows)


def test_a_dead_esp_takes_its_tunnels_with_it(region):
    _, _, effective, groups, through = with_routes(region)
    region.silence("esp.node-b")
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a"] and through("172.16.0.0/12") == ["tun-a"])
    effective.wait(lambda rows: "bgw-1/192.168.1.0/24" not in rows)
    (esp,) = region.own("esp.node-b", "node_status")
    esp.complete()
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a", "tun-b"] and through("192.168.1.0/24") == ["tun-b"])


def test_a_dead_ike_takes_nothing_with_it(region):
    tables, _, effective, groups, through = with_routes(region)
    region.silence("ike.node-b")
    time.sleep(2.5)  # two and a half times the node timeout
    assert through("192.168.0.0/16") == through("172.16.0.0/12") == ["tun-a", "tun-b"]
    region.silence("bgp.node-b")  # and then the node goes bit by bit
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a"])
    region.silence("esp.node-b")
    wait_for(lambda: through("172.16.0.0/12") == ["tun-a"])


def test_a_session_that_ends_is_one_change_of_a_group(region):
    tables, nodes, effective, groups, through = with_routes(region)
    for i in range(200):
        for name, tunnel in (("node-a", "tun-a"), ("node-b", "tun-b")):
            put_learned(nodes[name]["learned"], tunnel, f"192.168.{i}.0/24")
    for one in nodes.values():
        one["learned"].commit()
    effective.wait(lambda rows: len(rows) == 4 + 200 - 1)
    wait_for(lambda: through("192.168.77.0/24") == ["tun-a", "tun-b"])
    groups.wait(lambda rows: len(rows) == 2)  # that of the sessions and that of the static route
    sequences = effective.sequence, groups.sequence
    nodes["node-a"]["sessions"].put("tun-a", T.BgpSession(tunnel_id="tun-a", state="Idle", remote_asn=65010))
    nodes["node-a"]["sessions"].commit()
    wait_for(lambda: through("192.168.77.0/24") == ["tun-b"])
    assert groups.sequence == sequences[1] + 1 and effective.sequence == sequences[0]
    assert through("172.16.0.0/12") == ["tun-a", "tun-b"]


def test_a_node_that_is_no_more(region):
    """The row of the node goes (its tunnels before): nothing of it stays, and it may come again."""
    tables, nodes, effective, groups, through = with_routes(region)
    shown = region.replicate("border_gateway_route_row", T.BorderGatewayRouteRow)
    shown.wait(lambda rows: any(key.endswith("/tun-b") for key in rows))
    tables["node"].remove("node-b")
    tables["node"].commit()
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a"])
    shown.wait(lambda rows: not any(key.endswith("/tun-b") for key in rows))
    tables["node"].put("node-b", R.Node(id="node-b"))
    tables["node"].commit()
    wait_for(lambda: through("192.168.0.0/16") == ["tun-a", "tun-b"] and through("192.168.1.0/24") == ["tun-b"])


def test_a_table_that_stays_silent(region):
    """A service that lives and never calls its table complete is waited for, but not for ever."""
    resource(region)
    node(region, "node-a", "tun-a")
    slow = node(region, "node-b", "tun-b", complete=False)
    for name in ("status", "sessions", "esp"):
        slow[name].complete()
    region.start()
    effective = region.replicate("effective_route", T.EffectiveRoute)
    with pytest.raises(TimeoutError):
        effective.wait(seconds=5)
    effective.wait(lambda rows: "bgw-1/192.168.0.0/16" in rows, seconds=10)
    slow["learned"].complete()
    groups = region.replicate("next_hop_group", T.NextHopGroup)
    groups.wait(lambda rows: ["tun-a", "tun-b"] in tunnels(rows))


def test_what_a_customer_may_not_announce(region):
    tables, nodes, effective, groups, through = with_routes(region)
    shown = region.replicate("border_gateway_route_row", T.BorderGatewayRouteRow)
    refused = {"10.0.1.10/32": "inside 10.0.0.0/16 of vpc-1, which is attached: it would take traffic away from the VPC",
               "198.51.100.0/24": "holds 198.51.100.17, a cloud address",
               "10.255.0.0/24": "holds 10.255.0.11, a node's fabric address",
               "169.254.6.0/24": "inside the link-local range, where the tunnels' inside addresses are"}
    for prefix in [*refused, "0.0.0.0/0", "10.0.0.0/8"]:
        put_learned(nodes["node-a"]["learned"], "tun-a", prefix)
    nodes["node-a"]["learned"].commit()
    effective.wait(lambda rows: {"bgw-1/0.0.0.0/0", "bgw-1/10.0.0.0/8"} <= set(rows))
    for prefix, reason in refused.items():
        shown.wait(lambda rows: f"bgw-1/PROPAGATED/{prefix}/tun-a" in rows)
        assert shown.rows[f"bgw-1/PROPAGATED/{prefix}/tun-a"].reason == reason
        assert f"bgw-1/{prefix}" not in effective.rows
    region.log.flush()
    wait_for(lambda: "learned-route-refused" in pathlib.Path(region.directory, "log").read_text())


def test_quotas_are_the_resources(region):
    tables, nodes, effective, groups, through = with_routes(region)
    for i in range(4):
        put_learned(nodes["node-a"]["learned"], "tun-a", f"192.168.{100 + i}.0/24")
    nodes["node-a"]["learned"].commit()
    effective.wait(lambda rows: len(rows) == 4 + 4)
    tables["quota"].put("", R.Quota(static_routes=50, learned_routes=2))  # of a tenant without one of its own
    tables["quota"].commit()
    effective.wait(lambda rows: len(rows) == 2 + 2)
    tables["quota"].put("acme", R.Quota(id="acme", learned_routes=3))  # the rest of it: the defaults
    tables["quota"].commit()
    effective.wait(lambda rows: len(rows) == 2 + 3)
    log = pathlib.Path(region.directory, "log")
    wait_for(lambda: "quota-exceeded" in log.read_text())
    tables["quota"].put("acme", R.Quota(id="acme", learned_routes=7))
    tables["quota"].commit()
    effective.wait(lambda rows: len(rows) == 4 + 4)
    wait_for(lambda: "quota-nearly-reached" in log.read_text())


def test_a_host_gets_the_routes_of_its_own_vpcs(tmp_path):
    region = Region(tmp_path, hosts=["host-1", "host-2"])
    try:
        tables, _, effective, _, _ = with_routes(region)
        tables["vpc"].put("vpc-2", R.Vpc(id="vpc-2", cidr_blocks=["10.9.0.0/16"], vpc_host_id="host-2"))
        tables["vpc_route_table"].put("rtb-2", R.VpcRouteTable(id="rtb-2", vpc_id="vpc-2"))
        for name in ("vpc", "vpc_route_table"):
            tables[name].commit()
        one = region.replicate("vpc_route", T.VpcRoute, "vrouter.host-1")
        two = region.replicate("vpc_route", T.VpcRoute, "vrouter.host-2")
        one.wait(lambda rows: "rtb-1/192.168.0.0/16/PROPAGATED/bgw-1" in rows)
        two.wait(lambda rows: set(rows) == {"rtb-2/10.9.0.0/16/LOCAL/"})
        assert all(key.startswith("rtb-1/") for key in one.rows)
        tables["vpc"].put("vpc-1", R.Vpc(id="vpc-1", cidr_blocks=["10.0.0.0/16"], vpc_host_id="host-2"))  # it moves
        tables["vpc"].commit()
        one.wait(lambda rows: not rows)
        two.wait(lambda rows: "rtb-1/192.168.0.0/16/PROPAGATED/bgw-1" in rows)
    finally:
        region.close()


def test_remembers_ages(tmp_path):
    postgres = api.Postgres()
    postgres.start()
    region = Region(tmp_path, database=postgres.where)
    try:
        resource(region)
        a = node(region, "node-a", "tun-a")
        b = node(region, "node-b", "tun-b")
        region.start()
        shown = region.replicate("border_gateway_route_row", T.BorderGatewayRouteRow)
        key = "bgw-1/EFFECTIVE/192.168.0.0/16/vpn-1"
        shown.wait(lambda rows: key in rows)
        since, epoch = shown.rows[key].since, shown.epoch

        def stored():
            return postgres.query(f"SELECT since FROM route.row WHERE key = '{key}'")

        wait_for(lambda: stored() == str(since))
        region.kill()
        time.sleep(0.1)
        region.start()
        shown.wait(lambda rows: shown.epoch != epoch and key in rows, seconds=10)
        assert shown.rows[key].since == since
        # Without PostgreSQL all goes on, and what changed is written when it is back.
        postgres.stop("immediate")
        put_learned(a["learned"], "tun-a", "192.168.9.0/24")
        a["learned"].commit()
        effective = region.replicate("effective_route", T.EffectiveRoute)
        effective.wait(lambda rows: "bgw-1/192.168.9.0/24" in rows, seconds=1)
        key = "bgw-1/EFFECTIVE/192.168.9.0/24/vpn-1"
        # Meanwhile keys come and go, of which nothing is kept; one that is stored goes too, and is found when PostgreSQL is back.
        for number in range(200):
            put_learned(a["learned"], "tun-a", f"192.168.{100 + number % 100}.0/24")
            a["learned"].commit()
            a["learned"].remove(f"tun-a/192.168.{100 + number % 100}.0/24")
            a["learned"].commit()
        gone = "bgw-1/EFFECTIVE/192.168.0.0/16/vpn-1"
        for tunnel, side in (("tun-a", a), ("tun-b", b)):
            side["learned"].remove(f"{tunnel}/192.168.0.0/16")
            side["learned"].commit()
        effective.wait(lambda rows: "bgw-1/192.168.0.0/16" not in rows, seconds=3)
        assert metric_value(region, "twinspan_route_store_pending") < 100
        postgres.start()
        wait_for(lambda: stored() != "")
        wait_for(lambda: postgres.query(f"SELECT count(*) FROM route.row WHERE key = '{gone}'") == "0")
        wait_for(lambda: metric_value(region, "twinspan_route_store_pending") == 0)
        # What an earlier process left is swept at the start.
        region.kill()
        postgres.query("INSERT INTO route.row SELECT 'old-' || n, 1, 1, 0, 0 FROM generate_series(1, 12345) n")
        region.start()
        wait_for(lambda: postgres.query("SELECT count(*) FROM route.row WHERE key LIKE 'old-%'") == "0", seconds=20)
        assert stored() != ""
    finally:
        region.close()
        postgres.remove()


def wait_for(condition, seconds=8):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def metric_value(region, name):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{region.directory}/health")
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b""
        while part := connection.recv(65536):
            text += part
    return next(float(line.split()[-1]) for line in text.decode().splitlines() if line.startswith(name + " "))


def test_hundred_thousand_routes(tmp_path):
    region = Region(tmp_path)
    try:
        resource(region, learned_routes=200_000)
        a, b = node(region, "node-a", "tun-a"), node(region, "node-b", "tun-b", prefixes=())
        region.start()
        effective = region.replicate("effective_route", None)
        effective.wait(lambda rows: "bgw-1/192.168.0.0/16" in rows)
        count = 100_000
        for i in range(count):
            put_learned(a["learned"], "tun-a", f"{20 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24")
        before = metric_value(region, "twinspan_route_busy_microseconds_total")
        a["learned"].commit()
        effective.wait(lambda rows: len(rows) == count + 2, seconds=60)
        busy = (metric_value(region, "twinspan_route_busy_microseconds_total") - before) / 1e6
        print(f"{count} routes: {busy:.2f} s of route's time")
        groups = region.replicate("next_hop_group", T.NextHopGroup)
        groups.wait(lambda rows: len(rows) >= 1)
        started = time.monotonic()
        a["status"].put("tun-a", T.TunnelStatus(tunnel_id="tun-a", state=T.TunnelStatus.DOWN))
        a["status"].commit()
        groups.wait(lambda rows: not any(g.members for g in rows.values()))
        print(f"tunnel down with {count} prefixes: group changed after {(time.monotonic() - started) * 1000:.1f} ms")
        assert b
    finally:
        region.close()
