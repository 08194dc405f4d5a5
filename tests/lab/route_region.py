"""A route under test, and the owners and readers around it, made of the bus in Python."""
import ipaddress
import os
import signal
import subprocess

import api
import bus as lab
from bus import resource_pb2 as R, tables_pb2 as T

BINARY = api.BUILD / "bin/twinspan-route"
NODES = ["node-a", "node-b"]


class Region:
    """A route under test, and the owners and readers around it."""

    def __init__(self, directory, database="", hosts=("host-1",), **settings):
        self.directory = str(directory)
        identities = ["resource", "route", *(f"vrouter.{host}" for host in hosts), *(f"{s}.{n}" for s in ("esp", "ike", "bgp") for n in NODES)]
        self.keys = lab.make_keys(f"{directory}/keys", identities)
        self.endpoints = lab.make_endpoints(f"{directory}/endpoints", {i: f"ipc://{directory}/{i}" for i in identities})
        self.buses, self.process, self.log = {}, None, open(f"{directory}/log", "ab")
        self.environment = {"TWINSPAN_KEYS": self.keys, "TWINSPAN_BUS": self.endpoints, "TWINSPAN_HEALTH": f"unix:{directory}/health",
                            "TWINSPAN_DATABASE": database, "TWINSPAN_NODE_TIMEOUT": "1000", **settings}

    def bus(self, identity):
        if identity not in self.buses:
            self.buses[identity] = lab.Bus(identity, self.keys, self.endpoints)
        return self.buses[identity]

    def silence(self, identity):
        self.buses.pop(identity).close()

    def own(self, identity, *names):
        return [self.bus(identity).own(name) for name in names]

    def start(self):
        self.process = subprocess.Popen([BINARY], env={**os.environ, **self.environment}, stderr=self.log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def replicate(self, name, message, reader="resource"):
        return self.bus(reader).replicate("route", name, message)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(10) == 0
        for bus in self.buses.values():
            bus.close()
        self.log.close()


def resource(region, learned_routes=300):
    """The tutorial's rows: a border gateway on two nodes, a VPC with one subnet, a BGP connection with two tunnels."""
    names = ["node", "vpc_host", "border_gateway", "vpc", "subnet", "vpc_route_table", "vpc_attachment", "vpn_connection", "vpn_tunnel",
             "border_gateway_route", "quota"]
    tables = dict(zip(names, region.own("resource", *names)))
    for number, node in enumerate(NODES):
        tables["node"].put(node, R.Node(id=node, fabric_address=f"10.255.0.{11 + number}", public_addresses=[f"198.51.100.{17 + number}"]))
    tables["vpc_host"].put("host-1", R.VpcHost(id="host-1", fabric_address="10.255.0.21"))
    tables["quota"].put("", R.Quota(static_routes=50, learned_routes=learned_routes))
    tables["border_gateway"].put("bgw-1", R.BorderGateway(id="bgw-1", tenant="acme", asn=65000, node_ids=NODES))
    tables["vpc"].put("vpc-1", R.Vpc(id="vpc-1", cidr_blocks=["10.0.0.0/16"], vpc_host_id="host-1"))
    tables["subnet"].put("sub-1", R.Subnet(id="sub-1", vpc_id="vpc-1", cidr="10.0.1.0/24"))
    tables["vpc_route_table"].put("rtb-1", R.VpcRouteTable(
        id="rtb-1", vpc_id="vpc-1", propagations=[R.Propagation(border_gateway_id="bgw-1", ranges=["0.0.0.0/0"])]))
    tables["vpc_attachment"].put("att-1", R.VpcAttachment(
        id="att-1", border_gateway_id="bgw-1", vpc_id="vpc-1", propagation=R.ATTACHMENT_PROPAGATION_ALL, order=1))
    tables["vpn_connection"].put("vpn-1", R.VpnConnection(id="vpn-1", border_gateway_id="bgw-1", routing=R.ROUTING_BGP))
    for tunnel, node in zip(["tun-a", "tun-b"], NODES):
        tables["vpn_tunnel"].put(tunnel, R.VpnTunnel(id=tunnel, vpn_connection_id="vpn-1", node_id=node, border_gateway_id="bgw-1",
                                                     admin_state=R.ADMIN_STATE_UP), scope=node)
    for table in tables.values():
        table.complete()
    return tables


def put_learned(table, tunnel, prefix, path=(65010,), communities=()):
    network = ipaddress.ip_network(prefix)
    table.put(f"{tunnel}/{prefix}", T.LearnedRoute(tunnel_id=tunnel, destination=network.network_address.packed,
                                                   prefix_length=network.prefixlen, as_path=path, as_path_length=len(path),
                                                   communities=communities))


def node_bgp(region, name, tunnel, prefixes, complete=True):
    sessions, learned = region.own(f"bgp.{name}", "bgp_session", "learned_route")
    sessions.put(tunnel, T.BgpSession(tunnel_id=tunnel, state="Established", remote_asn=65010))
    for prefix in prefixes:
        put_learned(learned, tunnel, prefix)
    for table in (sessions, learned) if complete else ():
        table.complete()
    return sessions, learned


def node(region, name, tunnel, prefixes=("192.168.0.0/16",), complete=True):
    """The services of one node, with its tunnel UP and its prefixes learned."""
    status, events = region.own(f"ike.{name}", "tunnel_status", "tunnel_event")
    sessions, learned = node_bgp(region, name, tunnel, prefixes, complete)
    (esp,) = region.own(f"esp.{name}", "node_status")
    status.put(tunnel, T.TunnelStatus(tunnel_id=tunnel, state=T.TunnelStatus.UP))
    for table in (status, events, esp) if complete else ():
        table.complete()
    return {"status": status, "learned": learned, "sessions": sessions, "esp": esp}
