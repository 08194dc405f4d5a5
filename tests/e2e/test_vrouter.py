# vrouter against owners made of the bus in Python, with two gateway nodes' namespaces made by the socket side of esp (tests/tools/esp_sockets.c) and a
# workload in a subnet: what arrives at which node's vpn0, and what the kernel holds.
import ipaddress
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from scapy.all import IP, UDP

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
sys.path.insert(0, str(TOP / "tests/e2e"))
import bus as lab  # noqa: E402
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402
from test_sockets import Inside, Tool, sh  # noqa: E402

BINARY = os.environ.get("VROUTER_UNDER_TEST", str(TOP / "build/bin/twinspan-vrouter"))
NODES = {"node-a": "10.255.0.11", "node-b": "10.255.0.12"}
HOST = "10.255.0.21"
SERVICES = ["resource", "route", "esp.node-a", "esp.node-b", "vrouter.host-1"]


class Region(Inside):
    """A host with a vrouter, two gateway nodes, their fabric, and the tables' owners."""

    def __init__(self, directory):
        self.directory = str(directory)
        mark = f"t{os.getpid() % 10000:04x}"
        self.prefix = f"{mark}-"
        self.host, self.fabric = f"{mark}-host-1", f"{mark}-fabric"
        self.made, self.tools, self.buses, self.process = [], {}, {}, None
        self.vpc = f"{self.prefix}host-1-vpc-1"
        for netns in (self.fabric, self.host, *(f"{mark}-{node}" for node in NODES)):
            self.namespace(netns)
        sh("ip link add br0 mtu 2000 type bridge", netns=self.fabric)
        sh("ip link set br0 up", netns=self.fabric)
        for number, (netns, address) in enumerate([(self.host, HOST), *((f"{mark}-{node}", a) for node, a in NODES.items())]):
            self.cable(netns, "fabric", self.fabric, f"port{number}", "br0")
            sh("ip address add", f"{address}/24", "dev fabric", netns=netns)
        self.keys = lab.make_keys(f"{directory}/keys", SERVICES)
        self.endpoints = lab.make_endpoints(f"{directory}/endpoints", {i: f"ipc://{directory}/{i}" for i in SERVICES})
        self.log = open(f"{directory}/log", "ab")

    def namespace(self, netns):
        sh("ip netns add", netns)
        sh("ip link set lo up", netns=netns)
        self.made.append(netns)

    def cable(self, netns, name, other, other_name, bridge):
        sh(f"ip link add {name} mtu 2000 type veth peer name {self.prefix}x mtu 2000", netns=netns)
        sh(f"ip link set {self.prefix}x netns /run/netns/{other}", netns=netns)
        sh(f"ip link set {self.prefix}x name {other_name} master {bridge} up", netns=other)
        sh(f"ip link set {name} up", netns=netns)

    def gateway(self, node):
        """The border gateway's namespace on a node, with the VPC's attachment."""
        tool = Tool(f"{self.prefix}{node}", self.directory + f"/sockets-{node}", [self.prefix, node, "bgw-1"])
        self.made.append(f"{self.prefix}{node}-bgw-1")
        self.tools[node] = tool
        tool.command("attachment", "att-1", 77, NODES[node], *NODES.values(), HOST)
        tool.command("route", "10.0.1.0/24", "att-1", HOST)
        tool.command("address", f"169.254.8.{1 + 4 * list(NODES).index(node)}", 30)

    def bus(self, identity):
        if identity not in self.buses:
            self.buses[identity] = lab.Bus(identity, self.keys, self.endpoints)
        return self.buses[identity]

    def tables(self, complete=True):
        resource = ["vpc_host", "node", "border_gateway", "vpc", "vpc_route_table", "subnet", "vpc_attachment"]
        t = {name: self.bus("resource").own(name) for name in resource}
        t |= {name: self.bus("route").own(name) for name in ["next_hop_group", "vpc_route"]}
        t["vpc_host"].put("host-1", R.VpcHost(id="host-1", fabric_address=HOST))
        for node, address in NODES.items():
            t["node"].put(node, R.Node(id=node, fabric_address=address))
            status = self.bus(f"esp.{node}").own("node_status")
            status.put(node, T.NodeStatus(node_id=node))
            status.complete()
        t["border_gateway"].put("bgw-1", R.BorderGateway(id="bgw-1", asn=65000, node_ids=list(NODES)))
        t["vpc"].put("vpc-1", R.Vpc(id="vpc-1", cidr_blocks=["10.0.0.0/16"], vpc_host_id="host-1"))
        t["vpc"].put("vpc-2", R.Vpc(id="vpc-2", cidr_blocks=["10.0.0.0/16"], vpc_host_id="host-2"))
        t["vpc_route_table"].put("rtb-1", R.VpcRouteTable(id="rtb-1", vpc_id="vpc-1"))
        for name, number in (("sub-1", 1), ("sub-2", 2)):
            t["subnet"].put(name, R.Subnet(id=name, vpc_id="vpc-1", cidr=f"10.0.{number}.0/24", gateway_address=f"10.0.{number}.1",
                                           route_table_id="rtb-1"))
        t["vpc_attachment"].put("att-1", R.VpcAttachment(id="att-1", border_gateway_id="bgw-1", vpc_id="vpc-1", vni=77))
        group(t, NODES)
        route(t, "192.168.0.0/16")
        if complete:
            for table in t.values():
                table.complete()
        return t

    def start(self):
        environment = {"TWINSPAN_NODE": "host-1", "TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints,
                       "TWINSPAN_HEALTH": f"unix:{self.directory}/health", "TWINSPAN_NAMESPACE_PREFIX": self.prefix,
                       "TWINSPAN_FABRIC_MTU": "2000", "TWINSPAN_NODE_TIMEOUT": "500"}
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.host}", "--", BINARY],
                                        env={**os.environ, **environment}, stderr=self.log)
        if self.vpc not in self.made:
            self.made.append(self.vpc)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def get(self, path):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(f"{self.directory}/health")
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while more := connection.recv(65536):
                answer += more
        return answer.decode()

    def ready(self):
        try:
            return " 200 " in self.get("/readyz").splitlines()[0]
        except OSError:
            return False

    def metrics(self):
        return {name: float(value) for name, value in re.findall(r"^(twinspan_\S+) (\S+)$", self.get("/metrics").replace("\r", ""), re.M)}

    def changes(self):
        found = {name: value for name, value in self.metrics().items() if name.startswith("twinspan_vrouter_kernel_changes_total")}
        return {re.search('object="(.*)"', name)[1]: int(value) for name, value in found.items()}

    def workload(self, subnet="sub-1", address="10.0.1.10"):
        netns = f"{self.prefix}w-{subnet}"
        self.namespace(netns)
        self.cable(netns, "eth0", self.vpc, f"w-{subnet}", subnet)
        sh("ip address add", f"{address}/24", "dev eth0", netns=netns)
        sh("ip route add default via", address.rsplit(".", 1)[0] + ".1", netns=netns)
        return netns

    def flows(self, netns, destination="192.168.1.1", count=64):
        """Sends flows and says how many came out of each node's vpn0."""
        for tool in self.tools.values():
            tool.lines(0.05)
        for port in range(count):
            with self.inside(netns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind(("", 20000 + port))
                try:
                    sender.sendto(b"x", (destination, 9))
                except OSError:
                    pass  # an ICMP error of an earlier one
        arrived = {}
        for node, tool in self.tools.items():
            packets = [IP(bytes.fromhex(line.split()[1])[10:]) for line in tool.lines(0.2) if line.startswith("vpn0 ")]
            arrived[node] = sum(1 for p in packets if UDP in p and p.dst == destination)
        return arrived

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(10) == 0
        for bus in self.buses.values():
            bus.close()
        for tool in self.tools.values():
            tool.kill()
        for netns in reversed(self.made):
            sh("ip netns del", netns, check=False)
        self.log.close()


def group(tables, nodes, name="nhg-1"):
    tables["next_hop_group"].put(name, T.NextHopGroup(id=name, border_gateway_id="bgw-1", members=[
        T.NextHopMember(tunnel_id=f"tun-{node}", vpn_connection_id="vpn-1", node_id=node) for node in nodes]))


def route(tables, prefix, name="nhg-1", kind="PROPAGATED", table="rtb-1", effective=True):
    network = ipaddress.ip_network(prefix)
    tables["vpc_route"].put(f"{table}/{prefix}/{kind}/bgw-1", T.VpcRoute(
        vpc_route_table_id=table, vpc_id="vpc-1", destination=network.network_address.packed, prefix_length=network.prefixlen, type=kind,
        border_gateway_id="bgw-1", attachment_id="att-1", next_hop_group_id=name, effective=effective))


def commit(tables):
    for table in tables.values():
        if table.pending:
            table.commit()


def wait(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.fixture
def region(tmp_path):
    made = Region(tmp_path)
    yield made
    made.close()


def table_routes(region, table="all"):
    return sh("ip route show table", table, "proto 84", netns=region.vpc)


def test_flows_are_spread_and_move(region):
    tables = region.tables()
    for node in NODES:
        region.gateway(node)
    region.start()
    assert wait(region.ready), open(f"{region.directory}/log").read()
    netns = region.workload()
    arrived = region.flows(netns)
    assert sum(arrived.values()) == 64 and min(arrived.values()) >= 10, arrived

    # A lost node: one object, whatever the number of prefixes.
    for i in range(200):
        route(tables, f"172.16.{i}.0/24")
    commit(tables)
    assert wait(lambda: "172.16.199.0/24" in table_routes(region))
    before = region.changes()
    group(tables, ["node-b"])
    commit(tables)
    assert wait(lambda: region.changes()["group"] == before["group"] + 1)
    after = region.changes()
    assert after | {"group": 0} == before | {"group": 0}
    print("settle seconds:", region.metrics()["twinspan_vrouter_settle_seconds"])
    assert region.flows(netns) == {"node-a": 0, "node-b": 64}

    # None left: dropped, and not by a less specific route.
    route(tables, "0.0.0.0/0", "nhg-2")
    group(tables, ["node-a"], "nhg-2")
    commit(tables)
    assert wait(lambda: "default" in table_routes(region))
    group(tables, [])
    commit(tables)
    assert wait(lambda: region.changes()["group"] == after["group"] + 2)
    assert region.flows(netns) == {"node-a": 0, "node-b": 0}
    assert region.flows(netns, "8.8.8.8") == {"node-a": 64, "node-b": 0}
    group(tables, NODES)
    commit(tables)
    assert wait(lambda: min(region.flows(netns).values()) > 0)

    # What is the VPC's own never leaves, nor what no VPC may reach.
    assert region.flows(netns, "10.0.77.1") == {"node-a": 0, "node-b": 0}
    assert region.flows(netns, "169.254.8.1") == {"node-a": 0, "node-b": 0}

    # And back: from a gateway's namespace to the workload, and from subnet to subnet.
    other = region.workload("sub-2", "10.0.2.10")
    for source, address in ((f"{region.prefix}node-a-bgw-1", "10.0.1.10"), (other, "10.0.1.10")):
        receiver = region.inside(netns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((address, 4000))
        receiver.settimeout(2)
        sender = region.inside(source, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        sender.sendto(b"hello", (address, 4000))
        assert receiver.recv(100) == b"hello"
        receiver.close()


def test_a_killed_vrouter_leaves_all_standing_and_takes_over(region):
    tables = region.tables()
    for node in NODES:
        region.gateway(node)
    region.start()
    assert wait(region.ready)
    netns = region.workload()
    route(tables, "172.16.0.0/16")
    commit(tables)
    assert wait(lambda: "172.16.0.0/16" in table_routes(region))
    links = sh("ip -o link", netns=region.vpc)
    nexthops = sh("ip nexthop", netns=region.vpc)
    region.kill()
    assert sum(region.flows(netns).values()) == 64
    # While it is dead a route goes, one comes, and a rule is left behind that somebody changed half-way.
    tables["vpc_route"].remove("rtb-1/172.16.0.0/16/PROPAGATED/bgw-1")
    route(tables, "172.17.0.0/16")
    commit(tables)
    sh("ip rule add iif sub-1 priority 1000 lookup 4711 protocol 84", netns=region.vpc)
    sh(f"ip netns add {region.prefix}host-1-vpc-gone")
    region.start()
    assert wait(region.ready)
    assert region.changes() == {"route": 2, "rule": 1, "segment": 1, "namespace": 1, "bridge": 0, "nexthop": 0, "group": 0}
    assert not os.path.exists(f"/run/netns/{region.prefix}host-1-vpc-gone")
    routes = table_routes(region)
    assert "172.16.0.0/16" not in routes and "172.17.0.0/16" in routes
    assert "4711" not in sh("ip rule", netns=region.vpc)
    strip = re.compile(r"(state \S+|<\S+>)")
    assert strip.sub("", sh("ip -o link", netns=region.vpc)) == strip.sub("", links)
    assert sh("ip nexthop", netns=region.vpc) == nexthops
    assert sum(region.flows(netns).values()) == 64
    # Another VXLAN network identifier is another device; all that goes through it is set again.
    for node in NODES:
        region.tools[node].command("attachment", "att-1", 78, NODES[node], *NODES.values(), HOST)
    tables["vpc_attachment"].put("att-1", R.VpcAttachment(id="att-1", border_gateway_id="bgw-1", vpc_id="vpc-1", vni=78))
    commit(tables)
    assert wait(lambda: "vxlan id 78 " in sh("ip -d link show att-1", netns=region.vpc, check=False))
    assert wait(lambda: sum(region.flows(netns).values()) == 64)
    assert region.metrics()["twinspan_vrouter_kernel_failures_total"] == 0


def test_nothing_is_touched_before_the_tables_are_complete(region):
    tables = region.tables()
    region.start()
    assert wait(region.ready)
    region.kill()
    for bus in region.buses.values():
        bus.close()
    region.buses.clear()
    before = table_routes(region)
    tables = region.tables(complete=False)
    tables["vpc_route"].remove("rtb-1/192.168.0.0/16/PROPAGATED/bgw-1")
    commit(tables)
    for name, table in tables.items():
        if name != "next_hop_group":
            table.complete()
    region.start()
    time.sleep(1)
    assert not region.ready() and "next_hop_group" in region.get("/readyz")
    assert table_routes(region) == before
    tables["next_hop_group"].complete()
    assert wait(region.ready)
    assert "192.168.0.0/16" not in table_routes(region)


def test_routes_without_a_group_follow_the_nodes(region):
    tables = region.tables()
    for node in NODES:
        region.gateway(node)
    route(tables, "192.168.0.0/16", "", "STATIC")
    commit(tables)
    region.start()
    assert wait(region.ready)
    netns = region.workload()
    assert min(region.flows(netns).values()) > 0
    region.buses.pop("esp.node-a").close()
    assert wait(lambda: region.flows(netns, count=16) == {"node-a": 0, "node-b": 16}, 10)
    region.buses.pop("esp.node-b").close()  # rather not believe that all are gone
    assert wait(lambda: min(region.flows(netns).values()) > 0, 10)


def test_a_silent_node_is_skipped_without_route(region):
    """route still says that both nodes are members (it may be dead itself)."""
    region.tables()
    for node in NODES:
        region.gateway(node)
    region.start()
    assert wait(region.ready)
    netns = region.workload()
    assert min(region.flows(netns).values()) > 0
    before = region.changes()
    region.buses.pop("esp.node-a").close()
    assert wait(lambda: region.flows(netns, count=16) == {"node-a": 0, "node-b": 16}, 10)
    assert region.changes() == before | {"group": before["group"] + 1}
    status = region.bus("esp.node-a").own("node_status")
    status.complete()
    assert wait(lambda: min(region.flows(netns).values()) > 0, 10)


def test_equal_routes_through_two_border_gateways(region):
    tables = region.tables()
    tables["border_gateway"].put("bgw-2", R.BorderGateway(id="bgw-2", asn=65000, node_ids=list(NODES)))
    tables["vpc_attachment"].put("att-2", R.VpcAttachment(id="att-2", border_gateway_id="bgw-2", vpc_id="vpc-1", vni=78))
    group(tables, ["node-b"], "nhg-2")
    tables["vpc_route"].put("rtb-1/192.168.0.0/16/PROPAGATED/bgw-2", T.VpcRoute(
        vpc_route_table_id="rtb-1", vpc_id="vpc-1", destination=bytes([192, 168, 0, 0]), prefix_length=16, type="PROPAGATED",
        border_gateway_id="bgw-2", attachment_id="att-2", next_hop_group_id="nhg-2", effective=True))
    commit(tables)
    region.start()
    assert wait(region.ready)

    def devices():
        """None when a next hop was replaced between two looks."""
        number = re.search(r"192.168.0.0/16 nhid (\d+)", table_routes(region))[1]
        try:
            members = re.search(r"group (\S+)", sh(f"ip nexthop show id {number}", netns=region.vpc))[1].split("/")
            return sorted(re.search(r"dev (\S+)", sh(f"ip nexthop show id {member}", netns=region.vpc))[1] for member in members)
        except subprocess.CalledProcessError:
            return None

    assert wait(lambda: devices() == ["att-1", "att-1", "att-2"]), devices()
    group(tables, ["node-a"])
    commit(tables)
    assert wait(lambda: devices() == ["att-1", "att-2"])
    tables["vpc_route"].remove("rtb-1/192.168.0.0/16/PROPAGATED/bgw-2")
    commit(tables)
    assert wait(lambda: devices() == ["att-1"])


def test_a_vpc_goes_with_all_it_has(region):
    tables = region.tables()
    region.start()
    assert wait(region.ready)
    tables["vpc"].remove("vpc-1")
    commit(tables)
    assert wait(lambda: not os.path.exists(f"/run/netns/{region.vpc}"))
    tables["vpc"].put("vpc-1", R.Vpc(id="vpc-1", cidr_blocks=["10.0.0.0/16"], vpc_host_id="host-1"))
    commit(tables)
    assert wait(lambda: "192.168.0.0/16" in table_routes(region) if os.path.exists(f"/run/netns/{region.vpc}") else False)
    assert region.metrics()["twinspan_vrouter_kernel_failures_total"] == 0


def test_many_routes(region):
    tables = region.tables()
    region.start()
    assert wait(region.ready)
    count = 20000
    start = time.monotonic()
    for i in range(count):
        route(tables, f"{100 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24")
    commit(tables)
    put = time.monotonic() - start
    assert wait(lambda: region.metrics()['twinspan_vrouter_kernel_objects{object="route"}'] >= count, 30)
    print(f"{count} routes: put in {put:.2f} s, in the kernel after {time.monotonic() - start:.2f} s")
    before = region.changes()["group"]
    group(tables, ["node-a"])
    commit(tables)
    assert wait(lambda: region.changes()["group"] == before + 1)
    print("group change:", region.metrics()["twinspan_vrouter_settle_seconds"])
