# The real bgp service against GoBGP.
import json
import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

from bgp_node import CLOUD, World, until  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("gobgpd"), reason="GoBGP (package gobgpd) is not installed")
ROUTES = {"192.168.0.0/16", "192.168.7.0/24"}


class GoBgp:
    def __init__(self, folder, netns):
        self.folder, self.netns, self.process = folder, netns, None
        with open(f"{folder}/gobgp.toml", "w", encoding="ascii") as out:
            out.write(f"""[global.config]
  as = 65001
  router-id = "10.7.7.7"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{CLOUD}"
    peer-as = 65000
  [neighbors.timers.config]
    connect-retry = 1
    hold-time = 9
    keepalive-interval = 3
""")

    def start(self):
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.netns}", "--", "gobgpd", "-f", f"{self.folder}/gobgp.toml"],
                                        stdout=open(f"{self.folder}/gobgp.log", "ab"), stderr=subprocess.STDOUT)
        until(lambda: "65001" in self.c("global"), 10, "GoBGP's API")

    def c(self, command):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.netns}", "--", "gobgp", *command.split()], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def routes(self):
        try:
            return set(json.loads(self.c("global rib -j")))
        except ValueError:
            return set()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


@pytest.fixture(scope="module")
def world():
    w = World(GoBgp, hold_time=9, keepalive=3)
    try:
        w.peer.start()
        for prefix in sorted(ROUTES):
            w.peer.c(f"global rib add {prefix}")
        w.start()
        w.advertise(["10.0.0.0/16"])
        yield w
    finally:
        w.close()


def test_routes_both_ways(world):
    world.wait_state("Established", 15)
    world.wait_prefixes(ROUTES, 5)
    until(lambda: "10.0.0.0/16" in world.peer.routes(), 5, "our route in GoBGP")
    assert world.session().reason == "" and world.session().hold_time == 9


def test_route_withdrawn_and_back(world):
    world.peer.c("global rib del 192.168.7.0/24")
    world.wait_prefixes({"192.168.0.0/16"}, 5)
    world.peer.c("global rib add 192.168.7.0/24")
    world.wait_prefixes(ROUTES, 5)
    world.advertise(["10.0.0.0/16"], gone=True)
    until(lambda: "10.0.0.0/16" not in world.peer.routes(), 5, "our route gone from GoBGP")


def test_soft_reset(world):
    before = world.session().established_count
    world.advertise(["10.0.0.0/16"])
    world.peer.c(f"neighbor {CLOUD} softresetin")
    until(lambda: "10.0.0.0/16" in world.peer.routes(), 5, "our route in GoBGP")
    assert world.session().established_count == before


def test_neighbor_disabled(world):
    world.peer.c(f"neighbor {CLOUD} disable")
    world.wait_prefixes(set(), 3)
    world.wait_reason("the peer sent Cease/Administrative Shutdown", 5)
    world.peer.c(f"neighbor {CLOUD} enable")
    world.wait_state("Established", 40)
