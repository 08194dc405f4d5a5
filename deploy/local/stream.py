# Traffic with numbers: UDP datagrams both ways between two namespaces at a fixed rate, and what became of them.
#
# As a program, one at each end:
#     stream.py LOCAL SEND_PORT REMOTE REMOTE_PORT RECEIVE_PORT RATE OUTFILE
# starts at a line on standard input, sends until SIGUSR1, receives until SIGTERM, then writes {"sent": {number: time},
# "received": {number: time}}; the clock is the machine's monotonic one, the same in every namespace.
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import namespaces as ns

ENDS = ("vpc", "idc")


def run_end(local, send_port, remote, remote_port, receive_port, rate, outfile):
    state = {"sending": True, "running": True}
    signal.signal(signal.SIGUSR1, lambda *_: state.update(sending=False))
    signal.signal(signal.SIGTERM, lambda *_: state.update(running=False))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the program that started this one
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        out.bind((local, send_port))
        out.setblocking(False)
        port.bind((local, receive_port))
        print("ready", flush=True)
        sys.stdin.readline()  # when both ends are
        sent, received = {}, {}
        start, number = time.monotonic(), 0
        while state["running"]:
            now = time.monotonic()
            due = start + number / rate
            if state["sending"] and now >= due:
                try:
                    out.sendto(struct.pack("!Q", number), (remote, remote_port))
                except OSError:
                    pass  # refused or unreachable: sent and, by its number, lost
                sent[number] = now
                number += 1
                continue
            port.settimeout(max(0.0005, min(0.05, due - now if state["sending"] else 0.05)))
            try:
                received[struct.unpack("!Q", port.recv(64)[:8])[0]] = time.monotonic()
            except (OSError, struct.error):
                pass
    with open(outfile, "w", encoding="ascii") as result:
        json.dump({"sent": sent, "received": received}, result)


class Stream:
    """A flow each way between (namespace, address) at the VPC's end and at the IDC's, `rate` packets a second each. `ports`:
    {"to_idc": (source, destination), "to_vpc": (source, destination)}, as the two may be hashed to different tunnels."""

    def __init__(self, vpc, idc, ports, rate=100):
        self.folder = tempfile.mkdtemp(prefix="stream-", dir=ns.RUN)
        self.files = [os.path.join(self.folder, end) for end in ENDS]
        self.processes = []
        ways = (ports["to_idc"], ports["to_vpc"])
        for here, there, out, back, outfile in ((vpc, idc, *ways, self.files[0]), (idc, vpc, *reversed(ways), self.files[1])):
            command = ns.inside(here[0]) + [sys.executable, os.path.abspath(__file__), here[1], out[0], there[1], out[1], back[1], rate, outfile]
            self.processes.append(subprocess.Popen([str(word) for word in command], env=dict(os.environ, LOCAL_REGION=ns.mark()),
                                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for process in self.processes:
            process.stdout.readline()
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()

    def stop(self, drain=0.5):
        """Ends it; returns {"to_idc": figures, "to_vpc": figures} with sent, lost, gap_ms (the longest without an arrival) and
        lost_sent_at (the times, by the machine's monotonic clock, at which what was lost had been sent)."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR1)
        time.sleep(drain)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=10)
        ends = []
        for name in self.files:
            with open(name, encoding="ascii") as text:
                ends.append(json.load(text))
            os.unlink(name)
        os.rmdir(self.folder)
        return {"to_idc": figures(ends[0]["sent"], ends[1]["received"]), "to_vpc": figures(ends[1]["sent"], ends[0]["received"])}

    def kill(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def figures(sent, received):
    arrivals = sorted(received.values())
    gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[1:])]
    lost = sorted(int(number) for number in sent if number not in received)
    return {"sent": len(sent), "lost": len(lost), "gap_ms": round(max(gaps, default=0) * 1000, 1), "lost_numbers": lost[:20],
            "lost_sent_at": [sent[str(number)] for number in lost]}


def lost_outside(figures, begin, end):
    """How many of those that were lost were sent before `begin` or after `end` (monotonic times)."""
    return sum(not begin <= at <= end for at in figures["lost_sent_at"])


if __name__ == "__main__":
    run_end(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]), sys.argv[7])
