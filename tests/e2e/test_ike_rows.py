"""What a tunnel that begins anew costs those who follow ike's tables: two real gateways, each the other's customer device."""

import os
import pathlib
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "tests/perf")]

import ike_flood  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
UP = ike_flood.UP


@pytest.fixture(scope="module")
def pair():
    pair = ike_flood.Pair("rows", "UDP")
    pair.wait_up(0)
    time.sleep(1)
    yield pair
    pair.close()


def test_begun_anew_is_one_change(pair):
    """Down and up again are told together. A machine that is busy may take longer than they are held back, so the best of some is what counts."""
    changes = []
    for _ in range(6):
        status, events = pair.status[1].batches, pair.events.batches
        generation = pair.row(1).generation
        pair.restart()
        time.sleep(0.3)
        assert pair.row(1).state == UP and pair.row(1).generation > generation
        changes.append((pair.status[1].batches - status, pair.events.batches - events))
    assert min(changes) == (1, 1), changes


def test_what_ended_is_told_soon(pair):
    """Nothing new comes after it, and it is told all the same."""
    begun = time.monotonic()
    pair.disable()
    assert time.monotonic() - begun < 0.5
