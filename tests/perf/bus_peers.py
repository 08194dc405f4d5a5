#!/usr/bin/python3
"""What a hundred idle nodes cost the region's two services: real resource, route and PostgreSQL; of the nodes the bus alone (tests/tools/bus_peers).

    make peers                    100 nodes: 300 peers, each connected both ways, 30 idle seconds
    make peers NODES=300          as many

Prints the processor time of each as a share of one core, by thread; beyond the limit the program ends with 1.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests"))
sys.path.insert(0, str(TOP / "tests/lab"))
sys.dont_write_bytecode = True

from lab import api  # noqa: E402
from lab import bus as lab_bus  # noqa: E402

SECONDS, SETTLE = 30, 10
LIMIT = 2.0  # percent of a core
FIRST_PORT = 20000


def processor_time(pid):
    """{thread: nanoseconds}"""
    return {task.name: (int((task / "schedstat").read_text().split()[0]), (task / "comm").read_text().strip())
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}


class Region(api.Resource):
    """Resource and route, and the peers beside them."""

    def __init__(self, directory, postgres, nodes):
        super().__init__(directory, postgres, nodes=nodes)
        identities = ["resource", "route", *(f"{service}.{node}" for service in ("esp", "ike", "bgp") for node in nodes)]
        lab_bus.make_endpoints(self.endpoints, {identity: f"tcp://127.0.0.1:{FIRST_PORT + i}" for i, identity in enumerate(identities)})
        self.nodes, self.route, self.peers = nodes, None, None
        self.environment["TWINSPAN_LOG_LEVEL"] = "info"

    def begin(self):
        self.start()
        route = {**self.environment, "TWINSPAN_HEALTH": f"unix:{self.directory}/route.health"}
        with open(self.directory / "route.log", "ab") as log:
            self.route = subprocess.Popen([api.BUILD / "bin/twinspan-route"], env={**os.environ, **route}, stderr=log)
        for i, node in enumerate(self.nodes):
            self.admin.make("nodes", name=node, publicAddresses=[f"198.18.{i // 250}.{i % 250 + 1}"], fabricAddress=f"10.255.{i // 250}.{i % 250 + 1}")
        self.peers = subprocess.Popen([api.BUILD / "test/tools/bus_peers", *self.nodes], stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, **self.environment}, stderr=open(self.directory / "peers.log", "ab"))
        assert self.peers.stdout.readline() == "ready\n"
        self.wait_until(lambda: self.heard_peers() == 3 * len(self.nodes), 60)

    def heard_peers(self):
        return sum(line.startswith("twinspan_resource_node_service_heard{") and line.endswith(" 1") for line in self.metrics().splitlines())

    def close(self):
        for process in (self.peers, self.route):
            if process:
                process.terminate()
                process.wait()
        super().close()


def measure(region):
    before = {name: processor_time(process.pid) for name, process in (("resource", region.process), ("route", region.route))}
    time.sleep(SECONDS)
    after = {name: processor_time(process.pid) for name, process in (("resource", region.process), ("route", region.route))}
    good = True
    for name in before:
        parts = {}
        for task, (spent, comm) in after[name].items():
            parts[comm] = parts.get(comm, 0) + (spent - before[name].get(task, (0, ""))[0]) / SECONDS / 1e7
        total = sum(parts.values())
        good = good and total < LIMIT
        by_thread = ", ".join(f"{comm} {share:.2f}" for comm, share in sorted(parts.items(), key=lambda part: -part[1]) if share >= 0.005)
        print(f"{name:<10}{total:6.2f} % of a core (limit {LIMIT:g})   {by_thread}", flush=True)
    return good


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="twinspan-peers-") as directory:
        postgres = api.Postgres()
        postgres.start()
        region = Region(directory, postgres, [f"node-{i}" for i in range(count)])
        try:
            region.begin()
            print(f"{3 * count} peers of {count} nodes, {SECONDS} idle seconds", flush=True)
            time.sleep(SETTLE)
            good = measure(region)
        finally:
            region.close()
            postgres.remove()
    return 0 if good else 1


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
