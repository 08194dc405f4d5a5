"""Lists of the REST API in pages, its filters, and the OpenAPI document, which is true of all of it."""
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
from api import KINDS, make_region, make_tutorial  # noqa: E402
from bus import tables_pb2 as T  # noqa: E402

pytestmark = pytest.mark.skipif(not (api.POSTGRES / "initdb").exists(), reason="no PostgreSQL 15")


def test_pages(service):
    """Lists and route tables over HTTP: limit, cursor, filters by what is shown; and what is not a limit, a cursor or a filter."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    names = {admin.make("subnets", vpcId=rows["vpcs"]["id"], cidr=f"10.0.{n}.0/24", name=f"n{n}")["name"] for n in range(2, 9)}
    seen, path = [], "/v1/subnets?limit=3"
    while path:
        page = admin.call("GET", path).json
        assert 1 <= len(page["items"]) <= 3
        seen += [item["name"] for item in page["items"] if "name" in item]
        path = f"/v1/subnets?limit=3&cursor={page['nextCursor']}" if "nextCursor" in page else None
    assert seen == sorted(names)
    assert "nextCursor" not in admin.call("GET", "/v1/subnets").json
    for query, field in [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=", "limit"), ("cursor=x", "cursor"), ("cursor=", "cursor"),
                         ("limit=99999999999999999999", "limit"), ("nothing=1", "nothing")]:
        admin.refused(400, "GET", f"/v1/subnets?{query}", field=field)
    admin.refused(400, "GET", "/v1/vpn-tunnels?runningStatus=GOOD", field="runningStatus")
    admin.refused(400, "GET", "/v1/vpn-tunnels?" + "&".join(f"name=n{n}" for n in range(20)), field="name")
    assert len(admin.list("vpn-tunnels", "?runningStatus=DOWN")) == 2 and admin.list("vpn-tunnels", "?runningStatus=UP") == []
    assert [row["id"] for row in admin.list("vpn-connections", "?haStatus=NOT_HIGHLY_AVAILABLE")] == [rows["vpn-connections"]["id"]]

    gateway = rows["border-gateways"]["id"]
    table = service.bus("route").own("border_gateway_route_row")
    for n in range(250):
        table.put(f"{n}", T.BorderGatewayRouteRow(border_gateway_id=gateway, kind=T.BorderGatewayRouteRow.EFFECTIVE, destination=f"10.{n}.0.0/16",
                                                  next_hop_type="VPN_CONNECTION", next_hop_id=rows["vpn-connections"]["id"], type="EBGP", effective=True))
    table.complete()
    below = f"/v1/border-gateways/{gateway}/routes"
    service.wait_until(lambda: admin.show("border-gateways", gateway)["routeTables"]["effectiveCount"] == 250)
    shown = admin.show("border-gateways", gateway)["routeTables"]
    assert len(shown["effectiveRoutes"]) == 100 and shown["truncated"] is True
    first = admin.call("GET", f"{below}?limit=200").json
    second = admin.call("GET", f"{below}?limit=200&cursor={first['nextCursor']}").json
    assert [route["destination"] for route in first["items"] + second["items"]] == [f"10.{n}.0.0/16" for n in range(250)] and "nextCursor" not in second
    assert [route["destination"] for route in admin.call("GET", f"{below}?destination=10.7.0.0/16").json["items"]] == ["10.7.0.0/16"]
    assert admin.call("GET", f"{below}?table=PROPAGATED").json == {"items": []}
    for query, field in [("table=LEARNED", "table"), ("destination=10.0.0.1/8", "destination"), ("limit=0", "limit"), ("name=x", "name"),
                         (f"table=STATIC&cursor={first['nextCursor']}", "cursor")]:
        admin.refused(400, "GET", f"{below}?{query}", field=field)
    routes = f"/v1/vpc-route-tables/{rows['vpc-route-tables']['id']}/routes"
    assert admin.call("GET", routes).json == {"items": []}
    admin.refused(400, "GET", f"{routes}?table=EFFECTIVE", field="table")
    admin.refused(404, "GET", "/v1/border-gateways/bgw-aaaaaaaaaa/routes", field="id")
    assert admin.call("POST", below, {}).headers["Allow"] == "GET"


def test_openapi(service):
    document = service.client(None).call("GET", "/openapi.json")
    assert document.status == 200 and document.json["openapi"] == "3.1.0"
    paths = document.json["paths"]
    assert {f"/v1/{kind}" for kind in KINDS} <= set(paths) and "/v1/vpn-connections/{id}/tunnels" in paths
    tunnel = document.json["components"]["schemas"]["NewVpnTunnel"]["properties"]
    assert tunnel["ike"]["properties"]["lifetimeSeconds"]["minimum"] == 900 and tunnel["adminState"]["enum"] == ["UP", "DOWN"]
    assert document.json["servers"][0]["url"] == "/"
    lists = {each["name"]: each["schema"] for each in paths["/v1/vpn-tunnels"]["get"]["parameters"]}
    assert lists["limit"]["maximum"] == 1000 and "cursor" in lists and lists["runningStatus"]["enum"] == ["UP", "CONNECTING", "DOWN", "UNKNOWN"]
    assert {"400", "401", "403", "404", "409", "412", "422", "428", "503"} <= set(paths["/v1/vpn-tunnels/{id}"]["patch"]["responses"])
    schemas = document.json["components"]["schemas"]
    assert schemas["ChangedVpnTunnel"]["properties"]["localId"]["type"] == ["string", "null"]
    # Answers have what they are said to have, and every list takes the filters it is said to take.
    make_region(service.admin)
    rows = make_tutorial(service.admin)
    service.admin.make("tokens", role="VIEWER")
    service.admin.make("quotas", name="acme")
    for kind in KINDS:
        operation = paths[f"/v1/{kind}"]["get"]
        schema = schemas[operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["items"]["items"]["$ref"].split("/")[-1]]
        for item in service.admin.list(kind) + [service.admin.show(kind, service.admin.list(kind)[0]["id"])]:
            assert set(schema["required"]) <= set(item) <= set(schema["properties"]), kind
            for name, value in item.items():
                assert value in schema["properties"][name].get("enum", [value]), (kind, name, value)
        for parameter in operation["parameters"]:
            if parameter["name"] not in ("limit", "cursor"):
                form = parameter["schema"]
                form = form.get("items", form)
                value = form.get("enum", [{"integer": "1", "boolean": "true"}.get(form["type"], "x")])[0]
                assert service.admin.call("GET", f"/v1/{kind}?{parameter['name']}={value}").status == 200, (kind, parameter)
    for tunnel in rows["tunnels"]:
        assert service.admin.call("GET", f"/v1/vpn-tunnels/{tunnel['id']}/events").json == {"items": []}
    # The document is true: every operation of it is one of the service's.
    for path, operations in paths.items():
        for method in set(operations) - {"parameters"}:
            answer = service.admin.call(method.upper(), path.replace("{id}", "none-aaaaaaaaaa"), None if method == "get" else {})
            assert answer.status != 405 and not (answer.status == 404 and "unknown-path" in answer.json["type"]), (method, path, answer)
