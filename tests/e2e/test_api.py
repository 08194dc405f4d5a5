"""The REST API against a real PostgreSQL and real buses: every kind's life, every problem, tenants and roles, secrets nowhere in clear, no
acknowledged write lost."""
import pathlib
import re
import socket
import sys
import threading
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
from api import CANARY, KINDS, make_region, make_tutorial  # noqa: E402
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402

pytestmark = pytest.mark.skipif(not (api.POSTGRES / "initdb").exists(), reason="no PostgreSQL 15")


def test_life(service):
    """Everything is made, shown, listed, changed, and deleted in the only order that is allowed."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    assert [(a["address"], a["nodeId"]) for a in rows["vpn-connections"]["cloudAddresses"]] == [
        ("198.51.100.17", "node-a"), ("198.51.100.33", "node-b")]
    assert [(t["cloudAddress"], t["customerAddress"], t["insideCidr"], t["name"]) for t in rows["tunnels"]] == [
        ("198.51.100.17", "203.0.113.1", "169.254.6.0/30", "tunnel-1"), ("198.51.100.33", "203.0.113.2", "169.254.6.4/30", "tunnel-2")]
    tokens = admin.make("tokens", role="VIEWER", tenant="acme")
    admin.make("quotas", name="acme", borderGateways=1)
    for kind in KINDS:
        items = admin.list(kind)
        assert items, kind
        shown = admin.show(kind, items[0]["id"])
        assert shown["id"] == items[0]["id"] and shown["region"] == "test" and shown["revision"] >= 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown["createdAt"])
        assert "token" not in shown and "preSharedKey" not in str(shown)
        changed = admin.change(kind, shown["id"], description="seen")
        assert changed["description"] == "seen" and changed["revision"] == shown["revision"] + 1
    assert admin.list("vpn-tunnels", "?name=tunnel-2")[0]["id"] == rows["tunnels"][1]["id"]
    # In use, all of them.
    for kind in ["nodes", "vpc-hosts", "vpcs", "border-gateways", "customer-gateways", "vpn-connections", "vpn-tunnels"]:
        admin.refused(409, "DELETE", f"/v1/{kind}/{admin.list(kind)[0]['id']}")
    for tunnel in rows["tunnels"]:
        admin.change("vpn-tunnels", tunnel["id"], adminState="DOWN")
        admin.delete("vpn-tunnels", tunnel["id"])
    for kind in ["border-gateway-routes", "vpn-connections", "customer-gateways", "vpc-attachments", "border-gateways", "subnets", "vpcs"]:
        if kind == "vpc-attachments":  # what goes with it and does not come back by itself is said, and by whom is logged
            answer = admin.call("DELETE", f"/v1/{kind}/{rows[kind]['id']}")
            assert answer.status == 200 and answer.json["id"] == rows[kind]["id"]
            (removed,) = answer.json["removed"]
            assert (removed["kind"], removed["id"]) == ("vpc-route-table", rows["vpc-route-tables"]["id"])
            assert rows["border-gateways"]["id"] in removed["what"] and "does not bring it back" in removed["what"]
            assert re.search(r"resource-written vpc-route-table=\S+.* by=first-token .*removed=", service.log())
            continue
        admin.delete(kind, rows[kind]["id"])
    admin.delete("tokens", tokens["id"])
    admin.delete("quotas", "acme")
    for kind, name in [("nodes", "node-a"), ("nodes", "node-b"), ("vpc-hosts", "host-1")]:
        admin.delete(kind, name)
    for kind in KINDS:
        assert admin.list(kind) == []


def test_http_problems(service):
    admin, nobody = service.admin, service.client(None)
    make_region(admin)
    vpc = admin.make("vpcs", cidrBlocks=["10.0.0.0/16"])
    path = f"/v1/vpcs/{vpc['id']}"
    assert vpc["revision"] == 1
    # 401: none, an unknown one, another scheme
    for client, headers in [(nobody, {}), (service.client("wrong"), {}), (nobody, {"Authorization": "Basic YTpi"}), (nobody, {"Authorization": "Bearer"})]:
        client.refused(401, "GET", "/v1/vpcs", headers=headers, field="Authorization")
    # 404
    for wrong in ["/", "/v1", "/v1/", "/v1/nothing", "/v1/vpcs/", f"{path}/", f"{path}/tunnels", "/v2/vpcs", f"{path}/a/b", "/v1/vpcs/vpc-aaaaaaaaaa/rekey"]:
        admin.refused(404, "GET", wrong)
    admin.refused(404, "GET", "/v1/vpcs/vpc-aaaaaaaaaa", field="id")
    admin.refused(404, "GET", "/v1/vpcs/%27%3B%20DROP%20TABLE", field="id")
    # 405 with what there is
    assert admin.call("PUT", path, {}).headers["Allow"] == "GET, PATCH, DELETE"
    assert admin.call("DELETE", "/v1/vpcs").headers["Allow"] == "GET, POST"
    admin.refused(405, "PUT", path, {})
    # 413, 415, 400
    admin.refused(413, "POST", "/v1/vpcs", raw=b'{"name":"' + b"x" * (1 << 20) + b'"}', field="body")
    admin.refused(415, "POST", "/v1/vpcs", {}, headers={"Content-Type": "text/plain"})
    admin.refused(415, "POST", "/v1/vpcs", raw=b"{}", headers={"Content-Type": ""})
    for raw in [b"{", b"", b"nothing", b'{"name":1,"name":2}', b'"text"', b'{"name":"\xff"}', b"[" * 100000, b'{"revision":1e400}', b'{"a":99999999999999999999}',
                b'{"name":"\\u0000"}']:
        admin.refused(415 if raw == b"" else 400, "POST", "/v1/vpcs", raw=raw, headers={"Content-Type": None} if raw == b"" else {})
    admin.refused(400, "POST", "/v1/vpcs", [], field=None)
    admin.refused(400, "GET", "/v1/vpcs?nothing=1", field="nothing")
    admin.refused(400, "POST", "/v1/vpcs?name=1", {"cidrBlocks": ["10.0.0.0/16"]}, field="name")
    for probe in ("/healthz", "/readyz"):
        assert nobody.call("GET", probe).status == 200  # no node has ever been heard
    nobody.refused(404, "POST", "/healthz", {})
    # wrong type, unknown field, out of range
    problem = admin.refused(400, "POST", "/v1/vpcs", {"cidrBlocks": "10.0.0.0/16"}, field="cidrBlocks")
    assert problem["rule"] == "must be a list, each item a string"
    problem = admin.refused(400, "POST", "/v1/border-gateways", {"asn": "65000"}, field="asn")
    assert problem["value"] == '"65000"'
    admin.refused(400, "POST", "/v1/vpcs", {"cidr_blocks": []}, field="cidr_blocks")
    problem = admin.refused(422, "POST", "/v1/border-gateways", {"asn": 0}, field="asn")
    assert problem["value"] == "0" and problem["rule"] == "must be 1 to 4294967294"
    # overlapping address
    admin.make("subnets", vpcId=vpc["id"], cidr="10.0.1.0/24")
    problem = admin.refused(409, "POST", "/v1/subnets", {"vpcId": vpc["id"], "cidr": "10.0.0.0/22"}, field="cidr")
    assert problem["value"] == "10.0.0.0/22"
    # revisions
    admin.refused(428, "PATCH", path, {"name": "a"})
    admin.refused(412, "PATCH", path, {"name": "a", "revision": 7}, field="revision")
    for stale in ['"7"', "7", '""', "x", '"01x', "-1"]:
        admin.refused(412, "PATCH", path, {"name": "a"}, headers={"If-Match": stale})
    assert admin.show("vpcs", vpc["id"]) == vpc  # nothing changed
    admin.refused(428, "PATCH", path, {"name": "a"}, headers={"If-Match": "*"})  # no condition, and no revision either
    answer = admin.call("PATCH", path, {"name": "a"}, {"If-Match": '"1"'})
    assert answer.status == 200 and answer.headers["ETag"] == '"2"' and answer.headers["Cache-Control"] == "no-store"
    admin.refused(412, "DELETE", path, headers={"If-Match": '"1"'})
    assert admin.call("GET", path).headers["ETag"] == '"2"'
    assert admin.call("PATCH", path, {"name": "b", "revision": 2}, {"If-Match": "*"}).status == 200


def test_never_a_crash(service):
    """Hostile octets on the socket, then a good request."""
    for octets in [b"\0" * 100, b"GET", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/vpcs HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\xff" * 70000,
                   b"POST /v1/vpcs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
                   b"GET /v1/vpcs?" + b"a=1&" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/vpcs/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n"]:
        with socket.create_connection(service.where, timeout=2) as client:
            try:
                client.sendall(octets)
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)
            except OSError:
                pass
    slow = [socket.create_connection(service.where) for _ in range(50)]  # and some that say nothing
    assert service.admin.call("GET", "/v1/vpcs").status == 200
    for client in slow:
        client.close()
    deep = "".join('{"ike":' for _ in range(3000)) + "1" + "}" * 3000
    service.admin.refused(400, "POST", "/v1/vpn-tunnels", raw=deep.encode())
    assert service.process.poll() is None


def test_tenants_and_roles(service):
    """tenant × role × verb × kind."""
    admin = service.admin
    make_region(admin)
    tokens = {}
    for tenant in ["acme", "other"]:
        for role in ["ADMIN", "OPERATOR", "VIEWER"]:
            tokens[tenant, role] = service.client(admin.make("tokens", role=role, tenant=tenant, name=f"{tenant}-{role}")["token"])
    rows = make_tutorial(tokens["acme", "OPERATOR"])
    rows["nodes"], rows["vpc-hosts"] = admin.show("nodes", "node-a"), admin.show("vpc-hosts", "host-1")
    rows["quotas"] = admin.make("quotas", name="acme")
    rows["tokens"] = admin.make("tokens", role="VIEWER", tenant="acme", name="spare")
    operators, admins_only = {"nodes", "vpc-hosts"}, {"tokens"}
    for (tenant, role), client in tokens.items():
        for kind in KINDS:
            before = admin.show(kind, rows[kind]["id"])
            forbidden = kind in operators or (kind in admins_only and role != "ADMIN")
            for method, path, body in [("GET", f"/v1/{kind}", None), ("GET", f"/v1/{kind}/{before['id']}", None), ("POST", f"/v1/{kind}", {}),
                                       ("PATCH", f"/v1/{kind}/{before['id']}", {"description": "mine", "revision": before["revision"]}),
                                       ("DELETE", f"/v1/{kind}/{before['id']}", None)]:
                own = tenant == "acme"
                answer = client.call(method, path, body)
                writes = method in ("POST", "PATCH", "DELETE")
                where = (tenant, role, method, path, answer)
                if forbidden or (writes and (role == "VIEWER" or kind == "quotas")):
                    assert answer.status == 403, where
                elif kind == "quotas":  # its own, to read
                    seen = [answer.json] if path.endswith("acme") else answer.json["items"]
                    assert (answer.status, [row.get("id") for row in seen]) == ((200, ["acme"]) if own else (404, [None]) if path.endswith("acme") else (200, [])), where
                elif path == f"/v1/{kind}":
                    if method == "GET":
                        assert {item["tenant"] for item in answer.json["items"]} <= {tenant}, where
                        assert own == any(item["id"] == before["id"] for item in answer.json["items"]), where
                    else:
                        assert answer.status in (201, 422), where
                elif not own:
                    assert answer.status == 404, where
                elif method == "DELETE":
                    assert answer.status in (200, 204, 409), where
                    if answer.status < 300:
                        remake(service, kind, rows, tokens["acme", "ADMIN"])
                        continue
                else:
                    assert answer.status == 200, where
                if answer.status >= 400 or not own:
                    after = admin.show(kind, before["id"])
                    assert after["revision"] - before["revision"] <= (role != "VIEWER" and own), where
    # What hangs below an id is a foreign tenant's 404 too.
    tunnel, connection = rows["vpn-tunnels"]["id"], rows["vpn-connections"]["id"]
    for method, path, body in [("POST", f"/v1/vpn-connections/{connection}/tunnels", {}), ("POST", f"/v1/vpn-tunnels/{tunnel}/rekey", {"sa": "IKE"}),
                               ("POST", f"/v1/vpn-tunnels/{tunnel}/restart", None), ("GET", f"/v1/vpn-tunnels/{tunnel}/events", None),
                               ("GET", f"/v1/vpn-tunnels/{tunnel}/configuration?vendor=strongswan-bird", None)]:
        tokens["other", "ADMIN"].refused(404, method, path, body, field="id")
        assert tokens["acme", "VIEWER"].call(method, path, body).status == (403 if method == "POST" else 200)
    # A token that is deleted is worth nothing at once.
    admin.delete("tokens", admin.list("tokens", "?name=other-VIEWER")[0]["id"])
    tokens["other", "VIEWER"].refused(401, "GET", "/v1/vpcs")


def remake(service, kind, rows, client):
    """The few kinds that nothing uses were deleted: put another one there."""
    old = rows[kind]
    if kind == "tokens":
        rows[kind] = client.make("tokens", role="VIEWER", name="spare")
        return
    keep = {"subnets": ["vpcId", "cidr"], "vpc-attachments": ["vpcId", "borderGatewayId"],
            "border-gateway-routes": ["borderGatewayId", "destination", "nextHopType", "nextHopId"]}[kind]
    rows[kind] = client.make(kind, **{name: old[name] for name in keep})


def test_tunnel_actions(service):
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    path = f"/v1/vpn-tunnels/{rows['vpn-tunnels']['id']}"
    assert admin.call("POST", f"{path}/rekey", {"sa": "CHILD"}).json["rekeyChildRequests"] == 1
    assert admin.call("POST", f"{path}/rekey", {"sa": "IKE"}).json["rekeyIkeRequests"] == 1
    assert admin.call("POST", f"{path}/restart").json["restartRequests"] == 1
    for body in [{}, {"sa": "BOTH"}, {"sa": 1}, {"sa": "IKE", "x": 1}, []]:
        admin.refused(422, "POST", f"{path}/rekey", body)
    admin.refused(400, "POST", f"{path}/restart", {"now": True})
    admin.refused(412, "POST", f"{path}/restart", headers={"If-Match": '"1"'})
    assert admin.show("vpn-tunnels", rows["vpn-tunnels"]["id"])["restartRequests"] == 1
    admin.refused(412, "POST", f"/v1/vpn-connections/{rows['vpn-connections']['id']}/tunnels", {}, headers={"If-Match": '"9"'})
    text = admin.call("GET", f"{path}/configuration?vendor=strongswan-bird")
    assert text.type.startswith("text/plain") and b"@PRE_SHARED_KEY@" in text.raw and CANARY.encode() not in text.raw
    admin.refused(422, "GET", f"{path}/configuration", field="vendor")
    admin.refused(422, "GET", f"{path}/configuration?vendor=cisco", field="vendor")
    problem = admin.refused(422, "PATCH", path, {"ike": {"version": "V1"}, "revision": 4}, field="ike.version")
    assert problem["rule"] == "V1 is not available yet"
    # The counters outlive the service.
    service.kill()
    service.start()
    assert admin.show("vpn-tunnels", rows["vpn-tunnels"]["id"])["rekeyIkeRequests"] == 1


def test_secrets_are_nowhere(service, postgres):
    """A given key is in no answer, log or dump; a generated one in one answer; a token's text is a hash in the database."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    tunnel = rows["vpn-tunnels"]
    admin.change("vpn-tunnels", tunnel["id"], ike={"preSharedKey": CANARY + "x"})
    admin.refused(400, "PATCH", f"/v1/vpn-tunnels/{tunnel['id']}", {"ike": {"preSharedKey": [CANARY]}, "revision": 1})
    admin.refused(400, "PATCH", f"/v1/vpn-tunnels/{tunnel['id']}", {"ike": CANARY, "revision": 1})
    admin.refused(400, "PATCH", f"/v1/vpn-tunnels/{tunnel['id']}", {"ike": {"presharedkey": CANARY}, "revision": 1})
    admin.refused(422, "PATCH", f"/v1/vpn-tunnels/{tunnel['id']}", {"ike": {"preSharedKey": "0" + CANARY}, "revision": 2})
    admin.refused(400, "PATCH", f"/v1/vpn-tunnels/{tunnel['id']}", raw=b'{"ike":{"preSharedKey":"' + CANARY.encode() + b'"]')
    admin.call("GET", f"/v1/vpn-tunnels/{tunnel['id']}/configuration?vendor=strongswan-bird")
    made = admin.make("vpn-tunnels", vpnConnectionId=rows["vpn-connections"]["id"], cloudAddress="198.51.100.17", customerAddress="203.0.113.2")
    generated, token = made["ike"]["preSharedKey"], admin.make("tokens", role="ADMIN")["token"]
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._]{31}", generated) and "preSharedKey" not in admin.show("vpn-tunnels", made["id"])["ike"]
    assert service.client(token).call("GET", "/v1/nodes").status == 200
    assert sum(generated.encode() in answer for answer in service.heard) == 1
    assert sum(token.encode() in answer for answer in service.heard) == 1
    dump, log = postgres.dump(), service.log().encode()
    for secret in [CANARY, generated, token, api.ADMIN]:
        for place in (dump, log) + ((b"".join(service.heard),) if secret in (CANARY, api.ADMIN) else ()):
            assert secret.encode() not in place and secret.encode().hex().encode() not in place
    # ike alone gets the key, that of its node, also after a restart.
    for _ in range(2):
        keys = service.bus("ike.node-a").replicate("resource", "tunnel_secret", T.TunnelSecret)
        keys.wait(lambda rows: len(rows) == 2)
        assert keys.rows[tunnel["id"]].pre_shared_key.decode() == CANARY + "x"
        assert keys.rows[made["id"]].pre_shared_key.decode() == generated
        tunnels = service.bus("esp.node-a").replicate("resource", "vpn_tunnel", R.VpnTunnel)
        tunnels.wait(lambda rows: len(rows) == 2)
        assert all(not row.ike.pre_shared_key for row in tunnels.rows.values())
        for name in ("ike.node-a", "esp.node-a"):
            service.buses.pop(name).close()
        service.kill()
        service.start()
    # Sealed under the tunnel's id: moved to another row it does not open, and the service says so instead of using it. All else goes on, and a
    # new key heals the tunnel.
    postgres.query(f"UPDATE resource.sealed_key SET sealed = (SELECT sealed FROM resource.sealed_key WHERE tunnel_id = '{made['id']}') "
                   f"WHERE tunnel_id = '{tunnel['id']}'")
    service.kill()
    service.start(wait=False)
    service.wait_until(lambda: "sealed-key-does-not-open" in service.log())
    service.wait_until(lambda: admin.call("GET", "/v1/nodes").status == 200)
    assert len(admin.list("vpn-tunnels")) == 3 and 'twinspan_resource_unreadable{what="sealed-key"} 1' in service.metrics()
    keys = service.bus("ike.node-a").replicate("resource", "tunnel_secret", T.TunnelSecret)
    keys.wait(lambda rows: set(rows) == {made["id"]})
    admin.change("vpn-tunnels", tunnel["id"], ike={"preSharedKey": CANARY})
    keys.wait(lambda rows: rows.get(tunnel["id"]) and rows[tunnel["id"]].pre_shared_key.decode() == CANARY)


