#!/usr/bin/python3
"""What strangers can do to ike, and what its peer costs it: two Twinspan gateways (real esp and ike), the first being the second's customer device.

    make flood                    each kind of flood for 20 s at 20,000 datagrams a second, and the cost of a handshake
    make flood ONLY=good          one kind; ONLY=handshake: the cost alone
    make flood SECONDS=5          shorter

Held for each kind, sent with the customer's own address, to a tunnel that is UP and to one that is DOWN, and with unknown ones: no tunnel is lost; no key exchange is computed but for the customer's device; at
most one event and one status row a second; that device, told to begin anew in the middle of it, is UP again within 5 s; the memory of ike grows by less than 32 MB.
Needs root, and namespaces of its own.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests/perf"), str(TOP / "tests")]

import peers  # noqa: E402
import twinspan_pair  # noqa: E402
from lab import bus as lab_bus  # noqa: E402

CALLS_GOAL, CPU_GOAL = 60, 1.5  # of the responder for a delete and a handshake: system calls in all threads, milliseconds
HONEST = 2  # key exchanges of one IKE_SA_INIT: a public value and a shared secret
KINDS = ("good", "proposal", "x25519-0", "p256-off", "modp-0", "modp-1", "modp-last")
RATE = 20000
TICKS = os.sysconf("SC_CLK_TCK")
UP = lab_bus.tables_pb2.TunnelStatus.UP


class Pair(twinspan_pair.TwinspanPair):
    def start(self, encapsulation):
        super().start(encapsulation)
        self.resource = self.buses[0]
        self.status = [self.resource.replicate(f"ike.{node}", "tunnel_status", lab_bus.tables_pb2.TunnelStatus) for node in twinspan_pair.NODES]
        self.events = self.resource.replicate(f"ike.{twinspan_pair.NODES[1]}", "tunnel_event", lab_bus.tables_pb2.TunnelEvent)
        self.change(1, lambda row: row.ike.dh_groups.extend([14, 19]))

    def change(self, node, how):
        """Changes the row of one end's tunnel."""
        key = f"{twinspan_pair.TUNNEL}{node + 1}"
        table = self.resource.tables["vpn_tunnel"]
        scope, value = table.rows[key.encode()]
        row = lab_bus.resource_pb2.VpnTunnel.FromString(value)
        how(row)
        table.put(key, row, scope=scope)
        table.commit()

    def row(self, node):
        return self.status[node].rows.get(f"{twinspan_pair.TUNNEL}{node + 1}")

    def wait_up(self, generation, seconds=20):
        begun = time.monotonic()
        self.until(lambda: all(self.row(i) and self.row(i).state == UP for i in (0, 1)) and self.row(0).generation > generation, "the tunnel", seconds)
        return time.monotonic() - begun

    def restart(self):
        generation = self.row(0).generation

        def count(row):
            row.restart_requests += 1
        self.change(0, count)
        return self.wait_up(generation)

    def disable(self):
        def down(row):
            row.admin_state = lab_bus.resource_pb2.ADMIN_STATE_DOWN
        self.change(0, down)
        self.until(lambda: self.row(1).state != UP, "the other end to be DOWN", 5)

    def enable(self):
        generation = self.row(0).generation

        def up(row):
            row.admin_state = lab_bus.resource_pb2.ADMIN_STATE_UP
        self.change(0, up)
        return self.wait_up(generation)

    def pid(self):
        """ike of the second node."""
        return next(p.pid for p in self.processes if os.readlink(f"/proc/{p.pid}/exe").endswith("twinspan-ike")
                    and f"TWINSPAN_NODE={twinspan_pair.NODES[1]}".encode() in open(f"/proc/{p.pid}/environ", "rb").read())

    def metric(self, name):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.folder / twinspan_pair.NODES[1] / "ike.http"))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while part := client.recv(65536):
            text += part
        found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)", text.decode(), re.M)
        return float(found.group(1)) if found else 0.0


