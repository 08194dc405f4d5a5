"""The real bgp service in a world of its own: the test plays resource, route, ike and the socket handover of esp, and the "tunnel" is a cable
between two namespaces. What stands at its other end is the test's: `World(device)`, where `device(folder, netns)` has start() and stop()."""
import array
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bus as lab  # noqa: E402
from bus import resource_pb2, tables_pb2  # noqa: E402

BUILD = os.environ.get("BUILD", os.environ.get("B", "build"))
UID = 4002
NODE, TUNNEL, CONNECTION, GATEWAY, CUSTOMER = "node-a", "tun-bgpnode0001", "vpn-bgpnode0001", "bgw-bgpnode0001", "cgw-bgpnode0001"
CLOUD, DEVICE = "169.254.10.1", "169.254.10.2"
NETNS_FLAG = 0x40000000


def sh(command, netns=None, check=True):
    words = command.split()
    if netns:
        words = ["nsenter", f"--net=/run/netns/{netns}", "--"] + words
    return subprocess.run(words, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def until(condition, seconds, what):
    """Waits for a condition; returns its value and how long it took. `what` is said when it does not come: a text, or what makes one then."""
    started = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - started > seconds:
            raise AssertionError(f"{what() if callable(what) else what}: not within {seconds} s")
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


class World:
    """A gateway node with one tunnel, seen from bgp."""

    def __init__(self, device, hold_time=30, keepalive=10):
        self.hold_time, self.keepalive = hold_time, keepalive
        self.folder = tempfile.mkdtemp(prefix="bgp-node-")
        os.chmod(self.folder, 0o777)
        mark = uuid.uuid4().hex[:6]
        self.gateway, self.device, self.link = f"b{mark}-g", f"b{mark}-d", f"v{mark}"
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
        self.peer = device(self.folder, self.device)

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
            bgp=resource_pb2.BgpOptions(hold_time=self.hold_time, keepalive=self.keepalive)), scope=NODE)
        self.tables["vpn_tunnel"].commit()

    def put_status(self, up, commit=True):
        state = tables_pb2.TunnelStatus.UP if up else tables_pb2.TunnelStatus.DOWN
        self.tables["tunnel_status"].put(TUNNEL, tables_pb2.TunnelStatus(tunnel_id=TUNNEL, state=state, generation=self.generation), scope=NODE)
        if commit:
            self.tables["tunnel_status"].commit()

    def advertise(self, prefixes, gone=False, as_path=(), communities=()):
        table = self.tables["advertised_route"]
        for prefix in prefixes:
            key = f"{CONNECTION}/{NODE}/{prefix}"
            if gone:
                table.remove(key)
                continue
            address, length = prefix.split("/")
            table.put(key, tables_pb2.AdvertisedRoute(vpn_connection_id=CONNECTION, destination=socket.inet_aton(address),
                                                      prefix_length=int(length), as_path=as_path,
                                                      communities=communities), scope=NODE)
        table.commit()

    def start(self):
        environment = {**os.environ, "TWINSPAN_NODE": NODE, "TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints,
                       "TWINSPAN_SOCKETS": f"{self.folder}/sockets", "TWINSPAN_HEALTH": f"unix:{self.folder}/health"}
        self.bgp = subprocess.Popen(
            ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs", f"{BUILD}/bin/twinspan-bgp"],
            env=environment, stderr=open(f"{self.folder}/bgp.log", "ab"))

    def end(self):
        """As a supervisor ends it."""
        self.bgp.terminate()
        assert self.bgp.wait(5) == 0

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
        return until(lambda: self.session().state == state, seconds, lambda: f"session {state}, is {self.session()}")[1]

    def wait_reason(self, part, seconds=8):
        return until(lambda: part in self.session().reason, seconds, lambda: f"reason {part!r}, is {self.session()}")

    def wait_error(self, start, seconds=1):
        return until(lambda: self.session().last_error.startswith(start), seconds, lambda: f"last error {start!r}, is {self.session()}")

    def prefixes(self):
        with self.buses["route"].lock:
            return {key.split("/", 1)[1] for key in self.learned.rows}

    def wait_prefixes(self, wanted, seconds=3):
        return until(lambda: self.prefixes() == set(wanted), seconds, lambda: f"routes {wanted}, are {self.prefixes()}")[1]

    def close(self):
        if self.bgp and self.bgp.poll() is None:
            self.end()
        self.peer.stop()
        for bus in self.buses.values():
            bus.close()
        self.handover.close()
        for netns in (self.gateway, self.device):
            sh(f"ip netns del {netns}", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
