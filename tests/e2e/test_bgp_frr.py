# The real bgp service against FRR: what its defaults do to a session, and what a person reads about it.
import json
import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

from bgp_node import CLOUD, DEVICE, TUNNEL, World, sh, until  # noqa: E402

DAEMONS = "/usr/lib/frr"
pytestmark = pytest.mark.skipif(not os.path.exists(f"{DAEMONS}/bgpd"), reason="FRR (package frr) is not installed")
ROUTES = {"192.168.0.0/16", "192.168.7.0/24"}
GRACEFUL_SHUTDOWN, NO_EXPORT, NO_ADVERTISE = 0xFFFF0000, 0xFFFFFF01, 0xFFFFFF02


class Frr:
    def __init__(self, folder, netns):
        self.folder, self.netns, self.processes = f"{folder}/frr", netns, []
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o777)

    def configure(self, neighbor=(), top=(), family=(), peer_as=65000):
        lines = ["hostname device", "log stdout", "router bgp 65001",
                 " bgp router-id 10.8.8.8", " no bgp network import-check", *(f" {line}" for line in top), f" neighbor {CLOUD} remote-as {peer_as}",
                 f" neighbor {CLOUD} timers connect 1", *(f" neighbor {CLOUD} {line}" for line in neighbor), " address-family ipv4 unicast",
                 *(f"  network {prefix}" for prefix in sorted(ROUTES)), *(f"  {line}" for line in family), " exit-address-family", "exit",
                 "route-map KEEP permit 10", " set community additive no-export no-advertise", " set metric 77", "exit", ""]
        with open(f"{self.folder}/frr.conf", "w", encoding="ascii") as out:
            out.write("\n".join(lines))

    def start(self, **settings):
        self.configure(**settings)
        for daemon in ("zebra", "bgpd"):
            self.processes.append(subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.netns}", "--", f"{DAEMONS}/{daemon}", "-f", f"{self.folder}/frr.conf", "-z",
                 f"{self.folder}/zserv.api", "-i", f"{self.folder}/{daemon}.pid", "--vty_socket", self.folder, "-P", "0"],
                stdin=subprocess.DEVNULL, stdout=open(f"{self.folder}/{daemon}.log", "ab"), stderr=subprocess.STDOUT))
            until(lambda: os.path.exists(f"{self.folder}/{daemon}.vty"), 10, f"{daemon}'s socket")  # pylint: disable=cell-var-from-loop

    def c(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        return subprocess.run(["vtysh", "--vty_socket", self.folder, *words], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def change(self, *lines):
        answer = self.c("configure terminal", "router bgp 65001", *lines)
        assert "Unknown" not in answer and "%" not in answer, answer

    def routes(self):
        text = self.c("show bgp ipv4 unicast json")
        return set(json.loads(text[text.index("{"):]).get("routes", {}))

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        self.processes = []
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o777)


@pytest.fixture(scope="module")
def world():
    w = World(Frr, hold_time=9, keepalive=3)
    try:
        w.start()
        w.advertise(["10.0.0.0/16"])
        yield w
    finally:
        w.close()


@pytest.fixture
def fresh(world):
    """Nothing has happened between the two yet."""
    world.put_status(False)
    world.peer.stop()
    world.wait_reason("the tunnel is DOWN")
    world.generation += 1
    return world


def up(world, **settings):
    world.peer.start(**settings)
    world.put_status(True)
    return world


def test_defaults_send_no_routes(fresh):
    """FRR's default for eBGP is to take and to say nothing without a policy (RFC 8212)."""
    up(fresh).wait_state("Established", 20)
    fresh.wait_reason("Established, but the peer sends no routes: an eBGP policy may be missing there (FRR: ebgp-requires-policy)", 35)
    assert fresh.prefixes() == set() and fresh.session().hold_time == 9
    fresh.peer.change("no bgp ebgp-requires-policy")
    fresh.peer.c(f"clear bgp {CLOUD} soft")
    fresh.wait_prefixes(ROUTES, 10)
    until(lambda: fresh.session().reason == "", 2, "nothing is odd any more")
    until(lambda: "10.0.0.0/16" in fresh.peer.routes(), 10, "our route in FRR")


def test_communities_and_med(fresh):
    up(fresh, top=["no bgp ebgp-requires-policy"], family=[f"neighbor {CLOUD} route-map KEEP out"]).wait_prefixes(ROUTES, 20)
    route = fresh.learned.rows[f"{TUNNEL}/192.168.7.0/24"]
    assert sorted(route.communities) == [NO_EXPORT, NO_ADVERTISE] and route.med == 77
    fresh.peer.change("bgp graceful-shutdown")
    until(lambda: GRACEFUL_SHUTDOWN in fresh.learned.rows[f"{TUNNEL}/192.168.7.0/24"].communities, 10, "GRACEFUL_SHUTDOWN (RFC 8326)")


def test_shut_down_by_a_person(fresh):
    up(fresh, top=["no bgp ebgp-requires-policy"]).wait_prefixes(ROUTES, 20)
    fresh.peer.change(f"neighbor {CLOUD} shutdown message works until noon")
    fresh.wait_prefixes(set(), 3)
    fresh.wait_reason('the peer sent Cease/Administrative Shutdown: "works until noon"')
    assert any("works until noon" in detail for detail in fresh.told("BGP closed"))


def test_wrong_as(fresh):
    up(fresh, peer_as=64999)
    fresh.wait_reason("the peer sent OPEN Message Error/Bad Peer AS: it expects another AS than ours, which is 65000", 20)
    assert fresh.told("BGP OPEN refused")


def test_password_at_the_peer(fresh):
    """TCP MD5 there: our segments are dropped without an answer."""
    up(fresh, top=["no bgp ebgp-requires-policy"], neighbor=["password secret"])
    fresh.wait_reason("no TCP answer from 169.254.10.2", 20)
    assert fresh.session().state in ("Connect", "Active", "Idle")


def test_hold_time_zero(fresh):
    up(fresh, neighbor=["timers 0 0"])
    fresh.wait_reason("the peer offers a hold time of 0 s, which means never", 20)


def test_prefix_limit_of_the_peer(fresh):
    """It ends each session at once: we come back more slowly each time."""
    fresh.advertise([f"10.{i}.0.0/16" for i in range(1, 9)])
    up(fresh, top=["no bgp ebgp-requires-policy"], family=[f"neighbor {CLOUD} maximum-prefix 2"])
    fresh.wait_reason("the peer sent Cease/Maximum Number of Prefixes Reached: its limit of prefixes is below what is advertised to it", 20)
    fresh.advertise([f"10.{i}.0.0/16" for i in range(1, 9)], gone=True)


def test_silent_peer(fresh):
    """A device that freezes: the hold timer ends the session after 9 s, and says so with its value."""
    up(fresh, top=["no bgp ebgp-requires-policy"]).wait_prefixes(ROUTES, 20)
    sh("ip link set vpn0 down", fresh.gateway)
    try:
        fresh.wait_reason("hold timer expired: nothing came from the peer for 9 s", 12)
        fresh.wait_prefixes(set(), 1)
    finally:
        sh("ip link set vpn0 up", fresh.gateway)


def test_bgp_killed(fresh):
    up(fresh, top=["no bgp ebgp-requires-policy"]).wait_prefixes(ROUTES, 20)
    batches = fresh.learned.batches
    fresh.kill()
    fresh.start()
    until(lambda: fresh.session().established_count == 1 and fresh.session().state == "Established", 20, "a session of the new process")
    assert fresh.prefixes() == ROUTES and fresh.learned.batches <= batches + 1
