#!/usr/bin/python3
"""Throughput through two Twinspan gateways, two strongSwan ones, and two kernels that only forward (the limit), in the same run on the same machine;
and the dataplane in memory.

    make bench                        every row
    make bench ONLY=udp_64            one of them
    make bench BASELINE=../old/build  beside the programs of another checkout, built there by `make all test-tools`: is anything slower?

Prints a table and writes build/bench/results.jsonl, an object a line: name, ours, peer, peer_name, unit, ratio (bigger is better for us), goal,
limit, baseline, cpu_ns_per_packet. Hosts and gateways share the machine's cores: the ratio is what counts, not the figure. Ours and the baseline
take turns, ROUNDS times; the median counts.
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


# name: (measure, unit, goal as a ratio). A measure gives the figure and the gateways' CPU nanoseconds per packet, or None.
ROWS = {
    "tcp_bulk_udp_encap": (lambda pair: (tcp(pair, 1), None), "Gbit/s", 20),
    "tcp_bulk_8_udp_encap": (lambda pair: (tcp(pair, 8), None), "Gbit/s", 20),
    "udp_64": (lambda pair: udp(pair, 64), "packets/s", 8),
    "udp_350": (lambda pair: udp(pair, 350), "packets/s", 8),
}
# Rows that need no gateways: the dataplane in memory on one core, beside libipsec-mb doing nothing but the cipher over the same octets.
IN_MEMORY = [f"esp_{way}_{size}{suite}" for suite in ("", "_cbc") for size in ("1400", "64", "super") for way in ("encap", "decap")] + ["fib_million", "fib_million_spread"]


def measure(name, pairs):
    """{pair's role: (figure, CPU ns a packet)}: the median of ROUNDS turns of all that are measured."""
    turns = {role: [] for role in pairs}
    for _ in range(ROUNDS):
        for role, pair in pairs.items():
            turns[role].append(ROWS[name][0](pair))
    return {role: (median([figure for figure, _ in results]), median([cpu for _, cpu in results]) if results[0][1] else None) for role, results in turns.items()}


def in_memory(wanted, build):
    """The tool's rows: of each figure the median of ROUNDS turns with the baseline."""
    builds = {"ours": TOP / "build", **({"baseline": build} if build else {})}
    turns = {role: {} for role in builds}
    for _ in range(ROUNDS if build else 1):
        for role, folder in builds.items():
            for line in map(json.loads, peers.run(folder / "test/tools/esp_memory", 1, timeout=300).splitlines()):
                turns[role].setdefault(line["name"], []).append(line)
    rows = []
    for name, lines in turns["ours"].items():
        if name in wanted:
            # Each turn has its peer right beside it: the ratio to that is what a busy machine leaves comparable.
            line = sorted(lines, key=lambda each: each["ratio"])[len(lines) // 2]
            before = turns.get("baseline", {}).get(name)
            if before:
                line["baseline"] = line["peer"] * median([each["ratio"] for each in before])
            rows.append(line)
    return rows


def report(line):
    with RESULTS.open("a") as out:
        out.write(json.dumps(line) + "\n")
    extra = f"   {line['ours'] / line['limit']:.2f} of the limit {line['limit']:,.2f}" if line.get("limit") else ""
    extra += f"   {line['ours'] / line['baseline']:.3f} of the baseline {line['baseline']:,.2f}" if line.get("baseline") else ""
    extra += f"   {line['cpu_ns_per_packet']} ns CPU a packet" if line.get("cpu_ns_per_packet") else ""
    extra += f" (baseline {line['baseline_cpu_ns_per_packet']})" if line.get("baseline_cpu_ns_per_packet") else ""
    print(f"{line['name']:24}{line['ours']:>14,.2f}{line['peer']:>14,.2f} {line['unit']:10}{line['ratio']:>8.2f} x   goal {line['goal']} x   {line['peer_name']}{extra}", flush=True)


def through_gateways(wanted, build):
    makers = {"ours": twinspan_pair.TwinspanPair, "peer": peers.StrongSwanPair, "limit": peers.PlainPair}
    if build:
        makers["baseline"] = lambda: twinspan_pair.TwinspanPair(tag="bench-base", build=build)
    pairs = {}
    lines = []
    try:
        for role, make in makers.items():
            pairs[role] = make()
        for name in wanted:
            print(f"  {name} …", end="", flush=True)
            figures = measure(name, pairs)
            print("".join(f" {role} {figure:,.2f}" for role, (figure, _) in figures.items()), ROWS[name][1], flush=True)
            (ours, cpu), (peer, peer_cpu) = figures["ours"], figures["peer"]
            line = {"name": name, "ours": ours, "peer": peer, "peer_name": peers.StrongSwanPair.name, "unit": ROWS[name][1],
                    "ratio": ours / peer if peer else 0.0, "goal": ROWS[name][2], "limit": figures["limit"][0]}
            if cpu:
                line |= {"cpu_ns_per_packet": round(cpu), "peer_cpu_ns_per_packet": round(peer_cpu)}
            if build:
                line["baseline"] = figures["baseline"][0]
                if cpu:
                    line["baseline_cpu_ns_per_packet"] = round(figures["baseline"][1])
            lines.append(line)
    finally:
        for pair in pairs.values():
            pair.close()
    return lines


def main():
    wanted = sys.argv[1:] or [*ROWS, *IN_MEMORY]
    for name in wanted:
        if name not in ROWS and name not in IN_MEMORY:
            print(f"bench: no row named {name}; there are {', '.join([*ROWS, *IN_MEMORY])}", file=sys.stderr)
            return 2
    if os.geteuid() != 0:
        print("bench: network namespaces need root", file=sys.stderr)
        return 2
    build = pathlib.Path(os.environ["BASELINE"]).resolve() if os.environ.get("BASELINE") else None
    for program in ("bin/twinspan-esp", "bin/twinspan-ike", "test/tools/esp_memory"):
        if build and not (build / program).exists():
            print(f"bench: BASELINE={build} has no {program}: run `make all test-tools` there", file=sys.stderr)
            return 2
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.unlink(missing_ok=True)
    lines = in_memory(wanted, build) if set(wanted) & set(IN_MEMORY) else []
    gateway_rows = [name for name in wanted if name in ROWS]
    if gateway_rows:
        lines = through_gateways(gateway_rows, build) + lines
    print(f"\n{'':24}{'ours':>14}{'peer':>14}")
    for line in lines:
        report(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
