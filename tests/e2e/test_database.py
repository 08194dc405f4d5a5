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
sys.path.insert(0, str(TOP / "tests/e2e"))
import api  # noqa: E402
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402
from test_api import CANARY, make_region, make_tutorial, postgres, service  # noqa: E402,F401

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
