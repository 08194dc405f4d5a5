"""The command line against a running resource and route: the tutorial's words, what people read, what is refused and with which exit status."""
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
from bus import tables_pb2 as T  # noqa: E402


class Lab:
    """resource and route as they are; ike, bgp and esp of two nodes are the test's."""

    def __init__(self, directory):
        self.directory = directory
        self.postgres = api.Postgres()
        self.postgres.start()
        self.resource = api.Resource(directory, self.postgres)
        self.resource.start()
        environment = {**os.environ, **self.resource.environment, "TWINSPAN_HEALTH": f"unix:{directory}/route-health"}
        with open(directory / "route-log", "ab") as log:
            self.route = subprocess.Popen([api.BUILD / "bin/twinspan-route"], env=environment, stderr=log)
        self.tables = {}
        for node in ("node-a", "node-b"):
            for service, names in (("ike", ("tunnel_status", "tunnel_event")), ("bgp", ("bgp_session", "learned_route")),
                                   ("esp", ("node_status", "tunnel_counters"))):
                for name in names:
                    self.tables[node, name] = self.resource.bus(f"{service}.{node}").own(name)
                    self.tables[node, name].complete()

    def twinspan(self, *words, token=None, **settings):
        environment = {**os.environ, "TWINSPAN_API": f"http://127.0.0.1:{self.resource.where[1]}",
                       "TWINSPAN_TOKEN_FILE": str(token or self.directory / "admin.token"), **settings}
        return subprocess.run([api.BUILD / "bin/twinspan", *map(str, words)], env=environment, capture_output=True, text=True, check=False)

    def ok(self, *words):
        done = self.twinspan(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert not done.stderr, (words, done.stderr)
        return done.stdout

    def json(self, *words):
        return json.loads(self.ok(*words, "--output", "json"))

    def refused(self, status, *words, **named):
        done = self.twinspan(*words, **named)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        assert done.stderr.startswith("twinspan: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def status(self, tunnel, state, node, events=()):
        table = self.tables[node, "tunnel_status"]
        table.put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=state, reason="" if state == T.TunnelStatus.UP else "no response"), scope=node)
        table.commit()
        for number, event in enumerate(events, 1):
            row = T.TunnelEvent(tunnel_id=tunnel, number=number, time=int(time.time() * 1000), event=event, detail="by the test")
            self.tables[node, "tunnel_event"].put(f"{tunnel}/{number}", row, scope=node)
        self.tables[node, "tunnel_event"].commit()

    def close(self):
        self.route.terminate()
        self.route.wait(10)
        self.resource.close()
        self.postgres.remove()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("ctl"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tutorial(lab):
    lab.ok("node", "create", "--name", "node-a", "--public-addresses", "198.51.100.17,198.51.100.18", "--fabric-address", "10.255.0.11")
    lab.ok("node", "create", "--name", "node-b", "--public-addresses", "198.51.100.33,198.51.100.34", "--fabric-address", "10.255.0.12")
    lab.ok("vpc-host", "create", "--name", "host-1", "--fabric-address", "10.255.0.21")
    lab.ok("vpc", "create", "--name", "prod", "--cidr-blocks", "10.0.0.0/16")
    lab.ok("subnet", "create", "--name", "web", "--vpc-id", "prod", "--cidr", "10.0.1.0/24")
    lab.ok("border-gateway", "create", "--name", "edge")
    lab.ok("vpc-attachment", "create", "--name", "edge-prod", "--border-gateway-id", "edge", "--vpc-id", "prod")
    lab.ok("customer-gateway", "create", "--name", "dc", "--asn", "65010", "--public-addresses", "203.0.113.1,203.0.113.2")
    lab.ok("vpn-connection", "create", "--name", "main", "--border-gateway-id", "edge", "--customer-gateway-id", "dc")
    added = lab.ok("vpn-connection", "add-tunnels", "main", "--ike-dh-groups", "20,2", "--dpd-interval-seconds", "2")
    keys = re.findall(r"(tun-\w{10})  pre-shared key, shown only now: (\S+)", added)
    assert len(keys) == 2 and len({key for _, key in keys}) == 2
    tunnels = lab.json("vpn-tunnel", "list")["items"]
    assert sorted(t["id"] for t in tunnels) == sorted(tunnel for tunnel, _ in keys)
    return sorted(tunnels, key=lambda t: t["nodeId"]), dict(keys)


def test_help_needs_nothing(lab):
    for words in ((), ("help",), ("-h",), ("vpn-tunnel", "help"), ("vpn-tunnel", "create", "--help"), ("version",), ("--version",)):
        done = lab.twinspan(*words, TWINSPAN_API="http://127.0.0.1:1")
        assert done.returncode == 0 and done.stdout and not done.stderr, words
    text = lab.ok("vpn-tunnel", "help")
    assert "--ike-dh-groups" in text and "900–86400" in text and "Weak: 2,5." in text and "vpn-tunnel rekey" in text
    assert "One of V2." in text and "V1" not in text  # what nothing speaks yet is not offered
    text = lab.ok("vpn-connection", "add-tunnels", "--help")
    assert "--ike-dh-groups" in text and "--wait" in text


def test_what_people_read(lab, tutorial):
    tunnels, _ = tutorial
    rows = lab.ok("vpn-tunnel", "list").splitlines()
    assert rows[0].split()[:2] == ["ID", "NAME"] and len(rows) == 3
    column = rows[0].index("CLOUD ADDRESS")
    assert {row[column:].split()[0] for row in rows[1:]} == {t["cloudAddress"] for t in tunnels}
    assert "ike.dhGroups 2" in rows[1]  # weak, and said so
    page = lab.ok("vpn-tunnel", "show", tunnels[0]["id"])
    assert re.search(r"^ike\.dhGroups +20, 2 \(weak\)$", page, re.M) and re.search(r"^dpd\.intervalSeconds +2$", page, re.M)
    assert "preSharedKey" not in page
    assert lab.ok("vpc-attachment", "list", "--vpc-id", "prod").count("\n") == 2
    assert "no vpc-attachments" in lab.ok("vpc-attachment", "list", "--name", "other")


def test_names_and_revisions(lab, tutorial):
    before = lab.json("border-gateway", "show", "edge")
    after = lab.json("border-gateway", "update", "edge", "--description", "for the demo")
    assert after["id"] == before["id"] and after["revision"] == before["revision"] + 1 and after["description"] == "for the demo"
    table = lab.json("vpc", "show", "prod")["defaultRouteTableId"]
    shown = lab.json("vpc-route-table", "update", table, "--propagation", "borderGatewayId=edge,ranges=192.168.0.0/16",
                     "--static-route", "destination=172.16.0.0/12,nextHopId=edge")
    assert shown["propagations"] == [{"borderGatewayId": before["id"], "ranges": ["192.168.0.0/16"]}]
    assert shown["staticRoutes"][0]["nextHopId"] == before["id"]
    twin = lab.json("vpc", "create", "--name", "prod", "--cidr-blocks", "10.9.0.0/16")
    refused = lab.refused(1, "vpc", "show", "prod")
    assert "more than one vpc named prod" in refused and twin["id"] in refused
    assert f"deleted {twin['id']}" in lab.ok("vpc", "delete", twin["id"])
    assert "no vpc named absent" in lab.refused(1, "vpc", "show", "absent")
    assert "no answer" in lab.refused(4, "vpc", "show", "absent", TWINSPAN_API="http://127.0.0.1:1")
    # One more static route beside the one that is there; a field back to its default.
    shown = lab.json("vpc-route-table", "update", table, "--static-route", "destination=172.20.0.0/16,nextHopId=edge")
    assert [each["destination"] for each in shown["staticRoutes"]] == ["172.16.0.0/12", "172.20.0.0/16"]
    shown = lab.json("vpc-route-table", "update", table, "--static-routes", "destination=172.16.0.0/12,nextHopId=edge")
    assert [each["destination"] for each in shown["staticRoutes"]] == ["172.16.0.0/12"]
    tunnel = tutorial[0][0]["id"]
    assert lab.json("vpn-tunnel", "update", tunnel, "--ike-lifetime-seconds", "1000")["ike"]["lifetimeSeconds"] == 1000
    assert lab.json("vpn-tunnel", "update", tunnel, "--reset", "ike-lifetime-seconds")["ike"]["lifetimeSeconds"] == 28800


def test_route_tables(lab, tutorial):
    (a, b), _ = tutorial
    for tunnel in (a, b):
        node = tunnel["nodeId"]
        lab.status(tunnel["id"], T.TunnelStatus.UP, node)
        lab.tables[node, "bgp_session"].put(tunnel["id"], T.BgpSession(tunnel_id=tunnel["id"], state="Established", remote_asn=65010))
        lab.tables[node, "bgp_session"].commit()
        route = T.LearnedRoute(tunnel_id=tunnel["id"], destination=bytes([192, 168, 0, 0]), prefix_length=16, as_path=[65010], as_path_length=1,
                               med=20, has_med=True, communities=[65010 << 16 | 7])
        lab.tables[node, "learned_route"].put(f"{tunnel['id']}/192.168.0.0/16", route)
        lab.tables[node, "learned_route"].commit()

    def both_effective():
        routes = lab.json("border-gateway", "show", "edge").get("routeTables", {}).get("effectiveRoutes", [])
        return any(len(route.get("tunnelIds", [])) == 2 for route in routes)

    lab.resource.wait_until(both_effective)
    page = lab.ok("border-gateway", "show", "edge")
    effective = page[page.index("routeTables.effectiveRoutes:"):]
    line = next(line for line in effective.splitlines() if line.startswith("192.168.0.0/16"))
    assert "EBGP" in line and a["id"] in line and b["id"] in line and "EFFECTIVE" in line
    (line,) = [row for row in lab.ok("border-gateway", "routes", "edge", "--destination", "192.168.0.0/16").splitlines() if "EBGP" in row]
    assert " IGP " in line and " 20 " in line and " 65010:7 " in line
    assert a["id"] in line and lab.json("border-gateway", "routes", "edge", "--table", "STATIC") == {"items": []}
    assert "table" in lab.refused(1, "border-gateway", "routes", "edge", "--table", "LEARNED")
    table = lab.json("vpc", "show", "prod")["defaultRouteTableId"]
    page = lab.ok("vpc-route-table", "show", table)
    kinds = {line.split()[0]: line for line in page[page.index("routes:"):].splitlines() if "/" in line}
    assert "LOCAL" in kinds["10.0.0.0/16"] and "STATIC" in kinds["172.16.0.0/12"] and "PROPAGATED" in kinds["192.168.0.0/16"]
    assert lab.json("vpn-connection", "show", "main")["haStatus"] == "HIGHLY_AVAILABLE"


def test_wait(lab, tutorial):
    (a, _), _ = tutorial
    lab.status(a["id"], T.TunnelStatus.CONNECTING, "node-a")
    lab.resource.wait_until(lambda: lab.json("vpn-tunnel", "show", a["id"])["runningStatus"] == "CONNECTING")
    done = lab.twinspan("vpn-tunnel", "show", a["id"], "--wait", "1")
    assert done.returncode == 3 and "1 of 1 tunnels not UP after 1 s" in done.stderr
    threading.Timer(0.7, lab.status, (a["id"], T.TunnelStatus.UP, "node-a", ["negotiation started", "up"])).start()
    done = lab.twinspan("vpn-tunnel", "show", a["id"], "--wait", "10", "--output", "json")
    assert done.returncode == 0 and json.loads(done.stdout)["runningStatus"] == "UP"


def test_actions(lab, tutorial):
    (a, _), keys = tutorial
    lab.status(a["id"], T.TunnelStatus.UP, "node-a", ["negotiation started", "up"])
    lab.resource.wait_until(lambda: "negotiation started" in lab.ok("vpn-tunnel", "events", a["id"]))
    before = lab.json("vpn-tunnel", "show", a["id"])
    lab.ok("vpn-tunnel", "rekey", a["id"], "--sa", "IKE")
    lab.ok("vpn-tunnel", "rekey", a["id"])
    lab.ok("vpn-tunnel", "restart", a["id"])
    after = lab.json("vpn-tunnel", "show", a["id"])
    for field in ("rekeyIkeRequests", "rekeyChildRequests", "restartRequests"):
        assert after.get(field, 0) == before.get(field, 0) + 1
    assert "sa" in lab.refused(1, "vpn-tunnel", "rekey", a["id"], "--sa", "BOTH")
    key_file, directory = lab.directory / "psk", lab.directory / "device"
    key_file.write_text(keys[a["id"]] + "\n")
    names = lab.ok("vpn-tunnel", "configuration", a["id"], "--vendor", "strongswan-bird", "--pre-shared-key-file", key_file, "--directory",
                   directory).split()
    assert any(name.endswith("swanctl.conf") for name in names) and any(name.endswith("bird.conf") for name in names)
    for name in names:
        assert os.stat(name).st_mode & 0o077 == 0
    assert keys[a["id"]] in (directory / "swanctl.conf").read_text()
    done = lab.twinspan("vpn-tunnel", "configuration", a["id"])
    assert done.returncode == 0 and keys[a["id"]] not in done.stdout and "@PRE_SHARED_KEY@" in done.stderr
    assert "vendor" in lab.refused(1, "vpn-tunnel", "configuration", a["id"], "--vendor", "abacus")


def test_refusals(lab, tutorial):
    (a, _), _ = tutorial
    assert "cidrBlocks[0] \"10.0.0.0/40\"" in lab.refused(1, "vpc", "create", "--cidr-blocks", "10.0.0.0/40")
    assert "ike.dhGroups[0]" in lab.refused(1, "vpn-tunnel", "update", a["id"], "--ike-dh-groups", "7")
    assert "must be DOWN" in lab.refused(1, "vpn-tunnel", "delete", a["id"])
    for words in (("vpc", "fly"), ("house", "list"), ("vpc", "show"), ("vpc", "list", "prod"), ("vpc", "create", "--colour", "red"),
                  ("vpc", "show", "prod", "--name", "x"), ("vpc", "create", "--name"), ("vpc", "list", "--output", "xml"),
                  ("vpc", "list", "--wait", "3"), ("vpc", "list", "--cidr-blocks", "10.0.0.0/8")):
        lab.refused(2, *words)
    lab.refused(4, "vpc", "list", TWINSPAN_API="http://127.0.0.1:1")
    wrong = lab.directory / "wrong.token"
    wrong.write_text("not-a-token-of-anybody\n")
    assert "Unauthorized" in lab.refused(1, "vpc", "list", token=wrong)
    absent = lab.refused(1, "vpc", "list", token=lab.directory / "absent.token")
    assert "absent.token cannot be read: No such file" in absent and "TWINSPAN_TOKEN_FILE" in absent
    assert "did you mean vpn-tunnel?" in lab.refused(2, "vpn-tunel", "list")
    assert "did you mean list?" in lab.refused(2, "vpc", "lsit")
    assert "did you mean cidr-blocks?" in lab.refused(2, "vpc", "create", "--cidr-block", "10.0.0.0/8")
    assert "destination=…,nextHopType=…,nextHopId=…" in lab.refused(2, "vpc-route-table", "create", "--static-routes", "1.2.3.0/24")
    for odd in ("../nodes", "vpc-../../xxxx", "vpc-aaaa?a=b1", "a/b"):
        assert "named" in lab.refused(1, "vpc", "show", odd)
        lab.refused(1, "node", "show", odd)


def test_secrets_are_not_printed(lab, tutorial):
    done = lab.twinspan("vpn-connection", "add-tunnels", "main", "--cloud-address", "198.51.100.99", "--customer-address", "203.0.113.1",
                        "--ike-pre-shared-key", "Canary.Key.0")
    assert done.returncode == 1 and "Canary" not in done.stdout + done.stderr
    done = lab.twinspan("vpn-tunnel", "create", "--ike-pre-shared-key", "Canary Key!")
    assert done.returncode == 1 and "Canary" not in done.stdout + done.stderr


def test_keys(lab):
    directory = lab.directory / "new-keys"
    directory.mkdir()
    lab.ok("keys", "create", "--directory", directory, "ike.node-z", "resource")
    assert os.stat(directory / "ike.node-z.secret").st_mode & 0o777 == 0o600
    assert len((directory / "ike.node-z.public").read_text().strip()) == 40
    lab.refused(1, "keys", "create", "--directory", directory, "resource")  # the old one is kept
    lab.refused(2, "keys", "create", "resource")
