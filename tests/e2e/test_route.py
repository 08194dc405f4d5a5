"""route against owners made of the bus in Python: what it publishes, when it calls its tables complete, what it does when others die,
its memory in PostgreSQL, and how long it takes."""
import ipaddress
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
import bus as lab  # noqa: E402
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402

BINARY = api.BUILD / "bin/twinspan-route"
NODES = ["node-a", "node-b"]


class Region:
    """A route under test, and the owners and readers around it."""

    def __init__(self, directory, database="", **settings):
        self.directory = str(directory)
        identities = ["resource", "route", "vrouter.host-1", *(f"{s}.{n}" for s in ("esp", "ike", "bgp") for n in NODES)]
        self.keys = lab.make_keys(f"{directory}/keys", identities)
        self.endpoints = lab.make_endpoints(f"{directory}/endpoints", {i: f"ipc://{directory}/{i}" for i in identities})
        self.buses, self.process, self.log = {}, None, open(f"{directory}/log", "ab")
        self.environment = {"TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints, "TWINSPAN_HEALTH": f"unix:{directory}/health",
                            "TWINSPAN_DATABASE": database, "TWINSPAN_NODE_TIMEOUT": "1000", **settings}

    def bus(self, identity):
        if identity not in self.buses:
            self.buses[identity] = lab.Bus(identity, self.keys, self.endpoints)
        return self.buses[identity]

    def silence(self, identity):
        self.buses.pop(identity).close()

    def own(self, identity, *names):
        return [self.bus(identity).own(name) for name in names]

    def start(self):
        self.process = subprocess.Popen([BINARY], env={**os.environ, **self.environment}, stderr=self.log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def replicate(self, name, message, reader="resource"):
        return self.bus(reader).replicate("route", name, message)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(10) == 0
        for bus in self.buses.values():
            bus.close()
        self.log.close()


def resource(region, connections=1):
    """The tutorial's rows: a border gateway on two nodes, a VPC with one subnet, a BGP connection with two tunnels."""
    tables = dict(zip(["node", "border_gateway", "vpc", "subnet", "vpc_route_table", "vpc_attachment", "vpn_connection", "vpn_tunnel",
                       "border_gateway_route"], region.own("resource", "node", "border_gateway", "vpc", "subnet", "vpc_route_table",
                                                           "vpc_attachment", "vpn_connection", "vpn_tunnel", "border_gateway_route")))
    for node in NODES:
        tables["node"].put(node, R.Node(id=node))
    tables["border_gateway"].put("bgw-1", R.BorderGateway(id="bgw-1", asn=65000, node_ids=NODES))
    tables["vpc"].put("vpc-1", R.Vpc(id="vpc-1", cidr_blocks=["10.0.0.0/16"]))
    tables["subnet"].put("sub-1", R.Subnet(id="sub-1", vpc_id="vpc-1", cidr="10.0.1.0/24"))
    tables["vpc_route_table"].put("rtb-1", R.VpcRouteTable(
        id="rtb-1", vpc_id="vpc-1", propagations=[R.Propagation(border_gateway_id="bgw-1", ranges=["0.0.0.0/0"])]))
    tables["vpc_attachment"].put("att-1", R.VpcAttachment(
        id="att-1", border_gateway_id="bgw-1", vpc_id="vpc-1", propagation=R.ATTACHMENT_PROPAGATION_ALL, order=1))
    tables["vpn_connection"].put("vpn-1", R.VpnConnection(id="vpn-1", border_gateway_id="bgw-1", routing=R.ROUTING_BGP))
    for tunnel, node in zip(["tun-a", "tun-b"], NODES):
        tables["vpn_tunnel"].put(tunnel, R.VpnTunnel(id=tunnel, vpn_connection_id="vpn-1", node_id=node, border_gateway_id="bgw-1",
                                                     admin_state=R.ADMIN_STATE_UP), scope=node)
    for table in tables.values():
        table.complete()
    return tables


def put_learned(table, tunnel, prefix, path=(65010,)):
    network = ipaddress.ip_network(prefix)
    table.put(f"{tunnel}/{prefix}", T.LearnedRoute(tunnel_id=tunnel, destination=network.network_address.packed,
                                                   prefix_length=network.prefixlen, as_path=path, as_path_length=len(path)))


def node(region, name, tunnel, prefixes=("192.168.0.0/16",), complete=True):
    """The services of one node, with its tunnel UP and its prefixes learned."""
    status, events = region.own(f"ike.{name}", "tunnel_status", "tunnel_event")
    sessions, learned = region.own(f"bgp.{name}", "bgp_session", "learned_route")
    (esp,) = region.own(f"esp.{name}", "node_status")
    status.put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=T.TunnelStatus.UP))
    sessions.put(tunnel, T.BgpSession(tunnel_id=tunnel, state="Established", remote_asn=65010))
    for prefix in prefixes:
        put_learned(learned, tunnel, prefix)
    for table in (status, events, sessions, learned, esp) if complete else ():
        table.complete()
    return {"status": status, "learned": learned, "sessions": sessions, "esp": esp}


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
    advertised.wait(lambda rows: set(rows) == {"vpn-1/10.0.1.0/24"})
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
    advertised.wait(lambda rows: "vpn-1/10.0.2.0/24" in rows)
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


def test_owners_die(region):
    resource(region)
    node(region, "node-a", "tun-a")
    node(region, "node-b", "tun-b")
    region.start()
    groups = region.replicate("next_hop_group", T.NextHopGroup)
    both = ["tun-a", "tun-b"]
    groups.wait(lambda rows: any(sorted(m.tunnel_id for m in g.members) == both for g in rows.values()))
    region.silence("ike.node-b")
    region.silence("bgp.node-b")
    time.sleep(5)  # rows stay while any service of the node lives
    assert [sorted(m.tunnel_id for m in g.members) for g in groups.rows.values()] == [both]
    region.silence("esp.node-b")
    groups.wait(lambda rows: [[m.tunnel_id for m in g.members] for g in rows.values()] == [["tun-a"]], seconds=8)
    node(region, "node-b", "tun-b")
    groups.wait(lambda rows: any(sorted(m.tunnel_id for m in g.members) == both for g in rows.values()), seconds=8)


def test_remembers_ages(tmp_path):
    postgres = api.Postgres()
    postgres.start()
    region = Region(tmp_path, database=postgres.where)
    try:
        resource(region)
        a = node(region, "node-a", "tun-a")
        node(region, "node-b", "tun-b")
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
        postgres.start()
        wait_for(lambda: stored() != "")
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
    region = Region(tmp_path, TWINSPAN_QUOTA_LEARNED_ROUTES="200000")
    try:
        resource(region)
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
