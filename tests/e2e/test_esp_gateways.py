"""Two real dataplanes under traffic: nothing lost, nothing dropped uncounted, and what holds when esp or its neighbours die."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1])]

import lab.bus as lab_bus  # noqa: E402
from lab.esp_gateways import BUILD, HOSTS, OUTER, Gateways, run, until  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
BLAST = BUILD / "test/tools/blast"
KILLS = int(os.environ.get("KILLS", 12))


@pytest.fixture(params=[True, False], ids=["udp", "plain"])
def gateways(request):
    gateways = Gateways(tunnels=2, udp=request.param)
    yield gateways
    gateways.close()


@pytest.fixture
def one():
    gateways = Gateways(tunnels=2)
    yield gateways
    gateways.close()


class Stream:
    """Small UDP packets from host 1 to host 2, at a rate, for some seconds."""

    def __init__(self, gateways, rate, seconds, flows=4):
        inside = lambda netns, *words: ["nsenter", f"--net=/run/netns/{netns}", "--", *map(str, words)]  # noqa: E731
        self.receiver = subprocess.Popen(inside(gateways.h[1], BLAST, "receive", 9000, 0.5), stdout=subprocess.PIPE, text=True)
        self.receiver.stdout.readline()
        self.sender = subprocess.Popen(inside(gateways.h[0], BLAST, "send", HOSTS[1], 9000, 64, rate, seconds, flows), stdout=subprocess.PIPE, text=True)

    def end(self):
        sent = json.loads(self.sender.communicate(timeout=60)[0])["sent"]
        return sent, json.loads(self.receiver.communicate(timeout=60)[0])["received"]


class Capture:
    """What leaves a node: (time, SPI, sequence number) of each ESP packet. Segmented sends are seen whole, so their packets are cut apart here."""

    def __init__(self, gateways, node):
        self.file = gateways.folder / "capture.pcap"
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{gateways.g[node]}", "--", "tcpdump", "-i", "internet", "-Q", "out", "-U", "-s", "65535", "-B", "65536", "-Z", "root", "-w", self.file,
             "(udp and src port 4500) or proto 50"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while "listening" not in self.process.stderr.readline():
            pass
        time.sleep(0.3)

    def end(self, spis, size=None):
        time.sleep(0.5)
        self.process.terminate()
        self.process.wait()
        data, at, found = self.file.read_bytes(), 24, []
        while at + 16 <= len(data):
            seconds, fraction, length, _ = struct.unpack_from("<IIII", data, at)
            packet = data[at + 16 : at + 16 + length]
            at += 16 + length
            ip = packet[14:]
            esp = ip[20:] if ip[9] == 50 else ip[28:]
            step = size or len(esp)
            for start in range(0, len(esp) - 7, step):
                spi, sequence = struct.unpack_from(">II", esp, start)
                assert spi in spis, f"{spi:08x} in a packet of {len(esp)}"
                found.append((seconds + fraction / 1e6, spi, sequence))
        return found


def esp_size(payload):
    """Octets of the ESP packet of a UDP payload under AES-GCM."""
    inner = 28 + payload
    return 8 + 8 + (inner + 2 + 3) // 4 * 4 + 16


def test_all_kinds_of_traffic_pass(gateways):
    h1, h2 = gateways.h
    assert "0% packet loss" in run("ping", "-c", 20, "-i", "0.01", HOSTS[1], netns=h1)
    assert "0% packet loss" in run("ping", "-c", 3, "-i", "0.01", "-s", 9000, "-M", "dont", HOSTS[1], netns=h1)  # fragments
    assert "0% packet loss" in run("ping", "-c", 3, "-i", "0.01", "-s", 9000, "-M", "dont", HOSTS[0], netns=h2)
    for reverse in ([], ["-R"]):
        server = subprocess.Popen(["nsenter", f"--net=/run/netns/{h2}", "--", "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        out = json.loads(run("iperf3", "-c", HOSTS[1], "-t", 2, "-P", 3, "-J", *reverse, netns=h1))
        server.wait(10)
        assert out["end"]["sum_received"]["bits_per_second"] > 50e6
    sent, received = Stream(gateways, 5000, 2).end()
    assert sent == received > 9000
    assert gateways.drops(0) == gateways.drops(1) == {}


def test_too_big_is_answered_and_then_fits(one):
    out = run("ping", "-c", 2, "-W", 1, "-s", 1472, "-M", "do", HOSTS[1], netns=one.h[0], check=False)
    assert "Frag needed and DF set (mtu = 1438)" in out and "169.254.100.2" in out
    assert "0% packet loss" in run("ping", "-c", 1, "-s", 1410, "-M", "do", HOSTS[1], netns=one.h[0])
    assert one.drops(0) == {"too_big": 1}


def test_a_mixed_run_finds_its_workers(one):
    """What a network card joined by flow may be two workers' SAs: each packet comes to its own, which finds that it is not authentic."""
    while len({directions[0].spi % 2 for _, directions, _ in one.sas.values()}) < 2:
        one.add_sa(0)
    one.wait_applied()
    spis = {directions[0].spi % 2: directions[0].spi for _, directions, _ in one.sas.values()}
    segments = b"".join(struct.pack(">II", spis[n % 2], 1000 + n) + bytes(56) for n in range(10))
    sender = (f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(17, 103, 64); s.bind(({OUTER[1]!r}, 40500)); "
              f"s.sendto(bytes.fromhex({segments.hex()!r}), ({OUTER[0]!r}, 4500))")
    run("/usr/bin/python3", "-c", sender, netns=one.g[1])
    until(lambda: one.drops(0).get("authentication", 0) == 10, "ten packets refused by their workers")
    assert one.drops(0) == {"authentication": 10}


