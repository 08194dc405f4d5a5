#!/usr/bin/python3
"""Throughput through two Twinspan gateways and through two strongSwan ones, in the same run on the same machine; and the dataplane in memory.

    make bench               every row
    make bench ONLY=udp_64   one of them

Prints a table and writes build/bench/results.jsonl, an object a line: name, ours, peer, peer_name, unit, ratio (bigger is better for us), goal,
cpu_ns_per_packet. Hosts and both gateways share the machine's cores: the ratio is what counts, not the figure.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests/perf"), str(TOP / "tests")]

import peers  # noqa: E402
import twinspan_pair  # noqa: E402

RESULTS = TOP / "build/bench/results.jsonl"
TOOLS = TOP / "build/test/tools"
TCP_SECONDS = 5
ROUNDS = 3
LOSS = 0.001


def in_namespace(namespace, *command):
    return ["nsenter", f"--net=/run/netns/{namespace}", *map(str, command)]


def tcp(pair, flows):
    """Gbit/s received by iperf3, `flows` at once. The segment size is given: a gateway without MSS clamping would fragment, and measure that."""
    server = subprocess.Popen(in_namespace(pair.h2, "iperf3", "-s", "-1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        out = peers.run(*in_namespace(pair.h1, "iperf3", "-c", peers.SERVER, "-t", TCP_SECONDS, "-P", flows, "-M", 1300, "-J"), timeout=TCP_SECONDS + 20)
        return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9
    finally:
        server.kill()
        server.wait()


def blast(pair, size, rate, seconds, flows):
    """(packets sent, packets received, seconds, CPU seconds of both gateways)"""
    receiver = subprocess.Popen(in_namespace(pair.h2, TOOLS / "blast", "receive", 9000, 0.5), stdout=subprocess.PIPE, text=True)
    try:
        receiver.stdout.readline()
        before = pair.cpu_seconds()
        sent = json.loads(peers.run(*in_namespace(pair.h1, TOOLS / "blast", "send", peers.SERVER, 9000, size, rate, seconds, flows), timeout=seconds + 20))
        received = json.loads(receiver.communicate(timeout=30)[0])
        return sent["sent"], received["received"], sent["seconds"], pair.cpu_seconds() - before
    finally:
        if receiver.poll() is None:
            receiver.kill()
            receiver.wait()


def udp(pair, size):
    """The highest rate (packets a second) that passes with at most 0.1 % lost, and CPU nanoseconds of the gateways per packet."""

    def passes(rate):
        # One bad moment of a shared machine is not the gateway's limit: the better of two tries counts.
        for _ in range(2):
            sent, received, seconds, cpu = blast(pair, size, rate, 2, 4)
            if sent and sent - received <= LOSS * sent and sent >= 0.97 * rate * seconds:
                return received / seconds, cpu * 1e9 / received
        return None

    low, best, rate = 0, (0.0, 0.0), 20000
    while (result := passes(rate)) is not None and rate < 20e6:
        low, best = rate, result
        rate *= 1.5
    high = rate
    for _ in range(4):
        middle = (low + high) / 2
        if (result := passes(middle)) is not None:
            low, best = middle, result
        else:
            high = middle
    return best


def median(values):
    return sorted(values)[len(values) // 2]


def bulk(flows):
    return lambda pair: (median([tcp(pair, flows) for _ in range(ROUNDS)]), None)


# name: (measure, unit, goal as a ratio)
ROWS = {
    "tcp_bulk_udp_encap": (bulk(1), "Gbit/s", 20),
    "tcp_bulk_8_udp_encap": (bulk(8), "Gbit/s", 20),
    "udp_64": (lambda pair: udp(pair, 64), "packets/s", 8),
    "udp_350": (lambda pair: udp(pair, 350), "packets/s", 8),
}
# Rows that need no gateways: the dataplane in memory on one core, beside libipsec-mb doing nothing but the cipher over the same octets.
IN_MEMORY = [f"esp_{way}_{size}{suite}" for suite in ("", "_cbc") for size in ("1400", "64", "super") for way in ("encap", "decap")] + ["fib_million"]


def in_memory(wanted):
    out = peers.run(TOOLS / "esp_memory", 1, timeout=300)
    return [line for line in map(json.loads, out.splitlines()) if line["name"] in wanted]


def report(line):
    with RESULTS.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(f"{line['name']:24}{line['ours']:>14,.2f}{line['peer']:>14,.2f} {line['unit']:10}{line['ratio']:>8.2f} x   goal {line['goal']} x   {line['peer_name']}", flush=True)


def main():
    wanted = sys.argv[1:] or [*ROWS, *IN_MEMORY]
    for name in wanted:
        if name not in ROWS and name not in IN_MEMORY:
            print(f"bench: no row named {name}; there are {', '.join([*ROWS, *IN_MEMORY])}", file=sys.stderr)
            return 2
    if os.geteuid() != 0:
        print("bench: network namespaces need root", file=sys.stderr)
        return 2
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.unlink(missing_ok=True)
    figures = {}
    memory_rows = in_memory(wanted) if set(wanted) & set(IN_MEMORY) else []
    wanted = [name for name in wanted if name in ROWS]
    for make_pair in (twinspan_pair.TwinspanPair, peers.StrongSwanPair) if wanted else ():
        print(f"starting two gateways: {make_pair.name}", flush=True)
        pair = make_pair()
        try:
            for name in wanted:
                print(f"  {name} …", end="", flush=True)
                figures[name, make_pair] = ROWS[name][0](pair)
                print(f" {figures[name, make_pair][0]:,.2f} {ROWS[name][1]}", flush=True)
        finally:
            pair.close()
    print(f"\n{'':24}{'ours':>14}{'peer':>14}")
    for name in wanted:
        (ours, cpu), (peer, peer_cpu) = figures[name, twinspan_pair.TwinspanPair], figures[name, peers.StrongSwanPair]
        line = {"name": name, "ours": ours, "peer": peer, "peer_name": peers.StrongSwanPair.name, "unit": ROWS[name][1],
                "ratio": ours / peer if peer else None, "goal": ROWS[name][2]}
        if cpu:
            line |= {"cpu_ns_per_packet": round(cpu), "peer_cpu_ns_per_packet": round(peer_cpu)}
        report(line)
    for line in memory_rows:
        report(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
