# The real bgp service against BIRD: sessions, routes both ways, every way of ending one, ten thousand routes.
import os
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

from bgp_node import CLOUD, DEVICE, GATEWAY, TUNNEL, Handover, World, resource_pb2, sh, until  # noqa: E402


class Bird:
    def __init__(self, folder, netns):
        self.folder, self.netns, self.process = folder, netns, None
        self.write(["192.168.0.0/16", "192.168.7.0/24"])

    def write(self, prefixes, export="source = RTS_STATIC"):
        with open(f"{self.folder}/bird.conf", "w", encoding="ascii") as out:
            out.write(f"""router id 10.9.9.9;
log stderr all;
protocol device {{ }}
protocol static idc {{
	ipv4;
{"".join(f"	route {prefix} blackhole;" + chr(10) for prefix in prefixes)}}}
protocol bgp cloud {{
	local {DEVICE} as 65001;
	neighbor {CLOUD} as 65000;
	connect retry time 1;
	connect delay time 1;
	error wait time 1, 2;
	ipv4 {{ import all; export where {export}; next hop self; }};
}}
""")

    def start(self):
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", "--", "bird", "-f", "-c", f"{self.folder}/bird.conf", "-s", f"{self.folder}/bird.ctl"],
            stderr=open(f"{self.folder}/bird.log", "ab"))
        until(lambda: os.path.exists(f"{self.folder}/bird.ctl"), 5, "BIRD's control socket")

    def c(self, command):
        return sh(f"birdc -s {self.folder}/bird.ctl {command}", check=False)

    def state(self):
        return self.c("show protocols all cloud")

    def count(self):
        for line in self.c("show route count protocol cloud").splitlines():
            if " of " in line:
                return int(line.split()[0])
        return 0

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


@pytest.fixture(scope="module")
def world():
    w = World(Bird)
    try:
        w.peer.start()
        w.start()
        w.advertise(["10.0.0.0/16"])
        yield w
    finally:
        w.close()


ROUTES = {"192.168.0.0/16", "192.168.7.0/24"}


@pytest.fixture
def up(world):
    """The session Established with its routes both ways, however the test before left it."""
    world.wait_state("Established")
    world.wait_prefixes(ROUTES)
    until(lambda: world.peer.count() == 1, 3, "our route in BIRD")
    return world


def test_established(world):
    assert world.wait_state("Established", 5) < 5
    world.wait_prefixes(ROUTES)
    session = world.session()
    assert session.remote_asn == 65001 and session.hold_time == 30 and session.established_count == 1
    assert session.remote_router_id == socket.inet_aton("10.9.9.9")
    until(lambda: world.session().prefixes_received == 2 and world.session().prefixes_advertised == 1, 2, "counts")
    route = world.learned.rows[f"{TUNNEL}/192.168.7.0/24"]
    assert (route.tunnel_id, route.destination, route.prefix_length) == (TUNNEL, socket.inet_aton("192.168.7.0"), 24)
    assert list(route.as_path) == [65001] and route.as_path_length == 1 and route.origin == 0
    assert route.next_hop == socket.inet_aton(DEVICE)
    text, _ = until(lambda: "10.0.0.0/16" in (t := world.peer.c("show route all protocol cloud")) and t, 3, "our route in BIRD")
    assert f"via {CLOUD}" in text and "BGP.as_path: 65000\n" in text and "BGP.origin: IGP" in text
    capabilities = world.peer.state()
    assert "4-octet AS numbers" in capabilities and "Route refresh" in capabilities


def test_advertised_routes_change(up):
    up.advertise(["10.1.0.0/16", "10.2.0.0/16"], as_path=[4200000001, 7])
    until(lambda: up.peer.count() == 3, 2, "three routes in BIRD")
    assert "BGP.as_path: 65000 4200000001 7\n" in up.peer.c("show route all 10.2.0.0/16")
    up.advertise(["10.2.0.0/16"], as_path=[])
    until(lambda: "BGP.as_path: 65000\n" in up.peer.c("show route all 10.2.0.0/16"), 2, "the changed path")
    up.advertise(["10.2.0.0/16"], as_path=[65010], communities=[65010 << 16 | 7, 0xffff0000])
    until(lambda: "BGP.community: (65010,7) (65535,0)\n" in up.peer.c("show route all 10.2.0.0/16"), 2, "the communities")
    up.advertise(["10.1.0.0/16", "10.2.0.0/16"], gone=True)
    until(lambda: up.peer.count() == 1, 2, "one route in BIRD")