def test_bus(service):
    """Rows out with their defaults, scoped to nodes; reports in, shown as outputs that leave the revision alone."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    tunnel, connection = rows["vpn-tunnels"]["id"], rows["vpn-connections"]["id"]
    # Owned before anybody asks: a table that is refused is asked for again only after a while.
    route = service.bus("route")
    shown_rows, vpc_rows, groups = (route.own(name) for name in ("border_gateway_route_row", "vpc_route", "next_hop_group"))
    counter_tables = {node: service.bus(f"esp.{node}").own("tunnel_counters") for node in ("node-a", "node-b")}
    messages = {"node": R.Node, "vpc_host": R.VpcHost, "border_gateway": R.BorderGateway, "vpc": R.Vpc, "subnet": R.Subnet,
                "vpc_route_table": R.VpcRouteTable, "vpc_attachment": R.VpcAttachment, "customer_gateway": R.CustomerGateway,
                "vpn_connection": R.VpnConnection, "vpn_tunnel": R.VpnTunnel, "border_gateway_route": R.BorderGatewayRoute, "quota": R.Quota}
    tables = {name: route.replicate("resource", name, message) for name, message in messages.items()}
    for name, table in tables.items():
        table.wait(lambda rows: len(rows) >= 1, what=name)
    row = tables["vpn_tunnel"].rows[tunnel]
    assert (row.node_id, row.cloud_inside_address, row.ike.lifetime_seconds, list(row.ipsec.pfs_groups)) == (
        "node-a", "169.254.6.1", 28800, [31, 19, 20, 14])
    assert not row.HasField("running_status")
    # The limits: a tenant's own, and under the empty key those of all others.
    admin.make("quotas", name="acme", learnedRoutes=7)
    tables["quota"].wait(lambda rows: rows.keys() == {"", "acme"})
    assert (tables["quota"].rows[""].learned_routes, tables["quota"].rows["acme"].learned_routes) == (300, 7)
    admin.delete("quotas", "acme")
    tables["quota"].wait(lambda rows: rows.keys() == {""})
    local = service.bus("esp.node-b").replicate("resource", "vpn_tunnel", R.VpnTunnel)
    local.wait(lambda rows: len(rows) == 1)
    assert next(iter(local.rows.values())).node_id == "node-b"

    statuses = {}
    for node, row in zip(["node-a", "node-b"], rows["tunnels"]):
        statuses[node], events = (service.bus(f"ike.{node}").own(name) for name in ("tunnel_status", "tunnel_event"))
        (sessions,) = [service.bus(f"bgp.{node}").own("bgp_session")]
        counters = counter_tables[node]
        statuses[node].put(row["id"], T.TunnelStatus(tunnel_id=row["id"], state=T.TunnelStatus.UP, since=1700000000000, ike_suite="suite"))
        events.put(f"{row['id']}/1", T.TunnelEvent(tunnel_id=row["id"], number=1, time=1700000000000, event="up", detail="why"))
        bgp_events = service.bus(f"bgp.{node}").own("bgp_event")
        bgp_events.put(f"{row['id']}/1", T.TunnelEvent(tunnel_id=row["id"], number=1, time=1700000000001, event="established", detail="65010"))
        bgp_events.complete()
        sessions.put(row["id"], T.BgpSession(tunnel_id=row["id"], state="Established", hold_time=9, prefixes_discarded=2, reason="2 routes discarded"))
        counters.put(row["id"], T.TunnelCounters(tunnel_id=row["id"], bytes_in=5, drops=1))
        for table in (statuses[node], events, sessions, counters):
            table.complete()
    service.wait_until(lambda: admin.show("vpn-connections", connection)["haStatus"] == "HIGHLY_AVAILABLE")
    # Services of the other node, each with its own true key, speak for this node's tunnel: nobody sees it, and it is counted.
    statuses["node-b"].put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=T.TunnelStatus.DOWN, reason="forged"))
    sessions.put(tunnel, T.BgpSession(tunnel_id=tunnel, state="Idle", reason="forged"))
    counters.put(tunnel, T.TunnelCounters(tunnel_id=tunnel, bytes_in=666))
    for table, owner in ((statuses["node-b"], "ike.node-b"), (sessions, "bgp.node-b"), (counters, "esp.node-b")):
        table.commit()
        service.wait_until(lambda: f'twinspan_bus_refused_rows_total{{table="{table.name}",owner="{owner}"}} 1\n' in service.metrics())
    assert "forged" not in str(admin.show("vpn-tunnels", tunnel))
    assert admin.show("vpn-tunnels", tunnel)["runningStatus"] == "UP"
    service.wait_until(lambda: admin.show("vpn-tunnels", tunnel).get("bgpState") == "Established" and
                       admin.show("vpn-tunnels", tunnel)["statistics"]["bytesIn"] == 5)
    shown = admin.show("vpn-tunnels", tunnel)
    assert (shown["runningStatus"], shown["runningSince"], shown["ikeSuite"], shown["revision"]) == ("UP", "2023-11-14T22:13:20.000Z", "suite", 1)
    service.wait_until(lambda: admin.call("GET", f"/v1/vpn-tunnels/{tunnel}/events").json["items"] == [
        {"service": "ike", "number": 1, "time": "2023-11-14T22:13:20.000Z", "event": "up", "detail": "why"},
        {"service": "bgp", "number": 1, "time": "2023-11-14T22:13:20.001Z", "event": "established", "detail": "65010"}])
    assert (shown["bgpSession"]["holdTime"], shown["bgpSession"]["prefixesDiscarded"], shown["bgpReason"]) == (9, 2, "2 routes discarded")
    assert f'twinspan_tunnel_up{{tunnel="{tunnel}",connection="{connection}"}} 1' in service.metrics()
    statuses["node-a"].put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=T.TunnelStatus.DOWN, reason="no response"))
    statuses["node-a"].commit()
    service.wait_until(lambda: admin.show("vpn-connections", connection)["haStatus"] == "NOT_HIGHLY_AVAILABLE")
    assert admin.show("vpn-tunnels", tunnel)["reason"] == "no response"

    gateway, table = rows["border-gateways"]["id"], rows["vpc-route-tables"]["id"]
    shown_rows.put("1", T.BorderGatewayRouteRow(border_gateway_id=gateway, kind=T.BorderGatewayRouteRow.EFFECTIVE, destination="192.168.0.0/16",
                                                next_hop_type="VPN_CONNECTION", next_hop_id=connection, type="EBGP", metric=1, as_path=[65010],
                                                tunnel_ids=[tunnel], effective=True, since=1700000000000, origin=1, med=20,
                                                communities=[65010 << 16 | 7, 0xffffff01]))
    groups.put("nhg-1", T.NextHopGroup(id="nhg-1", members=[T.NextHopMember(tunnel_id=tunnel)]))
    vpc_rows.put("1", T.VpcRoute(vpc_route_table_id=table, vpc_id=rows["vpcs"]["id"], destination=bytes([192, 168, 0, 0]), prefix_length=16,
                                 type="PROPAGATED", border_gateway_id=gateway, next_hop_group_id="nhg-1", effective=True))
    for own in (groups, shown_rows, vpc_rows):
        own.complete()
    service.wait_until(lambda: admin.show("border-gateways", gateway).get("routeTables", {}).get("effectiveRoutes") == [
        {"destination": "192.168.0.0/16", "nextHopType": "VPN_CONNECTION", "nextHopId": connection, "type": "EBGP", "metric": 1, "asPath": [65010],
         "tunnelIds": [tunnel], "state": "EFFECTIVE", "since": "2023-11-14T22:13:20.000Z", "origin": "EGP", "med": 20,
         "communities": ["65010:7", "NO_EXPORT"]}], 60)  # a refused table is asked for again after ten seconds
    service.wait_until(lambda: admin.show("vpc-route-tables", table)["routes"] == [
        {"destination": "192.168.0.0/16", "nextHopType": "BORDER_GATEWAY", "nextHopId": gateway, "type": "PROPAGATED", "metric": 0, "asPath": [],
         "tunnelIds": [tunnel], "state": "EFFECTIVE", "communities": []}])
    assert "routeTables" not in admin.list("border-gateways")[0]
    # A deleted tunnel leaves every table.
    admin.change("vpn-tunnels", tunnel, adminState="DOWN")
    admin.delete("vpn-tunnels", tunnel)
    tables["vpn_tunnel"].wait(lambda rows: tunnel not in rows)
    assert tunnel not in service.metrics() and rows["tunnels"][1]["id"] in service.metrics()


def test_silent_services(service):
    """Each of a node's services vouches for its own part: whichever is silent, what it said is not claimed any more."""
    admin = service.admin
    make_region(admin)
    tunnel = make_tutorial(admin)["vpn-tunnels"]["id"]

    def speak(name):
        bus, tables = service.bus(f"{name}.node-a"), {"ike": ["tunnel_status", "tunnel_event"], "esp": ["tunnel_counters"], "bgp": ["bgp_session", "bgp_event"]}
        own = [bus.own(table) for table in tables[name]]
        if name == "ike":
            own[0].put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=T.TunnelStatus.UP))
        if name == "bgp":
            own[0].put(tunnel, T.BgpSession(tunnel_id=tunnel, state="Established"))
        for table in own:
            table.complete()

    def shown():
        row = admin.show("vpn-tunnels", tunnel)
        return row["runningStatus"], row["bgpState"], admin.show("nodes", "node-a")["silentServices"]

    assert shown() == ("DOWN", "Idle", ["ike", "esp", "bgp"])
    for name in ("ike", "esp", "bgp"):
        speak(name)
    service.wait_until(lambda: shown() == ("UP", "Established", []), seconds=30)
    assert admin.list("nodes", "?silentServices=bgp")[0]["id"] == "node-b"
    for name, wanted in [("bgp", ("UP", "Unknown", ["bgp"])), ("esp", ("UNKNOWN", "Unknown", ["esp"])), ("ike", ("UNKNOWN", "Unknown", ["ike"]))]:
        service.buses.pop(f"{name}.node-a").close()
        service.wait_until(lambda: shown() == wanted, seconds=30)
        assert f"{name} of node node-a does not answer" in str(admin.show("vpn-tunnels", tunnel))
        assert f'twinspan_resource_node_service_heard{{node="node-a",service="{name}"}} 0' in service.metrics()
        speak(name)
        service.wait_until(lambda: shown() == ("UP", "Established", []), seconds=30)
    assert service.client(None).call("GET", "/readyz").status == 200


