# Last of all: the region goes, and nothing of it stays.
import os
import signal
import subprocess

import namespaces as ns
import pytest
import region


def test_down_leaves_nothing(tutorial):
    region.down(lambda _: None)
    assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}


def test_down_spares_a_namesake():
    """A region in a container or chroot of the same machine has a run directory of the same name, and processes that can be seen from here."""
    region.up(lambda _: None, mark=region.path("test"))
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "LOCAL_REGION": f"{region.RUN}:{'0' * 32}"})
    try:
        assert other.pid not in ns.marked_processes()
    finally:
        other.kill()
        other.wait()
    if not ns.root_is_a_mount():
        pytest.skip("in a plain chroot a process can't have a /run of its own")
    # Its own /run, its own pids, and a working folder of the same name.
    script = f"mount -t tmpfs none /run && mkdir -p {region.RUN} && cd {region.RUN} && exec sleep 600"
    namesake = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
    try:
        ns.wait_until(lambda: any(_works_in(pid, region.RUN) for pid in _children(namesake.pid)), 20, "the namesake's start")
        region.down(lambda _: None)
        assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}
        assert namesake.poll() is None and _children(namesake.pid)
    finally:
        namesake.kill()
        namesake.wait()


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(each) for each in children.read().split()]


def _works_in(pid, directory):
    try:
        return os.readlink(f"/proc/{pid}/cwd") == directory and open(f"/proc/{pid}/comm", encoding="ascii").read() == "sleep\n"
    except OSError:
        return False


def test_down_after_a_killed_supervisor():
    region.up(lambda _: None, mark=region.path("test"))
    os.kill(region.supervisor(), signal.SIGKILL)
    region.down(lambda _: None)
    assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}
