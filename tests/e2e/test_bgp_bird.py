# The real bgp service against BIRD: sessions, routes both ways, every way of ending one, ten thousand routes. The test plays resource, route, ike and the
# socket handover of esp; the "tunnel" is a cable between two namespaces.
import array
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

import bus as lab  # noqa: E402
from bus import resource_pb2, tables_pb2  # noqa: E402

BUILD = os.environ.get("BUILD", os.environ.get("B", "build"))
UID = 4002
NODE, TUNNEL, CONNECTION, GATEWAY, CUSTOMER = "node-a", "tun-bird000001", "vpn-bird000001", "bgw-bird000001", "cgw-bird000001"
CLOUD, DEVICE = "169.254.10.1", "169.254.10.2"
NETNS_FLAG = 0x40000000


def sh(command, netns=None, check=True):
    words = command.split()
    if netns:
        words = ["nsenter", f"--net=/run/netns/{netns}", "--"] + words
    return subprocess.run(words, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def until(condition, seconds, what):
    """Waits for a condition; returns its value and how long it took."""
    started = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - started > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.002)
    return value, time.monotonic() - started


class Handover(threading.Thread):
    """What services/esp/net_handover.c does for bgp: sockets made in the border gateway's namespace."""

    def __init__(self, path, netns):
        super().__init__(daemon=True)
        self.path, self.netns, self.client, self.asked = path, netns, None, []
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server.bind(path)
        os.chmod(path, 0o666)
        self.server.listen(8)
        self.start()

    def run(self):
        there = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
        assert ctypes.CDLL(None).setns(there, NETNS_FLAG) == 0  # this thread only
        while True:
            try:
                self.client = client = self.server.accept()[0]
            except OSError:
                return
            while request := client.recv(256):
                self.asked.append(request.decode())
                words = self.asked[-1].split()
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if words[0] == "listen":
                    made.bind(("", 179))
                    made.listen(16)
                else:
                    made.bind((words[2], 0))
                client.sendmsg([b"ok"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
                made.close()

    def close(self):
        for end in (self.server, self.client):
            end.shutdown(socket.SHUT_RDWR)
            end.close()
        os.unlink(self.path)


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


class World:
    """A gateway node with one tunnel, seen from bgp."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="bgp-bird-")
        os.chmod(self.folder, 0o777)
        mark = uuid.uuid4().hex[:6]
        self.gateway, self.device = f"b{mark}-g", f"b{mark}-d"
        for netns in (self.gateway, self.device):
            sh(f"ip netns add {netns}")
            sh("ip link set lo up", netns)
        sh(f"ip link add vpn0 type veth peer name v{mark}", self.gateway)
        sh(f"ip link set v{mark} netns /run/netns/{self.device}", self.gateway)
        for netns, name, address in ((self.gateway, "vpn0", CLOUD), (self.device, f"v{mark}", DEVICE)):
            sh(f"ip address add {address}/30 dev {name}", netns)
            sh(f"ip link set {name} up", netns)
        self.handover = Handover(f"{self.folder}/sockets", self.gateway)
        owners = ["resource", "route", f"ike.{NODE}", f"bgp.{NODE}"]
        self.endpoints = lab.make_endpoints(f"{self.folder}/endpoints", {name: f"ipc://{self.folder}/bus-{name}" for name in owners})
        self.keys = lab.make_keys(f"{self.folder}/keys", owners)
        os.chown(f"{self.keys}/bgp.{NODE}.secret", UID, UID)
        self.buses = {name: lab.Bus(name, self.keys, self.endpoints) for name in owners[:3]}
        self.tables = {}
        self.bgp = None
        self.generation = 1
        for owner, name in (("resource", "border_gateway"), ("resource", "customer_gateway"), ("resource", "vpn_connection"),
                            ("resource", "vpn_tunnel"), ("resource", "quota"), ("route", "advertised_route"), (f"ike.{NODE}", "tunnel_status")):
            self.tables[name] = self.buses[owner].own(name)
        self.tables["border_gateway"].put(GATEWAY, resource_pb2.BorderGateway(id=GATEWAY, asn=65000))
        self.tables["customer_gateway"].put(CUSTOMER, resource_pb2.CustomerGateway(id=CUSTOMER, asn=65001))
        self.put_connection()
        self.put_tunnel()
        self.put_quota(20000)
        self.put_status(True, commit=False)
        for table in self.tables.values():
            table.complete()
        self.sessions = self.buses["resource"].replicate(f"bgp.{NODE}", "bgp_session", tables_pb2.BgpSession)
        self.events = self.buses["resource"].replicate(f"bgp.{NODE}", "bgp_event", tables_pb2.TunnelEvent)
        self.learned = self.buses["route"].replicate(f"bgp.{NODE}", "learned_route", tables_pb2.LearnedRoute)
        self.bird = Bird(self.folder, self.device)

    def put_quota(self, learned_routes):
        self.tables["quota"].put("", resource_pb2.Quota(learned_routes=learned_routes))
        self.tables["quota"].commit()

    def put_connection(self, routing=resource_pb2.ROUTING_BGP):
        self.tables["vpn_connection"].put(CONNECTION, resource_pb2.VpnConnection(
            id=CONNECTION, border_gateway_id=GATEWAY, customer_gateway_id=CUSTOMER, routing=routing))
        self.tables["vpn_connection"].commit()

    def put_tunnel(self, admin=resource_pb2.ADMIN_STATE_UP):
        self.tables["vpn_tunnel"].put(TUNNEL, resource_pb2.VpnTunnel(
            id=TUNNEL, vpn_connection_id=CONNECTION, border_gateway_id=GATEWAY, node_id=NODE, admin_state=admin,
            cloud_address="198.51.100.17", customer_address="203.0.113.1", cloud_inside_address=CLOUD, customer_inside_address=DEVICE,
            bgp=resource_pb2.BgpOptions(hold_time=30, keepalive=10)), scope=NODE)
        self.tables["vpn_tunnel"].commit()

    def put_status(self, up, commit=True):
        state = tables_pb2.TunnelStatus.UP if up else tables_pb2.TunnelStatus.DOWN
        self.tables["tunnel_status"].put(TUNNEL, tables_pb2.TunnelStatus(tunnel_id=TUNNEL, state=state, generation=self.generation), scope=NODE)
        if commit:
            self.tables["tunnel_status"].commit()

    def advertise(self, prefixes, gone=False, as_path=()):
        table = self.tables["advertised_route"]
        for prefix in prefixes:
            key = f"{CONNECTION}/{prefix}"
            if gone:
                table.remove(key)
                continue
            address, length = prefix.split("/")
            table.put(key, tables_pb2.AdvertisedRoute(vpn_connection_id=CONNECTION, destination=socket.inet_aton(address),
                                                      prefix_length=int(length), as_path=as_path))
        table.commit()

    def start(self):
        environment = {**os.environ, "TWINSPAN_NODE": NODE, "TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints,
                       "TWINSPAN_SOCKETS": f"{self.folder}/sockets", "TWINSPAN_HEALTH": f"unix:{self.folder}/health"}
        self.bgp = subprocess.Popen(
            ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs", f"{BUILD}/bin/twinspan-bgp"],
            env=environment, stderr=open(f"{self.folder}/bgp.log", "ab"))

    def kill(self):
        self.bgp.send_signal(signal.SIGKILL)
        self.bgp.wait()

    def told(self, event):
        """The details of the events of this name, in their order."""
        with self.buses["resource"].lock:
            rows = sorted(self.events.rows.values(), key=lambda row: row.number)
        return [row.detail for row in rows if row.event == event]

    def session(self):
        return self.sessions.rows.get(TUNNEL, tables_pb2.BgpSession())

    def wait_state(self, state, seconds=8):
        return until(lambda: self.session().state == state, seconds, f"session {state}, is {self.session()}")[1]

    def wait_error(self, start, seconds=1):
        return until(lambda: self.session().last_error.startswith(start), seconds, f"last error {start!r}, is {self.session()}")

    def prefixes(self):
        with self.buses["route"].lock:
            return {key.split("/", 1)[1] for key in self.learned.rows}

    def wait_prefixes(self, wanted, seconds=3):
        return until(lambda: self.prefixes() == set(wanted), seconds, f"routes {wanted}")[1]

    def close(self):
        if self.bgp and self.bgp.poll() is None:
            self.bgp.terminate()
            assert self.bgp.wait(5) == 0
        self.bird.stop()
        for bus in self.buses.values():
            bus.close()
        self.handover.close()
        for netns in (self.gateway, self.device):
            sh(f"ip netns del {netns}", check=False)


@pytest.fixture(scope="module")
def world():
    w = World()
    try:
        w.bird.start()
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
    until(lambda: world.bird.count() == 1, 3, "our route in BIRD")
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
    text, _ = until(lambda: "10.0.0.0/16" in (t := world.bird.c("show route all protocol cloud")) and t, 3, "our route in BIRD")
    assert f"via {CLOUD}" in text and "BGP.as_path: 65000\n" in text and "BGP.origin: IGP" in text
    capabilities = world.bird.state()
    assert "4-octet AS numbers" in capabilities and "Route refresh" in capabilities


def test_advertised_routes_change(up):
    up.advertise(["10.1.0.0/16", "10.2.0.0/16"], as_path=[4200000001, 7])
    until(lambda: up.bird.count() == 3, 2, "three routes in BIRD")
    assert "BGP.as_path: 65000 4200000001 7\n" in up.bird.c("show route all 10.2.0.0/16")
    up.advertise(["10.2.0.0/16"], as_path=[])
    until(lambda: "BGP.as_path: 65000\n" in up.bird.c("show route all 10.2.0.0/16"), 2, "the changed path")
    up.advertise(["10.1.0.0/16", "10.2.0.0/16"], gone=True)
    until(lambda: up.bird.count() == 1, 2, "one route in BIRD")


def test_export_filter_changes(up):
    up.bird.write(sorted(ROUTES), export="net = 192.168.7.0/24")
    up.bird.c("configure")
    up.wait_prefixes({"192.168.7.0/24"})
    up.bird.write(sorted(ROUTES))
    up.bird.c("configure")
    up.wait_prefixes(ROUTES)
    assert up.session().state == "Established"


def test_route_withdrawn(up):
    up.bird.write(["192.168.0.0/16"])
    up.bird.c("configure")
    up.wait_prefixes({"192.168.0.0/16"})
    up.bird.write(sorted(ROUTES))
    up.bird.c("configure")
    up.wait_prefixes(ROUTES)


def test_route_refresh(up):
    before = up.session().established_count
    up.bird.c("reload in cloud")
    time.sleep(0.3)
    assert up.bird.count() == 1 and up.session().established_count == before


def test_peer_disabled(up):
    changes = up.learned.batches
    up.bird.c("disable cloud")
    up.wait_prefixes(set(), 1)
    assert up.learned.batches == changes + 1, "all routes of a session go in one change"
    up.wait_error("received Cease/Administrative Shutdown")
    time.sleep(2)  # attempts that are refused meanwhile do not hide it
    assert up.session().last_error.startswith("received Cease/Administrative Shutdown")
    up.bird.c("enable cloud")
    assert up.wait_state("Established", 6) < 6


def test_peer_killed(up):
    up.bird.process.kill()
    up.wait_prefixes(set(), 1)
    up.wait_error("connection ")
    up.bird.process.wait()
    os.unlink(f"{up.folder}/bird.ctl")
    up.bird.start()
    up.wait_state("Established", 8)


def test_tunnel_goes_down(up):
    up.put_status(False)
    up.wait_prefixes(set(), 1)
    up.wait_error("tunnel down")
    until(lambda: "Established" not in up.bird.state(), 1, "BIRD has heard")
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
    until(lambda: "Received: Administrative shutdown" in up.bird.state(), 2, "BIRD's reason")
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
    up.kill()
    up.start()
    until(lambda: up.session().established_count == 1 and up.session().state == "Established", 6, "a session of the new process")
    up.wait_prefixes(ROUTES)


def test_ten_thousand_routes(up):
    many = [f"172.{16 + i // 4096}.{i // 16 % 256}.{i % 16 * 16}/28" for i in range(10000)]
    up.bird.write(sorted(ROUTES) + many)
    up.bird.c("configure")
    until(lambda: len(up.learned.rows) == 10002, 10, "all routes learned")
    ours = [f"10.{64 + i // 4096}.{i // 16 % 256}.{i % 16 * 16}/28" for i in range(10000)]
    up.advertise(ours)
    until(lambda: up.bird.count() == 10001, 10, "all routes in BIRD")
    changes = up.learned.batches
    up.bird.c("disable cloud")
    took = up.wait_prefixes(set(), 2)
    assert up.learned.batches == changes + 1
    print(f"10,002 routes withdrawn and seen {took * 1000:.0f} ms after birdc returned")
    up.advertise(ours, gone=True)
    up.bird.write(sorted(ROUTES))
    up.bird.c("configure")
    up.bird.c("enable cloud")
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
