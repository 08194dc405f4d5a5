# Last of all: the region goes, and nothing of it stays.
import os
import signal

import region


def test_down_leaves_nothing(tutorial):
    region.down(lambda _: None)
    assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}


def test_down_after_a_killed_supervisor():
    region.up(lambda _: None, mark=region.path("test"))
    os.kill(region.supervisor(), signal.SIGKILL)
    region.down(lambda _: None)
    assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}
