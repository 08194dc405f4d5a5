# The node's sockets as the kernel steers them, the handover to ike and bgp, and a border gateway's namespace: with tests/tools/esp_sockets.c in a namespace
# of its own and packets from a second one. What matters most is what happens when esp is killed while ike lives on.
import array
import ctypes
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid

import pytest
from scapy.all import ESP, IP, UDP, Raw

TOOL = os.environ.get("SOCKETS_UNDER_TEST", str(pathlib.Path(__file__).resolve().parents[2] / "build/test/tools/esp_sockets"))
WORKERS = 3
NODE, PEER = "198.51.100.17", "198.51.100.1"


def sh(*command, netns=None, check=True):
    command = " ".join(str(part) for part in command).split()
    if netns:
        command = ["nsenter", f"--net=/run/netns/{netns}", "--"] + command
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


class Tool:
    """One life of esp's socket side."""

    def __init__(self, netns, path, gateway=(), uids=(0, 0)):
        command = ["nsenter", f"--net=/run/netns/{netns}", "--", TOOL, WORKERS, path, *uids, *gateway]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pending = b""
        assert self.line() == "ready"

    def line(self, timeout=5.0):
        end = time.monotonic() + timeout
        while b"\n" not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return None
            self.pending += more
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def lines(self, timeout=0.3):
        found = []
        while (line := self.line(timeout)) is not None:
            found.append(line)
        return found

    def command(self, *words):
        self.process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        answer = []
        while not (line := self.line()).startswith(("done", "error")):
            answer.append(line)
        assert line == "done", f"{words}: {line}"
        return answer

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Inside:
    def inside(self, netns, function, *arguments):
        """Runs a function in a namespace: this thread goes there and comes back."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            assert libc.setns(there, 0x40000000) == 0
            return function(*arguments)
        finally:
            assert libc.setns(here, 0x40000000) == 0
            os.close(here)
            os.close(there)


class World(Inside):
    ike_uid, bgp_uid = 4001, 4002

    def __init__(self, folder):
        mark = uuid.uuid4().hex[:6]
        self.prefix = f"t{mark}-"
        self.node, self.peer = f"t{mark}-n", f"t{mark}-p"
        self.path = f"{folder}/sockets"
        self.tools = []
        self.made = []
        os.chmod(folder, 0o755)  # other uids connect too
        for netns in (self.node, self.peer):
            sh("ip netns add", netns)
            sh("ip link set lo up", netns=netns)
        sh("ip link add internet type veth peer name", f"v{mark}", netns=self.node)
        sh("ip link set", f"v{mark}", "netns", f"/run/netns/{self.peer}", netns=self.node)
        for netns, name, address in ((self.node, "internet", NODE), (self.peer, f"v{mark}", PEER)):
            sh("ip address add", f"{address}/24", "dev", name, netns=netns)
            sh("ip link set", name, "up", netns=netns)

    def start(self, gateway=None):
        if gateway:
            self.made.append(f"{self.prefix}node-{gateway}")
        tool = Tool(self.node, self.path, (self.prefix, "node", gateway) if gateway else (), (self.ike_uid, self.bgp_uid))
        self.tools.append(tool)
        return tool

    def send_udp(self, port, *payloads, source=None):
        if not source:
            source = self.inside(self.peer, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        for payload in payloads:
            source.sendto(payload, (NODE, port))

    def send_esp(self, *spis):
        raw = self.inside(self.peer, socket.socket, socket.AF_INET, socket.SOCK_RAW, 50)
        for spi in spis:
            raw.sendto(struct.pack(">II", spi, 1) + bytes(24), (NODE, 0))

    def end(self):
        for tool in self.tools:
            if tool.process.poll() is None:
                tool.kill()
        for netns in self.made + [self.node, self.peer]:
            sh("ip netns del", netns, check=False)


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory() as folder:
        made = World(folder)
        yield made
        made.end()


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5)
        self.socket.connect(path)

    def ask(self, request):
        self.socket.send(request.encode())
        text, control, _, _ = self.socket.recvmsg(256, socket.CMSG_SPACE(4))
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return text.decode(), socket.socket(fileno=array.array("i", data[:4])[0])
        return text.decode(), None


def as_uid(uid, path, *requests):
    """The answers a process of that uid gets: texts, with a + where a descriptor came."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            client = Client(path)
            for request in requests:
                text, given = client.ask(request)
                os.write(write_end, (text + ("+" if given else "") + "\n").encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answers:
        lines = answers.read().splitlines()
    os.waitpid(child, 0)
    return lines


IKE = bytes(4) + b"\x11" * 28


def esp_in_udp(spi):
    return struct.pack(">II", spi, 1) + bytes(16)


def received(given, timeout=1.0):
    found = []
    while select.select([given], [], [], timeout)[0]:
        found.append(given.recv(65536))
        timeout = 0.1
    return found


def test_datagrams_come_to_their_sockets(world):
    tool = world.start()
    client = Client(world.path)
    ok500, udp500 = client.ask("udp500")
    ok4500, udp4500 = client.ask("udp4500")
    assert (ok500, ok4500) == ("ok", "ok")
    spis = [0x100, 0x101, 0x102, 0x103, 0xfffffffe, 0xffffffff, 0x80000001]
    world.send_udp(4500, IKE, *[esp_in_udp(spi) for spi in spis])
    world.send_udp(500, b"any thing")
    heard = tool.lines()
    assert sorted(heard) == sorted(f"worker{spi % WORKERS} {esp_in_udp(spi).hex()}" for spi in spis)
    assert received(udp4500) == [IKE]
    assert received(udp500) == [b"any thing"]
    world.send_udp(4500, b"\xff", b"", b"\0\0\0")
    assert sorted(tool.lines()) == ["worker0 ", "worker0 000000", "worker0 ff"]
    assert received(udp4500, 0.2) == []


def test_plain_esp_comes_to_its_worker_once(world):
    tool = world.start()
    spis = [0x100, 0x101, 0x102, 0xffffffff]
    world.send_esp(*spis)
    heard = [line.split() for line in tool.lines()]
    assert len(heard) == len(spis)
    for name, text in heard:
        packet = IP(bytes.fromhex(text))
        assert packet.proto == 50 and packet.src == PEER
        assert name == f"raw{packet[ESP].spi % WORKERS}"


def test_big_buffers_and_a_segmented_send(world):
    tool = world.start()
    source = world.inside(world.peer, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    source.setsockopt(socket.IPPROTO_UDP, 103, 24)  # UDP_SEGMENT
    run = b"".join(esp_in_udp(0x300) for _ in range(20))
    world.send_udp(4500, run, source=source)
    assert tool.lines() == [f"worker{0x300 % WORKERS} {run.hex()}"]  # UDP_GRO: one read
    assert Client(world.path).ask("udp4500")[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 4 << 20


def test_what_was_joined_wrongly_finds_its_way(world):
    tool = world.start()
    udp4500 = Client(world.path).ask("udp4500")[1]
    tool.command("again", PEER, 4500, NODE, IKE.hex())
    tool.command("again", PEER, 4501, NODE, esp_in_udp(0x201).hex())
    assert tool.lines() == [f"worker{0x201 % WORKERS} {esp_in_udp(0x201).hex()}"]
    assert select.select([udp4500], [], [], 1)[0]
    assert udp4500.recvfrom(2000) == (IKE, (PEER, 4500))


def test_a_killed_esp_is_replaced_under_a_living_ike(world):
    # One flow of each kind that goes on all the time; ike holds its old sockets throughout.
    first = world.start()
    client = Client(world.path)
    old500, old4500 = client.ask("udp500")[1], client.ask("udp4500")[1]
    source = world.inside(world.peer, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    number = 0

    def burst():
        nonlocal number
        number += 1
        world.send_udp(4500, bytes(4) + struct.pack(">I", number), esp_in_udp(0x1000 + number), source=source)
        world.send_udp(500, struct.pack(">I", number), source=source)

    burst()
    assert received(old4500) == [bytes(4) + struct.pack(">I", 1)] and received(old500) == [struct.pack(">I", 1)]
    assert len(first.lines()) == 1

    first.kill()
    # While no esp is there, IKE still reaches ike; ESP is dropped and never reaches ike.
    burst()
    assert received(old4500) == [bytes(4) + struct.pack(">I", 2)]
    assert received(old500) == [struct.pack(">I", 2)]

    for life in range(3):
        tool = world.start()
        # Not asked for anew yet: nothing is lost, it waits in the new sockets.
        burst()
        expected = number
        assert tool.lines() == [f"worker{(0x1000 + expected) % WORKERS} {esp_in_udp(0x1000 + expected).hex()}"]
        assert received(old4500, 0.2) == [] and received(old500, 0.2) == []
        client = Client(world.path)
        new500, new4500 = client.ask("udp500")[1], client.ask("udp4500")[1]
        assert received(new4500) == [bytes(4) + struct.pack(">I", expected)]
        assert received(new500) == [struct.pack(">I", expected)]
        if life != 1:  # ike lets go of its old ones in one life, in the other it does not get round to it
            old500.close()
            old4500.close()
        old500, old4500 = new500, new4500
        tool.kill()


def test_a_killed_ike_finds_what_came_meanwhile(world):
    tool = world.start()
    client = Client(world.path)
    held = client.ask("udp4500")[1]
    held.close()
    client.socket.close()
    world.send_udp(4500, IKE)
    assert received(Client(world.path).ask("udp4500")[1]) == [IKE]
    assert tool.lines(0.1) == []


def test_sockets_are_given_only_to_their_services(world):
    world.start("bgw-test")
    requests = ("udp500", "udp4500", "listen bgw-test", "socket bgw-test 169.254.8.1")
    assert as_uid(world.ike_uid, world.path, *requests) == ["ok+", "ok+", "error refused", "error refused"]
    assert as_uid(world.bgp_uid, world.path, *requests) == ["error refused", "error refused", "ok+", "ok+"]
    assert as_uid(4999, world.path, *requests) == []  # not even heard
    assert as_uid(0, world.path, *requests) == ["ok+"] * 4
    strange = ("listen bgw-none", "listen", "socket bgw-test", "socket bgw-test 1.2.3", "socket bgw-test fd00::1", "hello", " ")
    answers = as_uid(0, world.path, *strange)
    assert len(answers) == len(strange) and all(answer.startswith("error ") for answer in answers)


def test_nobody_holds_the_places_of_others(world):
    """A service may have some of the places, one that says nothing loses its own, and a stranger has none."""
    world.start()
    clients = [Client(world.path) for _ in range(12)]  # root's: more than one may have
    ended = [client for client in clients if select.select([client.socket], [], [], 0.2)[0]]
    assert len(clients) - len(ended) == 6 and all(client.socket.recv(10) == b"" for client in ended)
    assert as_uid(world.ike_uid, world.path, "udp500") == ["ok+"]
    silent = [client for client in clients if client not in ended]
    assert silent[0].ask("udp500")[0] == "ok"
    for client in silent[1:]:
        client.socket.settimeout(15)
        assert client.socket.recv(10) == b""
    assert silent[0].ask("udp4500")[0] == "ok"  # who has asked may wait


def test_bgp_sockets_live_in_the_gateway(world):
    tool = world.start("bgw-test")
    client = Client(world.path)
    _, listener = client.ask("listen bgw-test")
    assert listener.getsockname() == ("0.0.0.0", 179)
    # The address comes later than the socket that is bound to it.
    _, active = client.ask("socket bgw-test 169.254.8.1")
    assert active.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 255
    assert active.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    tool.command("address", "169.254.8.1", 30)
    active.setblocking(False)
    assert active.connect_ex(("169.254.8.2", 179)) == 115  # EINPROGRESS
    packet = None
    for line in tool.lines():
        name, text = line.split()
        if name == "vpn0":
            packet = IP(bytes.fromhex(text)[10:])
            break
    assert packet is not None and (packet.src, packet.dst, packet.ttl) == ("169.254.8.1", "169.254.8.2", 255)
    # A second listener beside the first, as after a restart of esp.
    text, second = client.ask("listen bgw-test")
    assert text == "ok" and second.getsockname()[1] == 179


def test_a_gateway_survives_its_maker(world):
    netns = f"{world.prefix}node-bgw-test"
    first = world.start("bgw-test")
    first.command("route", "10.0.0.0/16", "att-one", "10.255.0.21")  # before its attachment
    first.command("attachment", "att-one", 77, "10.255.0.11", "10.255.0.11", "10.255.0.12", "10.255.0.21")
    first.command("attachment", "att-two", 78, "10.255.0.11", "10.255.0.21")
    first.command("route", "10.1.0.0/16", "att-two", "10.255.0.21")
    first.command("address", "169.254.8.1", 30)
    first.command("address", "169.254.8.5", 30)
    routes = sh("ip route", netns=netns)
    assert "default dev vpn0" in routes
    assert "10.0.0.0/16 via inet6 fe80::aff:15 dev att-one" in routes
    assert "lladdr 02:54:0a:ff:00:15" in sh("ip -6 neigh show dev att-one", netns=netns)
    assert "02:54:0a:ff:00:0c dst 10.255.0.12" in sh("bridge fdb show dev att-one", netns=netns)
    assert "10.255.0.11" not in sh("bridge fdb show dev att-one", netns=netns)
    devices = sh("ip -d link", netns=netns)
    index = {line.split(":")[1].split("@")[0].strip(): line.split(":")[0] for line in devices.splitlines() if line[:1].isdigit()}

    first.kill()
    assert "10.1.0.0/16" in sh("ip route", netns=netns)
    second = world.start("bgw-test")
    assert second.command("list") == ["found bgw-test"]
    second.command("attachment", "att-one", 77, "10.255.0.11", "10.255.0.21")
    second.command("route", "10.0.0.0/16", "att-one", "10.255.0.21")
    second.command("address", "169.254.8.1", 30)
    second.command("sweep")
    after = sh("ip -d link", netns=netns)
    assert f"{index['att-one']}: att-one@" in after and f"{index['vpn0']}: vpn0" in after and "att-two" not in after
    routes = sh("ip route", netns=netns)
    assert "10.0.0.0/16" in routes and "10.1.0.0/16" not in routes and "169.254.8.4/30" not in routes and "default" in routes
    assert "10.255.0.12" not in sh("bridge fdb show dev att-one", netns=netns)
    # Another network identifier is another device, which gets the routes back.
    second.command("attachment", "att-one", 79, "10.255.0.11", "10.255.0.21")
    assert "10.0.0.0/16" in sh("ip route", netns=netns)
    second.command("unroute", "10.0.0.0/16")
    assert "10.0.0.0/16" not in sh("ip route", netns=netns)
    second.command("close")
    assert not os.path.exists(f"/run/netns/{netns}")


def test_nothing_leaves_by_vpn0_unasked(world):
    tool = world.start("bgw-test")
    tool.command("address", "169.254.8.1", 30)
    assert tool.lines(3.0) == []


def test_vpn0_segments_nothing_itself(world):
    # A large TCP send comes out of vpn0 as one packet with its segmentation left to do.
    tool = world.start("bgw-test")
    netns = f"{world.prefix}node-bgw-test"
    tool.command("address", "169.254.8.1", 30)
    features = sh("ethtool -k vpn0", netns=netns)
    for wanted in ("tx-tcp-segmentation: on", "tx-tcp6-segmentation: on", "tx-udp-segmentation: on", "tx-checksum-ip-generic: on"):
        assert wanted in features, features
    sender = world.inside(netns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
    sender.sendto(bytes(10000), ("10.9.9.9", 9))
    name, text = tool.lines()[0].split()
    header = bytes.fromhex(text)[:10]
    packet = IP(bytes.fromhex(text)[10:])
    assert name == "vpn0" and packet[UDP].dport == 9 and len(packet[Raw].load) == 10000
    assert header[1] == 5 and struct.unpack("<H", header[4:6])[0] == 1000  # VIRTIO_NET_HDR_GSO_UDP_L4
