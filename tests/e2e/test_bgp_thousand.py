# A thousand sessions of one node at once: their sockets come through one handover, each is Established, and each hears of the end.
import os
import selectors
import socket
import sys
import threading

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

from bgp_node import CLOUD, CUSTOMER, DEVICE, GATEWAY, NETNS_FLAG, NODE, World, ctypes, resource_pb2, sh, tables_pb2, until  # noqa: E402

SESSIONS = 1000
MARKER = b"\xff" * 16
OPEN = MARKER + bytes.fromhex("002d01 04 fde9 0009 0a000009 10 020e 010400010001 0200 41040000fde9".replace(" ", ""))
KEEPALIVE = MARKER + b"\x00\x13\x04"
END_OF_RIB = MARKER + b"\x00\x17\x02\x00\x00\x00\x00"


def addresses(i):
    base = 16 * 256 + i * 4  # beside the one tunnel that every world has
    return f"169.254.{base // 256}.{base % 256 + 1}", f"169.254.{base // 256}.{base % 256 + 2}"


def route_of(i):
    """An UPDATE with one route, told from the session's own address."""
    attributes = bytes.fromhex("40010100" "4002060201" "0000fde9" "400304") + socket.inet_aton(addresses(i)[1])
    body = b"\x00\x00" + len(attributes).to_bytes(2, "big") + attributes + bytes((24, 100, i // 256, i % 256))
    return MARKER + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body


class Peers(threading.Thread):
    """The other end of all of them: answers OPEN, tells a route, keeps the session alive, counts the Ceases."""

    def __init__(self, _folder, netns):
        super().__init__(daemon=True)
        self.netns, self.established, self.ceased, self.running = netns, set(), set(), True

    def run(self):
        there = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
        assert ctypes.CDLL(None).setns(there, NETNS_FLAG) == 0  # this thread only
        self.selector, self.buffers = selectors.DefaultSelector(), {}
        listener = socket.create_server(("", 179), backlog=4096)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)
        while self.running:
            for key, _ in self.selector.select(0.2):
                if key.fileobj is listener:
                    self.accept(listener)
                else:
                    self.read(key.fileobj)

    def accept(self, listener):
        client = listener.accept()[0]
        self.selector.register(client, selectors.EVENT_READ)
        self.buffers[client] = b""

    def read(self, client):
        try:
            got = client.recv(65536)
        except ConnectionError:
            got = b""
        if not got:
            self.selector.unregister(client)
            client.close()
            return
        self.buffers[client] += got
        while len(data := self.buffers[client]) >= 19 and len(data) >= (length := int.from_bytes(data[16:18], "big")):
            self.buffers[client] = data[length:]
            self.take(client, data[18], data[19:length])

    def take(self, client, kind, body):
        octets = socket.inet_aton(client.getsockname()[0])
        number = ((octets[2] - 16) * 256 + octets[3] - 2) // 4
        if kind == 1:
            client.sendall(OPEN + KEEPALIVE)
        elif kind == 4:
            if number not in self.established:
                self.established.add(number)
                client.sendall(route_of(number) + END_OF_RIB)
            client.sendall(KEEPALIVE)
        elif kind == 3 and body[:2] == b"\x06\x02":
            self.ceased.add(number)

    def stop(self):
        self.running = False


@pytest.fixture(scope="module")
def world():
    w = World(Peers, hold_time=9, keepalive=3)
    try:
        w.put_status(False)
        # One neighbour on the cable for all of them, as on a tunnel: the kernel's table of neighbours has 1,024 places.
        lines = {w.gateway: [f"route add 169.254.16.0/20 via {DEVICE}"], w.device: [f"route add 169.254.16.0/20 via {CLOUD}"]}
        for i in range(SESSIONS):
            cloud, device = addresses(i)
            lines[w.gateway].append(f"address add {cloud}/32 dev vpn0")
            lines[w.device].append(f"address add {device}/32 dev {w.link}")
            tunnel, connection = f"tun-{i:012}", f"vpn-{i:012}"
            w.tables["vpn_connection"].put(connection, resource_pb2.VpnConnection(
                id=connection, border_gateway_id=GATEWAY, customer_gateway_id=CUSTOMER, routing=resource_pb2.ROUTING_BGP))
            w.tables["vpn_tunnel"].put(tunnel, resource_pb2.VpnTunnel(
                id=tunnel, vpn_connection_id=connection, border_gateway_id=GATEWAY, node_id=NODE, admin_state=resource_pb2.ADMIN_STATE_UP,
                cloud_address="198.51.100.17", cloud_inside_address=cloud, customer_inside_address=device,
                bgp=resource_pb2.BgpOptions(hold_time=9, keepalive=3)), scope=NODE)
            w.tables["tunnel_status"].put(tunnel, tables_pb2.TunnelStatus(tunnel_id=tunnel, state=tables_pb2.TunnelStatus.UP, generation=1), scope=NODE)
        for netns, text in lines.items():
            with open(f"{w.folder}/batch", "w", encoding="ascii") as out:
                out.write("\n".join(text) + "\n")
            sh(f"ip -batch {w.folder}/batch", netns)
        for table in ("vpn_connection", "vpn_tunnel", "tunnel_status"):
            w.tables[table].commit()
        w.peer.start()
        w.start()
        yield w
    finally:
        w.close()


def standing(world):
    with world.buses["resource"].lock:
        return sum(row.state == "Established" for row in world.sessions.rows.values())


def test_all_are_established(world):
    until(lambda: standing(world) == SESSIONS, 60, lambda: f"{SESSIONS} sessions, {standing(world)} stand")
    until(lambda: len(world.prefixes()) == SESSIONS, 20, lambda: f"a route of each, {len(world.prefixes())} are there")


def test_all_stay(world):
    """Longer than the hold time: nobody is forgotten among so many."""
    before = sum(row.established_count for row in world.sessions.rows.values())
    for _ in range(24):
        threading.Event().wait(0.5)
        assert standing(world) == SESSIONS
    assert sum(row.established_count for row in world.sessions.rows.values()) == before == SESSIONS


def test_all_hear_of_the_end(world):
    world.end()
    assert len(world.peer.ceased) == SESSIONS
    until(lambda: not world.prefixes(), 5, "no route left")