def test_export_filter_changes(up):
    up.peer.write(sorted(ROUTES), export="net = 192.168.7.0/24")
    up.peer.c("configure")
    up.wait_prefixes({"192.168.7.0/24"})
    up.peer.write(sorted(ROUTES))
    up.peer.c("configure")
    up.wait_prefixes(ROUTES)
    assert up.session().state == "Established"


def test_route_withdrawn(up):
    up.peer.write(["192.168.0.0/16"])
    up.peer.c("configure")
    up.wait_prefixes({"192.168.0.0/16"})
    up.peer.write(sorted(ROUTES))
    up.peer.c("configure")
    up.wait_prefixes(ROUTES)


def test_route_refresh(up):
    before = up.session().established_count
    up.peer.c("reload in cloud")
    time.sleep(0.3)
    assert up.peer.count() == 1 and up.session().established_count == before


def test_peer_disabled(up):
    changes = up.learned.batches
    up.peer.c("disable cloud")
    up.wait_prefixes(set(), 1)
    assert up.learned.batches == changes + 1, "all routes of a session go in one change"
    up.wait_error("received Cease/Administrative Shutdown")
    time.sleep(2)  # attempts that are refused meanwhile do not hide it
    assert up.session().last_error.startswith("received Cease/Administrative Shutdown")
    up.peer.c("enable cloud")
    assert up.wait_state("Established", 6) < 6


def test_peer_killed(up):
    up.peer.process.kill()
    up.wait_prefixes(set(), 1)
    up.wait_error("connection ")
    up.peer.process.wait()
    os.unlink(f"{up.folder}/bird.ctl")
    up.peer.start()
    up.wait_state("Established", 8)


def test_tunnel_goes_down(up):
    up.put_status(False)
    up.wait_prefixes(set(), 1)
    up.wait_error("tunnel down")
    until(lambda: "Established" not in up.peer.state(), 1, "BIRD has heard")
    up.generation += 1
    up.put_status(True)
    assert up.wait_state("Established", 6) < 6


def test_tunnel_restarts(up):
    up.generation += 1
    count = up.session().established_count
    up.put_status(True)
    until(lambda: up.session().established_count == count + 1, 6, "a new session")
    up.wait_error("tunnel restarted")


def test_tunnel_administratively_down(up):
    up.put_tunnel(resource_pb2.ADMIN_STATE_DOWN)
    up.wait_prefixes(set(), 1)
    up.wait_error("sent Cease/Administrative Shutdown")
    until(lambda: "Received: Administrative shutdown" in up.peer.state(), 2, "BIRD's reason")
    with open(f"{up.folder}/bird.log", encoding="utf-8", errors="replace") as log:
        assert "tunnel administratively down" in log.read()  # RFC 9003
    up.put_tunnel()
    up.wait_state("Established", 6)


def test_routing_becomes_static(up):
    up.put_connection(resource_pb2.ROUTING_STATIC)
    up.wait_prefixes(set(), 1)
    until(lambda: TUNNEL not in up.sessions.rows, 1, "no session row")
    up.put_connection()
    up.wait_state("Established", 6)


def test_esp_restarts(up):
    count = up.session().established_count
    up.handover.close()
    time.sleep(0.2)
    assert up.session().established_count == count and up.session().state == "Established"
    up.handover = Handover(f"{up.folder}/sockets", up.gateway)
    until(lambda: f"listen {GATEWAY}" in up.handover.asked, 2, "the listener is asked for again")
    up.generation += 1
    up.put_status(True)
    until(lambda: up.session().established_count == count + 1, 6, "a session over the new sockets")


def test_bgp_killed(up):
    """What it had learned stays with its readers until the next one has learned again."""
    batches = up.learned.batches
    up.kill()
    up.start()
    until(lambda: up.session().established_count == 1 and up.session().state == "Established", 10, "a session of the new process")
    up.wait_prefixes(ROUTES)
    time.sleep(0.2)
    assert up.learned.batches == batches + 1, "one snapshot, whole when it came"


