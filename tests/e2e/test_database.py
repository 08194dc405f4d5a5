"""`resource` and its PostgreSQL when things go wrong at the worst moment: a commit cut in the middle, rows that cannot be read."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
import api  # noqa: E402
from api import CANARY, make_region, make_tutorial  # noqa: E402
from bus import tables_pb2 as T  # noqa: E402

pytestmark = pytest.mark.skipif(not (api.POSTGRES / "initdb").exists(), reason="no PostgreSQL 15")
# Held by the test, it stops a commit in its middle: a deferred trigger waits for it.
GATE = 77
DEFERRED = f"""CREATE FUNCTION resource.wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON resource.object DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION resource.wait()"""


def backend(postgres):
    return int(postgres.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'resource' ORDER BY backend_start DESC LIMIT 1"))


def test_ghost_commit(service, postgres):
    """The backend is stopped in its commit; 503 says that nobody knows. Whatever it does afterwards, memory and database agree."""
    admin = service.admin
    make_region(admin)
    postgres.query(DEFERRED)
    gate = postgres.session()
    gate.say(f"SELECT pg_advisory_lock({GATE})")
    answers = []
    writer = threading.Thread(target=lambda: answers.append(admin.call("POST", "/v1/vpcs", {"name": "ghost", "cidrBlocks": ["10.0.0.0/16"]})))
    writer.start()
    service.wait_until(lambda: postgres.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "1")
    # Reads are answered while the commit is under way.
    assert admin.list("vpcs") == [] and len(admin.list("nodes")) == 2
    stopped = backend(postgres)
    os.kill(stopped, signal.SIGSTOP)
    gate.say(f"SELECT pg_advisory_unlock({GATE})")
    writer.join()
    assert answers[0].status == 503 and answers[0].json["type"].endswith(":outcome-unknown"), answers[0]
    assert "may have been" in answers[0].json["rule"] and "Read it back" in answers[0].json["rule"]
    # The new connection waits for the old one's decision: no write is planned from rows that may not be all.
    service.wait_until(lambda: service.log().count("database-up") == 2)
    assert admin.call("POST", "/v1/vpcs", {"name": "next", "cidrBlocks": ["10.1.0.0/16"]}).status == 503
    assert admin.list("vpcs") == []
    os.kill(stopped, signal.SIGCONT)
    service.wait_until(lambda: len(admin.list("vpcs")) == 1)
    assert admin.list("vpcs")[0]["name"] == "ghost"
    assert postgres.query("SELECT count(*) FROM resource.object WHERE kind = 'vpc'") == "1"
    service.wait_until(lambda: admin.call("POST", "/v1/vpcs", {"name": "next", "cidrBlocks": ["10.1.0.0/16"]}).status == 201)
    gate.close()


class Cutter:
    """A way to the server that ends when a commit passes: before it ("unsent"), with the answer lost ("unanswered"), or so that the commit reaches
    the server when the client has been gone for a while ("late")."""

    def __init__(self, directory, postgres):
        directory.mkdir()
        self.where, self.cut, self.cuts = f"host={directory} user=postgres dbname=postgres", None, 0
        self.server = str(postgres.directory / ".s.PGSQL.5432")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / ".s.PGSQL.5432"))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.server)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, source, sink, outward):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if outward and self.cut and b"COMMIT" in data:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    if how == "unanswered":
                        source.shutdown(socket.SHUT_RDWR)
                        sink.sendall(data)
                    elif how == "late":
                        source.shutdown(socket.SHUT_RDWR)
                        time.sleep(0.2)
                        sink.sendall(data)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_commits_cut_in_the_middle(tmp_path, postgres):
    """A hundred rounds: the connection ends around the commit. Nothing acknowledged is lost, no cloud address is given out twice, and memory is
    what the database is."""
    postgres.query("DROP SCHEMA IF EXISTS resource CASCADE")
    cutter = Cutter(tmp_path / "way", postgres)
    service = api.Resource(tmp_path, cutter)
    service.start()
    admin, acknowledged, unknown = service.admin, set(), 0
    make_region(admin)
    gateway = admin.make("border-gateways", name="gateway")["id"]
    customer = admin.make("customer-gateways", asn=65010, publicAddresses=["203.0.113.1"])
    for number in range(100):
        cutter.cut = ["unsent", "unanswered", "late", None][number % 4]
        asked = cutter.cut
        body = {"borderGatewayId": gateway, "customerGatewayId": customer["id"], "name": f"c{number}"}
        answer = admin.call("POST", "/v1/vpn-connections", body)
        if answer.status == 201:
            acknowledged.add(answer.json["id"])
        else:
            assert answer.status == 503 and answer.json["type"].endswith(":outcome-unknown"), (number, asked, answer, service.log()[-2500:])
            unknown += 1
        assert (answer.status == 201) == (asked is None)
        # The next one is made at once, with what the last one may have left.
        service.wait_until(lambda: admin.call("POST", "/v1/vpn-connections", {**body, "name": "next"}).status == 201, seconds=20)
        rows = {row["id"]: row for row in admin.list("vpn-connections")}
        assert acknowledged <= set(rows)
        # Told to commit and gone unanswered: the answer was lost, not the write.
        assert any(row["name"] == f"c{number}" for row in rows.values()) == (asked != "unsent") or asked == "late"
        addresses = [a["address"] for row in rows.values() for a in row["cloudAddresses"]]
        assert len(addresses) == len(set(addresses))
        assert set(postgres.query("SELECT id FROM resource.object WHERE kind = 'vpn-connection'").split()) == set(rows)
        for row in rows if len(rows) > 8 else []:  # the pool is small
            admin.delete("vpn-connections", row)
            acknowledged.discard(row)
    assert cutter.cuts == 75 and unknown == 75
    service.close()
    cutter.listener.close()


def test_rows_that_cannot_be_read(service, postgres):
    """A row of a newer release and a broken one harm nobody else, and stay in the database as they are."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    vpc, table, tunnel = rows["vpcs"]["id"], rows["vpc-route-tables"]["id"], rows["vpn-tunnels"]["id"]
    other = admin.make("vpcs", name="other", cidrBlocks=["10.9.0.0/16"])["id"]
    bystander = admin.make("customer-gateways", asn=65011, publicAddresses=["203.0.113.7"])["id"]
    service.kill()
    # What a newer release adds: a field, a message, a field in an item of a list, a kind. What nobody should: another type, another id.
    for path, value, name in (("{shade}", '"blue"', vpc), ("{ike,future}", '{"a": [1]}', tunnel), ("{propagations,0,weight}", "7", table)):
        postgres.query(f"UPDATE resource.object SET body = jsonb_set(body, '{path}', '{value}') WHERE id = '{name}'")
    postgres.query("INSERT INTO resource.object (kind, id, tenant, revision, body) VALUES ('cloud', 'cld-1', 'default', 1, '{\"id\": \"cld-1\"}')")
    postgres.query(f"UPDATE resource.object SET body = jsonb_set(body, '{{asn}}', '\"many\"') WHERE id = '{bystander}'")
    postgres.query(f"UPDATE resource.object SET body = jsonb_set(body, '{{id}}', '\"vpc-x\"') WHERE id = '{other}'")
    service.start()
    assert {row["id"] for row in admin.list("vpcs")} == {vpc}
    assert len(admin.list("vpn-tunnels")) == 2 and bystander not in {row["id"] for row in admin.list("customer-gateways")}
    for kind, name, what in (("customer-gateways", bystander, "asn"), ("vpcs", other, "another id")):
        problem = admin.refused(500, "GET", f"/v1/{kind}/{name}")
        assert problem["type"].endswith(":unusable-row") and what in problem["rule"]
        admin.refused(500, "PATCH", f"/v1/{kind}/{name}", {"name": "x", "revision": 1})
        admin.refused(500, "DELETE", f"/v1/{kind}/{name}")
    # Another tenant learns nothing of it.
    token = admin.make("tokens", role="OPERATOR", tenant="stranger")["token"]
    service.client(token).refused(404, "GET", f"/v1/vpcs/{other}")
    assert 'twinspan_resource_unreadable{what="row"} 3' in service.metrics()
    assert service.log().count("event=row-unusable") == 3
    # What this release does not know survives its changes.
    admin.change("vpcs", vpc, name="renamed")
    admin.change("vpn-tunnels", tunnel, name="renamed")
    admin.change("vpc-route-tables", table, name="renamed")

    def body(name):
        return json.loads(postgres.query(f"SELECT body FROM resource.object WHERE id = '{name}'"))

    assert body(vpc)["shade"] == "blue" and body(vpc)["name"] == "renamed"
    assert body(tunnel)["ike"]["future"] == {"a": [1]} and body(tunnel)["name"] == "renamed"
    assert body(table)["propagations"][0]["weight"] == 7
    assert body(bystander)["asn"] == "many" and body("cld-1") == {"id": "cld-1"}
    # A list that was replaced is what it was replaced with.
    admin.change("vpc-route-tables", table, propagations=[{"borderGatewayId": rows["border-gateways"]["id"], "ranges": ["192.168.0.0/16"]}])
    assert "weight" not in body(table)["propagations"][0]
    # Repaired, it is back with the next reading; one that breaks while memory has it goes on being used, and is not written over.
    postgres.query(f"UPDATE resource.object SET body = jsonb_set(body, '{{asn}}', '65011') WHERE id = '{bystander}'")
    postgres.query(f"UPDATE resource.object SET body = jsonb_set(body, '{{adminState}}', '\"ASLEEP\"') WHERE id = '{tunnel}'")
    postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'resource'")
    service.wait_until(lambda: bystander in {row["id"] for row in admin.list("customer-gateways")})
    assert len(admin.list("vpn-tunnels")) == 2
    admin.refused(500, "PATCH", f"/v1/vpn-tunnels/{tunnel}", {"name": "y", "revision": 3})
    assert body(tunnel)["adminState"] == "ASLEEP"