def cpu(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status", encoding="ascii").read()).group(1)) / 1024


def reason(name):
    return f'twinspan_ike_messages_total{{reason="{name}"}}'


def flood(pair, kind, source, seconds, down=False):
    """One kind of flood, at a tunnel that is UP or, while the customer's device is away, DOWN; the device comes back in the middle of it."""
    pid = pair.pid()
    if down:
        pair.disable()
        time.sleep(0.5)  # its last rows
    before = {"rss": rss(pid), "cpu": cpu(pid), "dh": pair.metric(reason("key-exchange")), "generation": pair.row(1).generation, "state": pair.row(1).state,
              "status": pair.status[1].batches, "events": pair.events.batches, "read": pair.metric("twinspan_ike_datagrams_received_total")}
    sender = subprocess.Popen(["nsenter", f"--net=/run/netns/{pair.g1}", str(TOP / "build/test/tools/ike_flood"), kind, source, peers.OUTER[1], str(RATE), str(seconds)],
                              stdout=subprocess.PIPE, text=True)
    time.sleep(seconds / 2)
    lost = pair.row(1).state != before["state"] or pair.row(1).generation != before["generation"]
    rows, events = pair.status[1].batches - before["status"], pair.events.batches - before["events"]
    strangers = pair.metric(reason("key-exchange")) - before["dh"]
    again = pair.enable() if down else pair.restart()
    sent = int(sender.communicate()[0])
    result = {
        "read": pair.metric("twinspan_ike_datagrams_received_total") - before["read"], "MB": rss(pid) - before["rss"], "cpu": (cpu(pid) - before["cpu"]) / seconds,
        "honest": pair.metric(reason("key-exchange")) - before["dh"] - strangers,
    }
    good = (not lost and rows <= seconds / 2 and events <= seconds / 2 and strangers == 0 and result["honest"] <= HONEST and again < 5 and result["MB"] < 32)
    print(f"{'ok  ' if good else 'FAIL'} {kind:10} from {source:12} {'DOWN' if down else 'UP':4} sent {sent:7} read {result['read']:8.0f}  key exchanges {strangers:2.0f} + {result['honest']:.0f} of the device  status rows {rows:2}  events {events:2}  "
          f"UP again in {again:4.2f} s  {result['MB']:+5.1f} MB  CPU {100 * result['cpu']:3.0f} %{'  TUNNEL LOST' if lost else ''}", flush=True)
    return good


def handshake(pair, count=60):
    """CPU time and system calls of the responder for a delete and a handshake."""
    pid = pair.pid()
    for _ in range(3):
        pair.restart()
    begun = cpu(pid)
    for _ in range(count):
        pair.restart()
    each = (cpu(pid) - begun) / count * 1000
    trace = subprocess.Popen(["strace", "-f", "-c", "-p", str(pid), "-o", str(pair.folder / "strace")], stderr=subprocess.DEVNULL)
    time.sleep(1)
    for _ in range(20):
        pair.restart()
    trace.terminate()
    trace.wait()
    lines = [line.split() for line in (pair.folder / "strace").read_text().splitlines()]  # % time, seconds, usecs/call, calls, errors
    number = {line[-1]: int(line[3]) / 20 for line in lines if len(line) >= 5 and line[3].isdigit()}
    total = number.pop("total")
    most = ", ".join(f"{name} {count:.0f}" for name, count in sorted(number.items(), key=lambda pair: -pair[1])[:8])
    good = each <= CPU_GOAL and total <= CALLS_GOAL
    print(f"{'ok  ' if good else 'FAIL'} a delete and a handshake cost the responder {each:.2f} ms of CPU (goal {CPU_GOAL}), "
          f"{total:.0f} system calls in all its threads (goal {CALLS_GOAL}; {most})", flush=True)
    return good


def main():
    only, seconds = os.environ.get("ONLY", ""), float(os.environ.get("SECONDS", "20"))
    pair = Pair("flood", "UDP")
    good = True
    try:
        pair.wait_up(0)
        if only in ("", "handshake"):
            good = handshake(pair)
        for kind in KINDS:
            if only in ("", kind):
                for source, down in ((peers.OUTER[0], False), (peers.OUTER[0], True), ("any", False)):
                    good = flood(pair, kind, source, seconds, down) and good
    finally:
        pair.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
