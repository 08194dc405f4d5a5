"""A resource service under test: its own PostgreSQL cluster on a Unix socket, bus keys, and a client of the REST API."""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import bus as lab

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", os.environ.get("B", TOP / "build")))
POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
ADMIN = "admin-token-of-the-test"


class Postgres:
    """A cluster of its own, run as user postgres, in a folder of its own: pytest closes the ones that it makes to other users."""

    def __init__(self, initialised=True, settings=""):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="twinspan-postgres-"))
        self.settings = settings
        shutil.chown(self.directory, "postgres")
        if initialised:
            self._run("initdb", "-D", self.directory / "db", "-A", "trust", "-U", "postgres", "--no-sync")
        self.where = f"host={self.directory} user=postgres dbname=postgres"

    def _run(self, command, *arguments):
        subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", POSTGRES / command, *map(str, arguments)],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def start(self):
        self._run("pg_ctl", "-D", self.directory / "db", "-w", "-l", self.directory / "log", "-o",
                  f"-k {self.directory} -c listen_addresses='' -c fsync=off {self.settings}", "start")

    def stop(self, mode="fast"):
        self._run("pg_ctl", "-D", self.directory / "db", "-w", "-m", mode, "stop")

    def remove(self):
        with contextlib.suppress(subprocess.CalledProcessError):  # a test that kills its server leaves none to stop
            self.stop("immediate")
        shutil.rmtree(self.directory)

    def query(self, sql):
        return subprocess.run([POSTGRES / "psql", "-h", self.directory, "-U", "postgres", "-Atc", sql], check=True, capture_output=True,
                              text=True).stdout.strip()

    def processes(self):
        """The server's, the first being the one that makes the others."""
        first = (self.directory / "db/postmaster.pid").read_text().split()[0]
        return [int(first), *map(int, subprocess.run(["ps", "-o", "pid=", "--ppid", first], capture_output=True, text=True, check=True).stdout.split())]

    def session(self):
        """A session that lasts: it can hold a lock."""
        return Session([POSTGRES / "psql", "-h", self.directory, "-U", "postgres", "-Atq"])

    def dump(self):
        return subprocess.run([POSTGRES / "pg_dump", "-h", self.directory, "-U", "postgres", "postgres"], check=True, capture_output=True).stdout


class Session:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, sql):
        """Waits until the statement is done; its rows."""
        self.process.stdin.write(f"{sql};\n\\echo =done=\n")
        self.process.stdin.flush()
        return [line.rstrip("\n") for line in iter(self.process.stdout.readline, "=done=\n")]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Answer:
    def __init__(self, response, raw):
        self.status, self.headers, self.raw = response.status, dict(response.getheaders()), raw
        self.type = self.headers.get("Content-Type", "")
        self.json = json.loads(raw) if "json" in self.type else None

    def __repr__(self):
        return f"{self.status} {self.raw[:600]!r}"


class Client:
    """Calls with one token. `heard` collects every answer's octets."""

    def __init__(self, where, token, heard):
        self.where, self.token, self.heard = where, token, heard

    def call(self, method, path, body=None, headers=None, raw=None):
        connection = http.client.HTTPConnection(*self.where, timeout=10)
        fields = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = raw
        if body is not None:
            data = json.dumps(body)
        if data is not None:
            fields["Content-Type"] = "application/json"
        fields.update(headers or {})
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # answered before the body was whole
                connection.request(method, path, data, {k: v for k, v in fields.items() if v is not None})
            response = connection.getresponse()
            octets = response.read()
        finally:
            connection.close()
        self.heard.append(octets)
        return Answer(response, octets)

    def _expect(self, status, *arguments, **named):
        answer = self.call(*arguments, **named)
        assert answer.status == status, answer
        return answer

    def make(self, kind, **fields):
        return self._expect(201, "POST", f"/v1/{kind}", fields).json

    def list(self, kind, query=""):
        """All pages of a list."""
        items, page = [], self._expect(200, "GET", f"/v1/{kind}{query}").json
        while "nextCursor" in page:
            items += page["items"]
            page = self._expect(200, "GET", f"/v1/{kind}{query}{'&' if query else '?'}cursor={page['nextCursor']}").json
        return items + page["items"]

    def show(self, kind, name):
        return self._expect(200, "GET", f"/v1/{kind}/{name}").json

    def change(self, kind, which, **fields):
        fields.setdefault("revision", self.show(kind, which)["revision"])
        return self._expect(200, "PATCH", f"/v1/{kind}/{which}", fields).json

    def delete(self, kind, name):
        self._expect(204, "DELETE", f"/v1/{kind}/{name}")

    def refused(self, status, method, path, body=None, field=None, **named):
        """A request that must fail with a proper problem document; returns the document."""
        answer = self._expect(status, method, path, body, **named)
        problem = answer.json
        assert answer.type == "application/problem+json" and problem["status"] == status, answer
        assert problem["title"] and problem["detail"] and problem["rule"] and problem["type"].startswith("urn:"), answer
        if field is not None:
            assert problem.get("field") == field, answer
        return problem


