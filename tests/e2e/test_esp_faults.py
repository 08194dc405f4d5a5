"""Two real dataplanes and what befalls them: recorded packets played again, a vanished device, forged ICMP, a dead route, routes inside routes."""

import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1])]

from lab.esp_gateways import GATEWAY, HOSTS, NODES, OUTER, Gateways, octets, pb, rows, run, until  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
KILLS = int(os.environ.get("KILLS", 12))


@pytest.fixture
def gateways():
    gateways = Gateways(tunnels=2)
    yield gateways
    gateways.close()


class Wire:
    """The outer packets on one node's side of the wire, as they come."""

    def __init__(self, gateways, node, direction, expression="udp and port 4500"):
        self.file = gateways.folder / f"wire-{time.monotonic_ns()}.pcap"
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{gateways.g[node]}", "--", "tcpdump", "-i", "internet", "-Q", direction, "--immediate-mode", "-U", "-s", "65535", "-Z", "root", "-w", self.file, expression],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while "listening" not in (line := self.process.stderr.readline()):
            assert line, "tcpdump has ended"
        time.sleep(0.3)

    def end(self):
        """IPv4 packets."""
        time.sleep(0.5)
        self.process.terminate()
        self.process.wait()
        data, at, found = self.file.read_bytes(), 24, []
        while at + 16 <= len(data):
            length = struct.unpack_from("<I", data, at + 8)[0]
            found.append(data[at + 30 : at + 16 + length])
            at += 16 + length
        return found


def ping(gateways, count, *words, source=0):
    return run("ping", "-c", count, "-i", "0.01", "-W", "1", *words, HOSTS[1 - source], netns=gateways.h[source], check=False)


def raw_sender(gateways, node, packets):
    """Sends whole IPv4 packets from a node's network, whoever they say they are from."""
    text = "\n".join(packet.hex() for packet in packets)
    program = ("import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW); "
               "[s.sendto(p, (socket.inet_ntoa(p[16:20]), 0)) for p in map(bytes.fromhex, sys.stdin.read().split())]")
    subprocess.run(["nsenter", f"--net=/run/netns/{gateways.g[node]}", "--", "/usr/bin/python3", "-c", program], input=text, text=True, check=True)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, destination, protocol, payload, tos=0):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), 1, 0, 64, protocol, 0, socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def singles(packets, size, tos=0):
    """ESP packets of `size` octets in UDP, each as an IPv4 packet of its own: neighbours of a flow are seen joined."""
    found = []
    for packet in packets:
        if packet[9] == 17 and len(packet) > 28 and (len(packet) - 28) % size == 0:
            for at in range(28, len(packet), size):
                esp = packet[at : at + size]
                ports = packet[20:24] + struct.pack(">HH", 8 + size, 0)
                found.append(ipv4(socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]), 17, ports + esp, tos))
    return found