def test_what_is_unique(service, postgres):
    """The database itself refuses what another row claims, whatever the service believes."""
    admin = service.admin
    make_region(admin)
    rows = make_tutorial(admin)
    claims = postgres.query("SELECT what FROM resource.claim").split("\n")
    assert {"cloud-address 198.51.100.17", "cloud-address 198.51.100.33"} <= set(claims) and sum("vni " in claim for claim in claims) == 1
    assert sum(claim.startswith(f"inside {rows['border-gateways']['id']} 169.254.6.") for claim in claims) == 2
    # Behind the service's back somebody takes the address that it would give out next.
    postgres.query("INSERT INTO resource.object (kind, id, tenant, revision, body) VALUES ('vpn-connection', 'vpn-x', 'default', 1, "
                   "'{\"id\": \"vpn-x\", \"cloudAddresses\": [{\"address\": \"198.51.100.18\", \"nodeId\": \"node-a\"}]}')")
    body = {"borderGatewayId": rows["border-gateways"]["id"], "customerGatewayId": rows["customer-gateways"]["id"]}
    problem = admin.refused(503, "POST", "/v1/vpn-connections", body)
    assert problem["type"].endswith(":try-again")
    made = admin.make("vpn-connections", **body)
    assert {a["address"] for a in made["cloudAddresses"]} == {"198.51.100.19", "198.51.100.34"}
    # What is deleted is claimed no more, and changes keep their own.
    admin.change("vpn-connections", made["id"], name="again")
    admin.delete("vpn-connections", made["id"])
    assert "198.51.100.19" not in postgres.query("SELECT what FROM resource.claim")