class Resource:
    """The service, its keys and endpoints, and the buses of other identities beside it."""

    def __init__(self, directory, postgres, nodes=("node-a", "node-b")):
        self.directory = pathlib.Path(directory)
        identities = ["resource", "route", "vrouter.host-1", *(f"{s}.{n}" for s in ("esp", "ike", "bgp") for n in nodes)]
        self.keys = lab.make_keys(f"{directory}/keys", identities)
        self.endpoints = lab.make_endpoints(f"{directory}/endpoints", {i: f"ipc://{directory}/{i}" for i in identities})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.where = probe.getsockname()
        (self.directory / "secret.key").write_text("5e" * 32 + "\n")
        (self.directory / "admin.token").write_text(ADMIN + "\n")
        self.environment = {
            "TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints, "TWINSPAN_HEALTH": f"unix:{directory}/health",
            "TWINSPAN_DATABASE": postgres.where, "TWINSPAN_HTTP": f"127.0.0.1:{self.where[1]}", "TWINSPAN_REGION": "test",
            "TWINSPAN_SECRET_KEY_FILE": f"{directory}/secret.key", "TWINSPAN_ADMIN_TOKEN_FILE": f"{directory}/admin.token",
            "TWINSPAN_LOG_LEVEL": "debug"}
        self.buses, self.heard, self.process = {}, [], None
        self.admin = self.client(ADMIN)

    def client(self, token):
        return Client(self.where, token, self.heard)

    def start(self, wait=True):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen([BUILD / "bin/twinspan-resource"], env={**os.environ, **self.environment}, stderr=log)
        if wait:
            self.wait_until(lambda: self.admin.call("GET", "/v1/nodes").status == 200)

    def wait_until(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert self.process.poll() is None, self.log()[-3000:]
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self):
        return (self.directory / "log").read_text()

    def bus(self, identity):
        if identity not in self.buses:
            self.buses[identity] = lab.Bus(identity, self.keys, self.endpoints)
        return self.buses[identity]

    def metrics(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{self.directory}/health")
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while chunk := client.recv(65536):
            text += chunk
        client.close()
        return text.decode()

    def close(self):
        try:
            if self.process and self.process.poll() is None:
                self.process.terminate()
                assert self.process.wait(10) == 0, self.log()[-3000:]
        finally:
            for bus in self.buses.values():
                bus.close()


CANARY = "Canary_Key_0987654321"
KINDS = ["nodes", "vpc-hosts", "vpcs", "subnets", "vpc-route-tables", "border-gateways", "vpc-attachments", "customer-gateways",
         "vpn-connections", "vpn-tunnels", "border-gateway-routes", "tokens", "quotas"]


def make_region(admin):
    admin.make("nodes", name="node-a", publicAddresses=[f"198.51.100.{n}" for n in range(17, 31)], fabricAddress="10.255.0.11")
    admin.make("nodes", name="node-b", publicAddresses=[f"198.51.100.{n}" for n in range(33, 47)], fabricAddress="10.255.0.12")
    admin.make("vpc-hosts", name="host-1", fabricAddress="10.255.0.21")


def make_tutorial(client, key=CANARY):
    """The tutorial's first steps, by any client; answers the rows by kind."""
    rows = {"vpcs": client.make("vpcs", name="vpc", cidrBlocks=["10.0.0.0/16"])}
    vpc = rows["vpcs"]["id"]
    rows["subnets"] = client.make("subnets", vpcId=vpc, cidr="10.0.1.0/24")
    rows["border-gateways"] = client.make("border-gateways", name="gateway")
    gateway = rows["border-gateways"]["id"]
    rows["vpc-attachments"] = client.make("vpc-attachments", vpcId=vpc, borderGatewayId=gateway)
    rows["vpc-route-tables"] = client.change("vpc-route-tables", rows["vpcs"]["defaultRouteTableId"], propagations=[{"borderGatewayId": gateway}])
    rows["customer-gateways"] = client.make("customer-gateways", asn=65010, publicAddresses=["203.0.113.1", "203.0.113.2"])
    rows["vpn-connections"] = client.make("vpn-connections", borderGatewayId=gateway, customerGatewayId=rows["customer-gateways"]["id"])
    connection = rows["vpn-connections"]["id"]
    answer = client.call("POST", f"/v1/vpn-connections/{connection}/tunnels", {"name": "tunnel", "ike": {"preSharedKey": key}})
    assert answer.status == 201, answer
    rows["tunnels"] = answer.json["items"]
    rows["vpn-tunnels"] = rows["tunnels"][0]
    rows["border-gateway-routes"] = client.make("border-gateway-routes", borderGatewayId=gateway, destination="172.16.0.0/12",
                                                nextHopType="VPN_CONNECTION", nextHopId=connection)
    return rows
