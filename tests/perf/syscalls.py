#!/usr/bin/python3
"""How many system calls the services of an idle region make: two tunnels Established, nothing else happens.

    make syscalls                 every service, 10 seconds each; then what an IKE handshake and delete costs (ike_flood.py)
    make syscalls ONLY=resource   one of them, with its calls by name

Needs strace, and no region on this machine. All threads count, ZeroMQ's too. The table's limits are goals; beyond one the program ends with 1.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "deploy/local"))

import namespaces as ns  # noqa: E402
import region  # noqa: E402
from tutorial import Tutorial  # noqa: E402

SECONDS = 10
IDLE_GOAL = 250


def pid_of(identity):
    return int(ns.run("s6-svstat", "-o", "pid", region.path("service", identity)).split()[0])


class Strace:
    """Counts the calls of a running process, all its threads."""

    def __init__(self, identity):
        self.out = tempfile.NamedTemporaryFile("r")
        self.process = subprocess.Popen(["strace", "-c", "-f", "-o", self.out.name, "-p", str(pid_of(identity))],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.process.stderr.readline()  # attached

    def stop(self):
        """(all calls, {name: calls})"""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        calls = {}
        for line in self.out.read().splitlines():
            fields = line.split()
            if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
        return sum(calls.values()), calls


def idle(identity):
    strace = Strace(identity)
    time.sleep(SECONDS)
    return strace.stop()


def row(name, count, calls, goal):
    most = ", ".join(f"{call} {number}" for call, number in sorted(calls.items(), key=lambda pair: -pair[1])[:7 if len(sys.argv) < 2 else 40])
    print(f"{name:<28}{count:>8}{goal:>8}  {most}", flush=True)
    return count <= goal


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    good = True
    region.up(lambda _: None)
    try:
        tutorial = Tutorial().build()
        tutorial.wait_converged()
        time.sleep(SECONDS)  # past what a service does soon after its start
        print(f"{'':<28}{'calls':>8}{'goal':>8}")
        for identity in sorted(region.identities()):
            if only in identity:
                good = row(identity, *idle(identity), IDLE_GOAL) and good
    finally:
        region.down(lambda _: None)
    return 0 if good else 1


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