def test_bgp_killed_and_the_peer_too(up):
    """What nobody says again goes when the new bgp has had its chance: here at once, as the tunnel is DOWN."""
    up.kill()
    up.peer.stop()
    up.put_status(False)
    up.start()
    up.wait_prefixes(set(), 5)
    up.wait_reason("the tunnel is DOWN: BGP starts when it is UP", 2)
    up.peer.start()
    up.generation += 1
    up.put_status(True)
    up.wait_state("Established", 8)


def test_bgp_ends(up):
    """The peer gets a Cease, and the routes are withdrawn before the process is gone."""
    up.end()
    up.wait_prefixes(set(), 1)
    up.wait_reason("the BGP service of this node ends", 1)
    assert up.session().state == "Idle"
    until(lambda: "Established" not in up.peer.state(), 1, "BIRD has heard")
    with open(f"{up.folder}/bird.log", encoding="utf-8", errors="replace") as log:
        assert "the BGP service of this node ends" in log.read()  # RFC 9003
    up.start()
    up.wait_state("Established", 10)


def test_quota(up):
    up.put_quota(1)
    up.peer.c("reload in cloud")
    many = sorted(ROUTES) + [f"192.168.{i}.0/24" for i in range(20, 30)]
    up.peer.write(many)
    up.peer.c("configure")
    until(lambda: up.session().prefixes_discarded == 10, 3, "the excess is counted")
    assert up.session().state == "Established" and up.prefixes() == ROUTES  # those that are in stay
    up.wait_reason("10 routes beyond the quota of 1 learned routes are discarded", 1)
    until(lambda: any("the quota of learned routes" in detail for detail in up.told("BGP routes beyond the limit")), 2, "the event")
    up.put_quota(20000)
    up.wait_prefixes(set(many), 10)  # asked for again
    assert up.session().prefixes_discarded == 0 and up.session().reason == ""
    up.peer.write(sorted(ROUTES))
    up.peer.c("configure")


def test_events(up):
    """Numbered on over every bgp of this test, at most 64 kept."""
    with up.buses["resource"].lock:
        rows = sorted(up.events.rows.values(), key=lambda row: row.number)
    assert 0 < len(rows) <= 64 and len({row.number for row in rows}) == len(rows)
    assert any("with AS 65001, BGP Identifier 10.9.9.9, hold time 30 s" in detail for detail in up.told("BGP established"))


def test_ten_thousand_routes(up):
    many = [f"172.{16 + i // 4096}.{i // 16 % 256}.{i % 16 * 16}/28" for i in range(10000)]
    up.peer.write(sorted(ROUTES) + many)
    up.peer.c("configure")
    until(lambda: len(up.learned.rows) == 10002, 10, "all routes learned")
    ours = [f"10.{64 + i // 4096}.{i // 16 % 256}.{i % 16 * 16}/28" for i in range(10000)]
    up.advertise(ours)
    until(lambda: up.peer.count() == 10001, 10, "all routes in BIRD")
    changes = up.learned.batches
    up.peer.c("disable cloud")
    took = up.wait_prefixes(set(), 2)
    assert up.learned.batches == changes + 1
    print(f"10,002 routes withdrawn and seen {took * 1000:.0f} ms after birdc returned")
    up.advertise(ours, gone=True)
    up.peer.write(sorted(ROUTES))
    up.peer.c("configure")
    up.peer.c("enable cloud")
    up.wait_state("Established", 6)


def test_silent_peer(up):
    """Nothing is heard for the hold time, which the test does not wait for: the cable is cut, and an attempt fails in time."""
    sh("ip link set vpn0 down", up.gateway)
    up.put_status(False)
    up.wait_prefixes(set(), 1)
    up.generation += 1
    up.put_status(True)
    time.sleep(3)
    assert up.session().state in ("Idle", "Connect", "Active")
    sh("ip link set vpn0 up", up.gateway)
    up.wait_state("Established", 15)  # BIRD must notice first that its old connection is gone


def test_metrics(up):
    text = sh(f"curl -s --unix-socket {up.folder}/health http://h/metrics")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(values["twinspan_bgp_sessions_established"]) == 1
    assert float(values["twinspan_bgp_updates_received_total"]) > 0
    assert sh(f"curl -s -o /dev/null -w %{{http_code}} --unix-socket {up.folder}/health http://h/readyz") == "200"