def test_nothing_recorded_is_taken_after_a_kill(gateways):
    """Everything that came to a dataplane before it was killed is played again after it is back: every packet is a replay, and new traffic flows."""
    recorded = []
    for turn in range(max(2, KILLS // 4)):
        wire = Wire(gateways, 0, "in")
        assert " 0% packet loss" in ping(gateways, 100, "-s", 200)
        recorded += singles(wire.end(), 264)  # 228 octets of ICMP in tunnel mode under AES-GCM
        assert len(recorded) == 100 * (turn + 1)
        gateways.kill_esp(0)
        gateways.start_esp(0)
        gateways.wait_ping()
        before, inside = gateways.drops(0), Inner(gateways, 0)
        raw_sender(gateways, 1, recorded)
        until(lambda: gateways.drops(0).get("replay", 0) - before.get("replay", 0) >= len(recorded), "a replay counted for each packet")
        assert inside.end() == 0, "a recorded packet came through"
        assert " 0% packet loss" in ping(gateways, 20)


class Inner:
    """How many packets leave vpn0 into the border gateway."""

    def __init__(self, gateways, node):
        self.namespace = gateways.inner[node]
        self.before = self.count()

    def count(self):
        text = run("cat", "/proc/net/dev", netns=self.namespace)
        return int(re.search(r"vpn0:\s*\d+\s+(\d+)", text)[1])

    def end(self):
        return self.count() - self.before


def test_a_removed_vpn0_is_made_anew(gateways):
    before = run("ip", "-4", "addr", "show", "dev", "vpn0", netns=gateways.inner[0])
    run("ip", "link", "del", "vpn0", netns=gateways.inner[0])
    gateways.wait_ping()
    after = run("ip", "-4", "addr", "show", "dev", "vpn0", netns=gateways.inner[0])
    inside = lambda text: sorted(re.findall(r"inet (\S+)", text))  # noqa: E731
    assert inside(before) == inside(after) != []
    assert "vpn0-vanished" in (gateways.folder / NODES[0] / "log").read_text()
    # The workers sleep: an event of the dead queue would never end.
    threads = tasks(gateways, 0)
    spent = lambda: sum(int((pathlib.Path(t) / "stat").read_text().rsplit(") ", 1)[1].split()[11 + k]) for t in threads.values() for k in range(2))  # noqa: E731
    start = spent()
    time.sleep(2)
    assert spent() - start < 50  # of 400 ticks


def tasks(gateways, node):
    folder = pathlib.Path(f"/proc/{gateways.processes[node].pid}/task")
    return {(t / "comm").read_text().strip(): t for t in folder.iterdir() if (t / "comm").read_text().startswith("worker-")}


def test_workers_have_no_privilege(gateways):
    threads = tasks(gateways, 0)
    assert len(threads) == 2
    for thread in threads.values():
        status = dict(re.findall(r"(\w+):\s+(\S+)", (thread / "status").read_text()))
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"


def test_an_idle_dataplane_sleeps(gateways):
    """No packet, no work: no worker is woken at all."""
    switches = lambda: {name: int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", (t / "status").read_text())[1]) for name, t in tasks(gateways, 0).items()}  # noqa: E731
    last = [switches()]

    def quiet():
        time.sleep(1.5)
        last.append(switches())
        return last[-1] == last[-2]

    until(quiet, "a moment without a wake-up", 15)
    assert " 0% packet loss" in ping(gateways, 3)


def test_forged_icmp_changes_no_size(gateways):
    """Outer packets never have DF, and a "fragmentation needed" that anybody can send changes nothing."""
    quoted = ipv4(OUTER[0], OUTER[1], 17, struct.pack(">HHHH", 4500, 4500, 508, 0) + bytes(500))
    body = struct.pack(">BBHHH", 3, 4, 0, 0, 600) + quoted[:528]
    body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
    raw_sender(gateways, 1, [ipv4(OUTER[1], OUTER[0], 1, body)] * 3)
    wire = Wire(gateways, 0, "out", "ip and not icmp and not tcp")
    assert " 0% packet loss" in ping(gateways, 10, "-s", 1400, "-M", "do")
    packets = [packet for packet in wire.end() if packet[9] in (17, 50)]
    large = [packet for packet in packets if len(packet) > 1400]
    assert len(large) >= 10
    for packet in packets:
        assert struct.unpack_from(">H", packet, 6)[0] == 0, "DF, or a fragment"


def test_traffic_class_goes_out_and_a_mark_comes_in(gateways):
    wire = Wire(gateways, 0, "inout")
    assert " 0% packet loss" in ping(gateways, 5, "-Q", "0xba")  # DSCP 46, ECT(0)
    packets = [packet for packet in wire.end() if len(packet) > 60]
    assert [packet[1] for packet in packets if packet[12:16] == octets(OUTER[0])] == [0xBA] * 5
    # A router on the way marks what comes next: the path to node 1 is cut while it is recorded, and it arrives marked.
    run("nft", "add", "table", "ip", "cut", netns=gateways.g[0])
    run("nft", "add", "chain", "ip", "cut", "in", "{ type filter hook input priority 0; }", netns=gateways.g[0])
    run("nft", "add", "rule", "ip", "cut", "in", "udp", "dport", "4500", "drop", netns=gateways.g[0])
    wire = Wire(gateways, 0, "in")
    ping(gateways, 1, "-Q", "0x02", source=1)
    held = [packet for packet in wire.end() if len(packet) > 60 and packet[12:16] == octets(OUTER[1])]
    run("nft", "delete", "table", "ip", "cut", netns=gateways.g[0])
    assert len(held) == 1 and held[0][1] == 2
    inside = subprocess.Popen(["nsenter", f"--net=/run/netns/{gateways.h[0]}", "--", "tcpdump", "-i", "gw", "-c", "1", "-n", "-v", "-Q", "in", "--immediate-mode", "icmp"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    inside.stderr.readline()
    time.sleep(0.5)
    raw_sender(gateways, 1, singles(held, 120, tos=3))  # 84 octets of ICMP in tunnel mode
    out, _ = inside.communicate(timeout=10)
    assert "tos 0x3,CE" in out


def test_a_dead_tunnel_is_left_without_route(gateways):
    """A device dies while `route` is dead: what its tunnel carried goes by the other one of the node, by esp alone."""
    for node in range(2):
        gateways.set_group(node, [0, 1])
    gateways.route["next_hop_group"].wait_applied("esp.node-1")
    gateways.buses["route"].close()
    used = set()
    for lost in (1, 2):
        gateways.remove_sa(lost)
        gateways.wait_applied()
        assert " 0% packet loss" in ping(gateways, 20)
        replacement = gateways.add_sa(lost - 1)
        gateways.wait_applied()
        used.add(replacement)
    assert gateways.drops(0).get("no_outbound_sa", 0) == 0
    del gateways.buses["route"]


def route_of(gateways, destination):
    return re.search(r" dev (\S+)", run("ip", "route", "get", destination, netns=gateways.inner[0]))[1]


def test_the_longest_prefix_wins_between_attachments_and_tunnels(gateways):
    resource = gateways.buses["resource"]
    for name, key, row in (("vpc_host", "host-1", pb.VpcHost(id="host-1", fabric_address="127.0.0.9")),
                           ("vpc", "vpc-1", pb.Vpc(id="vpc-1", vpc_host_id="host-1")),
                           ("vpc_attachment", "att-1", pb.VpcAttachment(id="att-1", border_gateway_id=GATEWAY, vpc_id="vpc-1", vni=4242))):
        resource.tables[name].put(key, row)
        resource.tables[name].commit()
    routes = gateways.route["effective_route"]

    def put(prefix, hop):
        address, length = prefix.split("/")
        routes.put(f"{NODES[0]}/{prefix}", rows.EffectiveRoute(border_gateway_id=GATEWAY, destination=octets(address), prefix_length=int(length), **hop), scope=NODES[0])
        routes.commit()

    def drop(prefix):
        routes.remove(f"{NODES[0]}/{prefix}")
        routes.commit()

    attachment, tunnels = {"attachment_id": "att-1"}, {"next_hop_group_id": "nhg-test0"}
    put("10.9.1.0/24", tunnels)
    put("10.9.0.0/16", attachment)
    until(lambda: route_of(gateways, "10.9.2.1") == "att-1", "the attachment's route")
    until(lambda: route_of(gateways, "10.9.1.1") == "vpn0", "the longer prefix of the tunnels")
    put("10.9.1.128/25", attachment)
    until(lambda: route_of(gateways, "10.9.1.129") == "att-1", "a longer one of the attachment inside")
    assert route_of(gateways, "10.9.1.1") == "vpn0"
    # The whole IPv4 Internet behind an attachment: the tunnels' prefixes are followed, and the VPN side lives.
    put("0.0.0.0/0", attachment)
    until(lambda: route_of(gateways, "8.8.8.8") == "att-1", "the default route")
    assert route_of(gateways, HOSTS[1]) == "vpn0"
    assert " 0% packet loss" in ping(gateways, 5)
    # A killed dataplane's next life takes nothing of it away.
    gateways.kill_esp(0)
    gateways.start_esp(0)
    gateways.wait_ping()
    until(lambda: route_of(gateways, "8.8.8.8") == "att-1", "the default route")
    assert route_of(gateways, HOSTS[1]) == "vpn0"
    drop("0.0.0.0/0")
    until(lambda: route_of(gateways, "8.8.8.8") == "vpn0", "the default route into the dataplane")
    until(lambda: "10.2.0.0/24" not in run("ip", "route", "show", "table", "main", netns=gateways.inner[0]), "no route that the default makes needless")
    assert " 0% packet loss" in ping(gateways, 5)
    drop("10.9.1.0/24")
    until(lambda: route_of(gateways, "10.9.1.1") == "att-1", "the shorter route again")


def test_a_smaller_path_splits_what_was_joined(gateways):
    """The device's MTU is smaller than the setting says: segmented sends are refused, and each packet goes by itself, in fragments."""
    for node in gateways.g:
        run("ip", "link", "set", "internet", "mtu", "1300", netns=node)
    wire = Wire(gateways, 0, "out", "ip")
    server = subprocess.Popen(["nsenter", f"--net=/run/netns/{gateways.h[1]}", "--", "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    out = run("iperf3", "-c", HOSTS[1], "-n", "2M", "-J", netns=gateways.h[0])
    server.wait(10)
    assert '"sum_received"' in out
    fragments = [packet for packet in wire.end() if struct.unpack_from(">H", packet, 6)[0] & 0x2000]
    assert len(fragments) > 100
    assert gateways.drops(0).get("send_failed", 0) == 0
    assert " 0% packet loss" in ping(gateways, 5, "-s", 1400)


def test_what_the_kernel_refuses_is_counted(gateways):
    before = gateways.drops(0)
    run("ip", "route", "add", "prohibit", f"{OUTER[1]}/32", netns=gateways.g[0])
    ping(gateways, 7)
    assert gateways.drops(0).get("send_failed", 0) - before.get("send_failed", 0) == 7
    run("ip", "route", "del", "prohibit", f"{OUTER[1]}/32", netns=gateways.g[0])
    assert " 0% packet loss" in ping(gateways, 5)
