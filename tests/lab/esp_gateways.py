"""Two gateway nodes, each with a real twinspan-esp, joined by a veth; a host behind each. The other owners (resource, route, ike) are the lab's bus, so
security associations are what a test says they are. Needs root."""

import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests")]

from lab import bus as lab_bus  # noqa: E402

pb, rows = lab_bus.resource_pb2, lab_bus.tables_pb2
BUILD = pathlib.Path(os.environ.get("TWINSPAN_BUILD", TOP / "build"))
OUTER = ("203.0.113.1", "203.0.113.2")
HOSTS = ("10.1.0.2", "10.2.0.2")
NODES = ("node-1", "node-2")
GATEWAY, CONNECTION, GROUP = "bgw-test", "vpn-test", "nhg-test"


def octets(text):
    return socket.inet_aton(text)


def run(*command, netns=None, check=True, timeout=60):
    command = [str(word) for word in command]
    if netns:
        command = ["nsenter", f"--net=/run/netns/{netns}", "--", *command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def until(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


class Gateways:
    def __init__(self, tunnels=1, udp=True, mss="AUTO", workers=2):
        self.tag = f"espt{os.getpid() % 100000}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.tag}-"))
        self.h, self.g = (f"{self.tag}-h1", f"{self.tag}-h2"), (f"{self.tag}-g1", f"{self.tag}-g2")
        self.inner = tuple(f"{self.tag}-{node}-{GATEWAY}" for node in NODES)
        self.tunnels, self.udp, self.mss, self.workers = tunnels, udp, mss, workers
        self.processes, self.buses, self.generation = [None, None], {}, 0
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        for namespace in (*self.h, *self.g):
            run("ip", "netns", "add", namespace)
            run("ip", "link", "set", "lo", "up", netns=namespace)
        run("ip", "link", "add", "internet", "netns", self.g[0], "type", "veth", "peer", "name", "internet", "netns", self.g[1])
        for namespace, address in zip(self.g, OUTER):
            run("ip", "addr", "add", f"{address}/24", "dev", "internet", netns=namespace)
            run("ip", "link", "set", "internet", "up", netns=namespace)
        identities = ["resource", "route"] + [f"{service}.{node}" for node in NODES for service in ("esp", "ike", "bgp")]
        self.keys = lab_bus.make_keys(str(self.folder / "keys"), identities)
        self.endpoints = lab_bus.make_endpoints(str(self.folder / "endpoints"), {i: f"ipc://{self.folder}/{i}.bus" for i in identities})
        self.open_buses()
        for i in range(2):
            self.start_esp(i)
        # The name is there before the namespace is mounted on it.
        until(lambda: all(subprocess.run(["nsenter", f"--net=/run/netns/{name}", "ip", "link", "show", "vpn0"], capture_output=True).returncode == 0 for name in self.inner),
              "the border gateways' namespaces")
        for host, inner, net in zip(self.h, self.inner, ("10.1.0", "10.2.0")):
            run("ip", "link", "add", "gw", "netns", host, "type", "veth", "peer", "name", "lan", "netns", inner)
            for namespace, device, address in ((host, "gw", 2), (inner, "lan", 1)):
                run("ip", "addr", "add", f"{net}.{address}/24", "dev", device, netns=namespace)
                run("ip", "link", "set", device, "up", netns=namespace)
            run("ip", "route", "add", "default", "via", f"{net}.1", netns=host)
        self.wait_ping()

    def wait_ping(self, seconds=10):
        until(lambda: subprocess.run(["nsenter", f"--net=/run/netns/{self.h[0]}", "ping", "-c1", "-W1", HOSTS[1]], capture_output=True).returncode == 0, "a ping", seconds)

    def open_buses(self):
        self.buses = {name: lab_bus.Bus(name, self.keys, self.endpoints) for name in ("resource", "route", *(f"ike.{node}" for node in NODES))}
        self.publish()

    def close_buses(self):
        for bus in self.buses.values():
            bus.close()
        self.buses = {}

    def publish(self):
        own = lambda identity, *names: {name: self.buses[identity].own(name) for name in names}  # noqa: E731
        resource = own("resource", "node", "vpc_host", "border_gateway", "vpc", "vpc_attachment", "vpn_connection", "vpn_tunnel")
        self.route = own("route", "next_hop_group", "effective_route")
        self.ike = [own(f"ike.{node}", "child_sa", "ike_sa") for node in NODES]
        for i, node in enumerate(NODES):
            resource["node"].put(node, pb.Node(id=node, name=node, fabric_address=f"127.0.0.{i + 1}"))
            for t in range(self.tunnels):
                inside = (f"169.254.{100 + t}.{1 + i}", f"169.254.{100 + t}.{2 - i}")
                resource["vpn_tunnel"].put(self.tunnel(i, t), pb.VpnTunnel(
                    id=self.tunnel(i, t), vpn_connection_id=CONNECTION, cloud_address=OUTER[i], customer_address=OUTER[1 - i], admin_state=pb.ADMIN_STATE_UP,
                    inside_cidr=f"169.254.{100 + t}.0/30", maximum_segment_size=self.mss, border_gateway_id=GATEWAY, node_id=node,
                    cloud_inside_address=inside[0], customer_inside_address=inside[1]), scope=node)
            self.set_group(i, [0], commit=False)
            for net, hop in ((i + 1, {"attachment_id": "att-test"}), (2 - i, {"next_hop_group_id": f"{GROUP}{i}"})):
                self.route["effective_route"].put(f"{node}/{net}", rows.EffectiveRoute(
                    border_gateway_id=GATEWAY, destination=octets(f"10.{net}.0.0"), prefix_length=24, **hop), scope=node)
        resource["border_gateway"].put(GATEWAY, pb.BorderGateway(id=GATEWAY, asn=65000, allow_transit=False, node_ids=list(NODES)))
        if not hasattr(self, "sas"):
            self.sas = {}
            for t in range(self.tunnels):
                self.add_sa(t, commit=False)
        self.put_sas()
        for tables in (resource, self.route, *self.ike):
            for table in tables.values():
                table.complete()

    @staticmethod
    def tunnel(node, number):
        return f"tun-{node}{number}"

    def set_group(self, node, tunnels, commit=True):
        self.route["next_hop_group"].put(f"{GROUP}{node}", rows.NextHopGroup(
            id=f"{GROUP}{node}", border_gateway_id=GATEWAY, vpn_connection_ids=[CONNECTION],
            members=[rows.NextHopMember(tunnel_id=self.tunnel(node, t), vpn_connection_id=CONNECTION, node_id=NODES[node]) for t in tunnels]), scope=NODES[node])
        if commit:
            self.route["next_hop_group"].commit()

    def add_sa(self, tunnel, in_use=(True, True), commit=True):
        """A new pair of child SAs for the tunnel, on both sides; gives its number."""
        self.generation += 1
        directions = [rows.SaDirection(spi=secrets.randbelow(1 << 31) + 256, encryption_key=secrets.token_bytes(36)) for _ in range(2)]
        self.sas[self.generation] = [tunnel, directions, list(in_use)]
        if commit:
            self.put_sas()
        return self.generation

    def put_sas(self):
        for generation, (tunnel, directions, in_use) in self.sas.items():
            for i in range(2):
                port = 4500 if self.udp else 0
                self.ike[i]["child_sa"].put(f"{self.tunnel(i, tunnel)}/{directions[i].spi:08x}", rows.ChildSa(
                    tunnel_id=self.tunnel(i, tunnel), border_gateway_id=GATEWAY, inbound=directions[i], outbound=directions[1 - i], outbound_in_use=in_use[i],
                    generation=generation, encryption=rows.AES_GCM16_256, integrity=rows.NONE, udp_encapsulation=self.udp, local_address=octets(OUTER[i]),
                    remote_address=octets(OUTER[1 - i]), local_port=port, remote_port=port, replay_window=1024), scope=NODES[i])
        for side in self.ike:
            side["child_sa"].commit()

    def wait_applied(self):
        for node, side in zip(NODES, self.ike):
            side["child_sa"].wait_applied(f"esp.{node}")

    def remove_sa(self, generation):
        tunnel, directions, _ = self.sas.pop(generation)
        for i in range(2):
            self.ike[i]["child_sa"].remove(f"{self.tunnel(i, tunnel)}/{directions[i].spi:08x}")
            self.ike[i]["child_sa"].commit()

    def start_esp(self, i):
        state = self.folder / NODES[i]
        state.mkdir(exist_ok=True)
        environment = {
            **os.environ, "TWINSPAN_NODE": NODES[i], "TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints, "TWINSPAN_STATE": str(state),
            "TWINSPAN_SOCKETS": str(state / "sockets"), "TWINSPAN_NAMESPACE_PREFIX": f"{self.tag}-", "TWINSPAN_HEALTH": f"unix:{state}/http",
            "TWINSPAN_WORKERS": str(self.workers),
        }
        self.processes[i] = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.g[i]}", "--", BUILD / "bin/twinspan-esp"], env=environment,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(state / "log", "ab"))

    def kill_esp(self, i):
        self.processes[i].send_signal(signal.SIGKILL)
        self.processes[i].wait()

    def drops(self, i):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{self.folder}/{NODES[i]}/http")
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        return {reason: int(float(n)) for reason, n in re.findall(r'twinspan_esp_drops_total{reason="(\w+)"} (\S+)', text) if float(n)}

    def close(self):
        for process in self.processes:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        self.close_buses()
        for namespace in (*self.h, *self.g, *self.inner):
            run("ip", "netns", "del", namespace, check=False)