def test_kill_loses_nothing(service):
    """kill -9 between and during requests: what was acknowledged is there, and what is there is whole."""
    admin = service.admin
    admin.make("quotas", name="default", vpcs=100000)
    acknowledged, stop = [], threading.Event()

    def write(number):
        count = 0
        while not stop.is_set():
            name = f"w{number}-{count}"
            try:
                answer = admin.call("POST", "/v1/vpcs", {"name": name, "cidrBlocks": ["10.0.0.0/16"]})
            except (OSError, Exception):
                time.sleep(0.005)
                continue
            if answer.status == 201:
                acknowledged.append((name, answer.json["id"], answer.json["defaultRouteTableId"]))
                count += 1

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(4):
        time.sleep(0.4)
        service.kill()
        service.start()
    stop.set()
    for writer in writers:
        writer.join()
    assert len(acknowledged) > 100
    vpcs, tables = {row["id"]: row for row in admin.list("vpcs")}, {row["id"] for row in admin.list("vpc-route-tables")}
    for name, vpc, table in acknowledged:
        assert vpcs[vpc]["name"] == name and table in tables
    assert {row["defaultRouteTableId"] for row in vpcs.values()} == tables  # a VPC and its table are one change


def test_database_away(service, postgres):
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    vpc = rows["vpcs"]
    postgres.stop("immediate")
    try:
        for _ in range(3):
            admin.refused(503, "POST", "/v1/vpcs", {"cidrBlocks": ["10.1.0.0/16"]})
            admin.refused(503, "PATCH", f"/v1/vpcs/{vpc['id']}", {"name": "a", "revision": 1})
            assert admin.show("vpcs", vpc["id"]) == vpc and len(admin.list("vpn-tunnels")) == 2
        # The rows go on to those who ask.
        tunnels = service.bus("route").replicate("resource", "vpn_tunnel", R.VpnTunnel)
        tunnels.wait(lambda rows: len(rows) == 2)
    finally:
        postgres.start()
    service.wait_until(lambda: admin.call("PATCH", f"/v1/vpcs/{vpc['id']}", {"name": "b", "revision": 1}).status == 200)
    # What was changed in the database while the connection was lost is read when it is back.
    postgres.query(f"DELETE FROM resource.object WHERE id = '{rows['border-gateway-routes']['id']}'")
    postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
    service.wait_until(lambda: admin.list("border-gateway-routes") == [])
    # Somebody else's write is not overwritten.
    postgres.query(f"UPDATE resource.object SET revision = 9, body = jsonb_set(body, '{{revision}}', '9') WHERE id = '{vpc['id']}'")
    admin.refused(503, "PATCH", f"/v1/vpcs/{vpc['id']}", {"name": "c", "revision": 2})
    admin.refused(412, "PATCH", f"/v1/vpcs/{vpc['id']}", {"name": "c", "revision": 2})
    assert admin.change("vpcs", vpc["id"], name="c")["revision"] == 10


def test_start_without_database(service, postgres):
    service.kill()
    postgres.stop()
    service.start(wait=False)
    service.wait_until(lambda: service.client("any").call("GET", "/v1/vpcs").status == 503)
    service.client(None).refused(503, "GET", "/v1/vpcs")
    postgres.start()
    service.wait_until(lambda: service.admin.call("GET", "/v1/vpcs").status == 200, seconds=20)