def test_key_rotation(service, postgres):
    """Keys are sealed anew under a new key; afterwards the old one is of no use. An earlier release's rows, which name no key, are taken along."""
    admin = service.admin
    make_region(admin)
    make_tutorial(admin)
    directory = service.directory

    def names():
        return set(postgres.query("SELECT DISTINCT coalesce(key_id, '-') FROM resource.sealed_key").split())

    (first,) = names()
    postgres.query("UPDATE resource.sealed_key SET key_id = NULL WHERE tunnel_id = (SELECT min(tunnel_id) FROM resource.sealed_key)")
    (directory / "old.key").write_text("5e" * 32 + "\n")
    (directory / "secret.key").write_text("7a" * 32 + "\n")
    service.environment["TWINSPAN_SECRET_KEY_OLD_FILE"] = f"{directory}/old.key"
    service.kill()
    service.start()
    service.wait_until(lambda: len(names()) == 1 and names() != {first} and names() != {"-"})
    assert "keys-sealed-anew" in service.log()
    del service.environment["TWINSPAN_SECRET_KEY_OLD_FILE"]
    service.kill()
    service.start()
    keys = service.bus("ike.node-a").replicate("resource", "tunnel_secret", T.TunnelSecret)
    keys.wait(lambda rows: [row.pre_shared_key.decode() for row in rows.values()] == [CANARY])
    assert "sealed-key-does-not-open" not in service.log()
    assert 'twinspan_resource_unreadable{what="sealed-key"} 0' in service.metrics()


