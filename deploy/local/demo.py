#!/usr/bin/python3
# `make demo`: a region, two customer devices, the nine steps of the tutorial with progress on the screen, and
# build/demo/report.json. FAILOVERS=20 adds as many dead ports, on one device after the other. Exits 0 when every step did what it
# should. Ends everything it started, also on Ctrl-C.
import json
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
import region  # noqa: E402
from tutorial import RATE, SILENCE_SECONDS, Tutorial  # noqa: E402

REPORT = os.path.join(region.TOP, "build", "demo", "report.json")
MARK = region.path("demo")


class Report:
    def __init__(self):
        self.steps, self.failovers = [], []

    def write(self, ok):
        os.makedirs(os.path.dirname(REPORT), exist_ok=True)
        with open(REPORT, "w", encoding="utf-8") as out:
            json.dump({"steps": self.steps, "failovers": self.failovers, "ok": ok}, out, indent=1)
            out.write("\n")

    def step(self, number, title, function):
        print(f"\n[{number}/9] {title}", flush=True)
        begin = time.monotonic()
        error = None
        try:
            lines = function()
        except (RuntimeError, TimeoutError, KeyError, LookupError, OSError) as failure:
            lines, error = [], failure
        seconds = round(time.monotonic() - begin, 2)
        self.steps.append({"number": number, "title": title, "ok": error is None, "seconds": seconds})
        for line in lines:
            print(f"      {line}")
        print(f"      {'ok' if error is None else f'FAILED: {error}'}  ({seconds:.1f} s)", flush=True)
        return error is None


def shown(result):
    """The two lines of one failover."""
    limit = f"limit {result['limit_ms']} ms" if result["kind"] == "port-down" else "limit 5 lost"
    ways = [f"to the {name}: {way['lost']} of {way['sent']} lost, longest gap {way['gap_ms']:.0f} ms"
            for name, way in (("IDC", result["directions"]["to_idc"]), ("VPC", result["directions"]["to_vpc"]))]
    return (f"        {'; '.join(ways)} ({limit} each way)\n"
            f"        moved to {result['carried_by_after']}: {yes(result['switched'])} (seen after {result['seen_after_s']} s), "
            f"back on {result['device']}: {yes(result['restored'])} ({result['restored_after_s']} s)")


def good(result):
    return result["switched"] and result["restored"] and result["within"]


def traffic(tutorial, report):
    print(f"      ping: {tutorial.ping()}", flush=True)
    for kind in Tutorial.FAILURES:
        print(f"      {kind} on {tutorial.devices[0].name}, under {RATE} packets a second each way …", flush=True)
        report.failovers.append(tutorial.failover(kind))
        print(shown(report.failovers[-1]), flush=True)
    repeat(tutorial, report, int(os.environ.get("FAILOVERS") or 0))
    bad = [result["kind"] for result in report.failovers if not good(result)]
    if bad:
        raise RuntimeError(f"not as it should be: {', '.join(bad)}")
    counted = [tutorial.show(tunnel).get("statistics", {}) for tunnel in tutorial.tunnels]
    return [f"{tunnel['id']} on {tunnel['nodeId']}: {count.get('packetsOut', 0)} packets to the IDC, {count.get('packetsIn', 0)} from it"
            for tunnel, count in zip(tutorial.tunnels, counted)]


def repeat(tutorial, report, times):
    """port-down on one device after the other, a line for each."""
    for number in range(1, times + 1):
        result = tutorial.failover("port-down", number % 2)
        report.failovers.append(result)
        ways = result["directions"]
        print(f"      port-down {number:2} of {times} on {result['device']}: longest gap to the IDC {ways['to_idc']['gap_ms']:5.0f} ms "
              f"({ways['to_idc']['lost']} lost), to the VPC {ways['to_vpc']['gap_ms']:5.0f} ms ({ways['to_vpc']['lost']} lost); "
              f"back after {result['restored_after_s']} s: {'ok' if good(result) else 'NOT AS IT SHOULD BE'}", flush=True)


def yes(value):
    return "yes" if value else "NO"


def walk(report):
    begin = time.monotonic()
    print("Starting a region (PostgreSQL, resource, route, two gateway nodes, one VPC host)", flush=True)
    region.up(lambda text: print(f"  {text}", flush=True), mark=MARK)
    tutorial = Tutorial()
    number = 0
    for number, (title, function) in enumerate(tutorial.steps(), 1):
        if not report.step(number, title, function):
            return False
    ok = report.step(9, "Ping, then three failures of one tunnel and back", lambda: traffic(tutorial, report))
    print(f"\n{'all nine steps did what they should' if ok else 'step 9 failed'}, {time.monotonic() - begin:.0f} s in all; "
          f"with default settings a device that falls silent costs at most {SILENCE_SECONDS} s, in both directions")
    return ok


def main():
    if os.geteuid() != 0:
        sys.exit("the demo needs root: it makes network namespaces")
    if region.is_up() and not os.path.exists(MARK):
        sys.exit("a region is up already; end it with `make down` first: the demo starts one of its own")
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    report, ok, status = Report(), False, 1
    report.write(False)
    try:
        ok = walk(report)
        status = 0 if ok else 1
    except KeyboardInterrupt:
        print("\ninterrupted")
        status = 130
    except (RuntimeError, TimeoutError, OSError) as error:
        print(f"\nfailed: {error}")
    finally:
        # A second Ctrl-C does not leave half a region behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        report.write(ok)
        if status == 1:
            logs = os.path.join(os.path.dirname(REPORT), "log")
            region.keep_logs(logs)
            print(f"logs: {logs}")
        if not os.environ.get("TWINSPAN_DEMO_KEEP"):
            region.down(lambda text: print(text, flush=True))
    print(f"report: {os.path.relpath(REPORT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