def test_rekeying_loses_nothing(gateways):
    stream = Stream(gateways, 5000, 5)
    old = {t: t + 1 for t in range(2)}
    for turn in range(12):
        tunnel = turn % 2
        # As ike does it: the inbound side first everywhere, then the one that sends, then the old one goes.
        new = gateways.add_sa(tunnel, in_use=(False, False))
        gateways.wait_applied()
        gateways.sas[new][2] = [True, True]
        gateways.put_sas()
        gateways.wait_applied()
        time.sleep(0.15)
        gateways.remove_sa(old[tunnel])
        old[tunnel] = new
    sent, received = stream.end()
    assert sent == received > 20000
    assert gateways.drops(0) == gateways.drops(1) == {}


def test_a_group_moves_at_once(one):
    spis = {one.sas[t + 1][1][1].spi: t for t in range(2)}
    capture = Capture(one, 0)
    stream = Stream(one, 5000, 4)
    time.sleep(1)
    moves = []
    for turn in range(20):
        moves.append((time.time(), (turn + 1) % 2))
        one.set_group(0, [moves[-1][1]])
        one.route["next_hop_group"].wait_applied("esp.node-1")
        time.sleep(0.05)
    sent, received = stream.end()
    assert sent == received
    packets = capture.end(spis, esp_size(64))
    delays = []
    for at, tunnel in moves:
        delays.append(min(when for when, spi, _ in packets if when > at and spis[spi] == tunnel) - at)
    delays.sort()
    print(f"group change to packet: median {delays[10] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    assert delays[10] < 0.02


def test_figures_of_tunnels_come_less_often_than_of_sas(one):
    """ike decides by the SAs' figures and has them every second; the tunnels' are for people, and their reader is left in peace."""
    usage = one.buses["ike.node-1"].replicate("esp.node-1", "sa_usage", lab_bus.tables_pb2.SaUsage)
    counters = one.buses["resource"].replicate("esp.node-1", "tunnel_counters", lab_bus.tables_pb2.TunnelCounters)
    sent = lambda rows: sum(row.packets_out for row in rows.values())  # noqa: E731
    usage.wait(seconds=15), counters.wait(seconds=15)
    stream = Stream(one, 200, 13)
    until(lambda: counters.batches > 1, "the first figures under traffic", 20)
    first, before = counters.batches, usage.batches
    until(lambda: counters.batches > first, "the next ones", 20)
    assert usage.batches - before >= 3
    stream.end()
    # What moved last is told too, when nothing moves any more.
    until(lambda: sent(usage.rows) == sent(counters.rows) >= 2600, "the last packets in both", 20)


def test_traffic_needs_nobody_else(one):
    stream = Stream(one, 2000, 4)
    time.sleep(0.5)
    one.close_buses()  # resource, route and both ike die
    time.sleep(2)
    one.open_buses()  # and come back with new epochs and the same rows
    sent, received = stream.end()
    assert sent == received > 7000
    assert one.drops(0) == one.drops(1) == {}


def test_killed_dataplane_comes_back_and_never_repeats_a_number(one):
    spis = {one.sas[t + 1][1][1].spi: t for t in range(2)}
    capture = Capture(one, 0)
    stream = Stream(one, 2000, KILLS * 1.5 + 1)
    for _ in range(KILLS):
        time.sleep(0.7)
        one.kill_esp(0)
        one.start_esp(0)
        time.sleep(0.8)
    sent, received = stream.end()
    packets = capture.end(spis, esp_size(64))
    numbers = [(spi, sequence) for _, spi, sequence in packets]
    assert len(numbers) == len(set(numbers)), "a sequence number came twice under one key"
    times = [when for when, *_ in packets]
    gap = max(b - a for a, b in zip(times, times[1:]))
    print(f"{KILLS} kills: longest gap {gap * 1000:.0f} ms, {sent - received} of {sent} lost, {len(numbers)} numbers, none twice")
    assert gap < 1.0
    assert one.drops(1).get("replay", 0) == 0


def test_the_receiver_killed(one):
    stream = Stream(one, 2000, 6)
    time.sleep(1)
    killed = time.monotonic()
    one.kill_esp(1)
    one.start_esp(1)
    one.wait_ping()
    away = time.monotonic() - killed
    sent, received = stream.end()
    assert sent - received < 2000 * (away + 0.5)  # what came while it was away, and no more
    # While its tables come back, packets may find an SA before its tunnel, or a tunnel before its routes.
    before = one.drops(1)
    assert set(before) <= {"no_sa", "no_tunnel", "inner_source", "inner_destination"}, before
    one.wait_ping()
    assert one.drops(1) == before