class Pair:
    """A primary and its synchronous standby."""

    def __init__(self):
        self.primary, self.standby = api.Postgres(settings="-c synchronous_standby_names='*'"), api.Postgres(initialised=False)
        self.primary.start()
        self.primary._run("pg_basebackup", "-h", self.primary.directory, "-U", "postgres", "-D", self.standby.directory / "db", "-R", "-X", "stream",
                          "-c", "fast")
        self.standby.start()
        self.where = f"host={self.primary.directory},{self.standby.directory} user=postgres dbname=postgres"

    def remove(self):
        self.primary.remove()
        self.standby.remove()


@pytest.mark.parametrize("end", ["killed", "frozen"])
def test_failover(tmp_path, end):
    """A synchronous standby is promoted under load, the primary being killed or frozen: writes go on within 10 s, nothing acknowledged is lost,
    and the former primary, back again, is not believed."""
    pair = Pair()
    service = api.Resource(tmp_path, pair)
    service.start()
    admin, acknowledged, stop = service.admin, [], threading.Event()
    gap, last = [0.0], [time.monotonic()]

    def write(number):
        client, count = service.client(api.ADMIN), 0
        while not stop.is_set():
            count += 1
            with contextlib.suppress(OSError):
                answer = client.call("POST", "/v1/vpcs", {"name": f"w{number}-{count}", "cidrBlocks": ["10.0.0.0/16"]})
                if answer.status == 201:
                    acknowledged.append((answer.json["id"], answer.json["name"]))
                    gap[0], last[0] = max(gap[0], time.monotonic() - last[0]), time.monotonic()
                else:
                    time.sleep(0.05)

    admin.make("quotas", name="default", vpcs=100000)
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        service.wait_until(lambda: len(acknowledged) > 20, seconds=30)
        backends = pair.primary.processes()
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):  # it ends by itself when the first of them has
                os.kill(pid, signal.SIGSTOP if end == "frozen" else signal.SIGKILL)
        if end == "killed":  # or whoever cleans up waits a minute for the end of a process that nobody reaps
            (pair.primary.directory / "db/postmaster.pid").unlink()
        before = len(acknowledged)
        pair.standby._run("pg_ctl", "-D", pair.standby.directory / "db", "-w", "promote")
        service.wait_until(lambda: len(acknowledged) > before + 20, seconds=30)
        assert admin.list("vpcs")
        # Whoever still reaches the former primary could be told what is no more so.
        if end == "frozen":
            for pid in backends:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    try:
        shown = {row["id"]: row["name"] for row in admin.list("vpcs")}
        assert all(shown[name] == label for name, label in acknowledged)
        assert set(pair.standby.query("SELECT id FROM resource.object WHERE kind = 'vpc'").split()) == set(shown)
        print(f"{len(acknowledged)} acknowledged, longest gap {gap[0]:.1f} s")
    finally:
        service.close()
        pair.remove()
