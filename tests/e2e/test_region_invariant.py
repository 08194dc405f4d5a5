# A violated invariant in production (common/base/invariant.h): the process says what and where and ends, its supervisor starts it again, and
# nothing is lost. A debugger makes one: the services themselves have no door for it.
import glob

import namespaces as ns
import pytest
import region
from test_region import NOTHING, lost, pid_of, ready_again, stream  # noqa: F401  (stream is a fixture)

WHAT = "a test said so"


def violate(identity):
    ns.run("gdb", "-nx", "-q", "-batch", "-p", pid_of(identity), "-ex", f'call (void)invariant_violated("{WHAT}", "test.c", 7)', check=False)


def log_of(identity):
    text = ""
    for name in sorted(glob.glob(region.path("log", identity, "*"))):
        with open(name, encoding="utf-8", errors="replace") as log:
            text += log.read()
    return text


@pytest.mark.parametrize("identity", ["resource", "route", "ike.node-a", "ike.node-b"])
def test_a_violated_invariant_is_a_restart_without_loss(tutorial, stream, identity):  # noqa: F811
    before = pid_of(identity)
    violate(identity)
    ns.wait_until(lambda: pid_of(identity) not in (0, before), 60, f"another process of {identity}")
    ready_again(identity, 60)
    tutorial.wait_converged(60)
    figures = stream.stop()
    assert lost(figures) == NOTHING
    assert tutorial.status() == ["UP", "UP"] and tutorial.bgp() == ["Established", "Established"]
    assert f'invariant-violated what="{WHAT}" where=test.c:7' in log_of(identity), log_of(identity)[-2000:]


def test_a_violated_invariant_of_the_dataplane_is_a_short_gap(tutorial, stream):  # noqa: F811
    identity = f"esp.{tutorial.tunnels[0]['nodeId']}"
    before = pid_of(identity)
    violate(identity)
    ns.wait_until(lambda: pid_of(identity) not in (0, before), 60, f"another process of {identity}")
    ready_again(identity, 60)
    tutorial.wait_converged(60)
    arrived = stream.stop()
    assert all(way["lost"] < way["sent"] / 2 for way in arrived.values()), arrived
    assert tutorial.status() == ["UP", "UP"] and tutorial.bgp() == ["Established", "Established"]
