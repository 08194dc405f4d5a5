"""Two Twinspan gateways (real esp and ike on each) in the benchmark's topology. What resource and route would say comes from the lab's bus."""

import os
import pathlib
import secrets
import time

import peers
from lab import bus as lab_bus

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
GATEWAY, CONNECTION, GROUP, TUNNEL = "bgw-bench", "vpn-bench", "nhg-bench", "tun-bench"
INSIDE = ("169.254.100.1", "169.254.100.2")
NODES = ("bench-1", "bench-2")


def prefix(text):
    address, _, length = text.partition("/")
    return bytes(map(int, address.split("."))), int(length)


class TwinspanPair(peers.Topology):
    name = "Twinspan"

    def __init__(self, tag="bench-tw", encapsulation="UDP", build=TOP / "build"):
        self.buses = []
        super().__init__(tag)
        self.binaries = pathlib.Path(build) / "bin"
        try:
            self.start(encapsulation)
            self.wait()
        except BaseException:
            self.close(keep_logs=True)
            raise

    def start(self, encapsulation):
        identities = ["resource", "route"] + [f"{service}.{node}" for node in NODES for service in ("esp", "ike", "bgp")]
        keys = lab_bus.make_keys(str(self.folder / "keys"), identities)
        endpoints = lab_bus.make_endpoints(str(self.folder / "endpoints"), {i: f"ipc://{self.folder}/{i}.bus" for i in identities})
        for identity in ("resource", "route"):
            self.buses.append(lab_bus.Bus(identity, keys, endpoints))
        self.feed(encapsulation)
        for node, namespace in zip(NODES, (self.g1, self.g2)):
            state = self.folder / node
            state.mkdir()
            (state / "seal.key").write_bytes(secrets.token_bytes(32))
            settings = {
                "TWINSPAN_NODE": node, "TWINSPAN_KEYS": keys, "TWINSPAN_BUS": endpoints, "TWINSPAN_STATE": str(state),
                "TWINSPAN_SOCKETS": str(state / "sockets"), "TWINSPAN_NAMESPACE_PREFIX": f"{self.tag}-", "TWINSPAN_SEAL_KEY_FILE": str(state / "seal.key"),
                "TWINSPAN_IKE_UID": "0", "TWINSPAN_BGP_UID": "0",
            }
            for service in ("esp", "ike"):
                self.spawn(namespace, self.binaries / f"twinspan-{service}", log=f"{service}.{node}.log",
                           environment={**settings, "TWINSPAN_HEALTH": f"unix:{state}/{service}.http"})
        inner = [f"{self.tag}-{node}-{GATEWAY}" for node in NODES]
        # Its file is there before the namespace is mounted on it: vpn0 says that it is whole.
        self.until(lambda: all(os.path.exists(f"/run/netns/{name}") and peers.run("ip", "link", "show", "vpn0", netns=name, check=False) for name in inner),
                   "the border gateways' namespaces")
        self.hosts(*inner)

    def until(self, condition, what, seconds=15):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"{self.tag}: waited {seconds} s for {what}; logs in {self.folder}")
            time.sleep(0.1)

    def feed(self, encapsulation):
        """Publishes one border gateway per node with one tunnel to the other node: each is the other's customer device."""
        pb, rows = lab_bus.resource_pb2, lab_bus.tables_pb2
        resource, route = self.buses
        tables = {name: resource.own(name) for name in (
            "node", "vpc_host", "border_gateway", "vpc", "subnet", "vpc_route_table", "vpc_attachment", "customer_gateway", "vpn_connection", "vpn_tunnel",
            "border_gateway_route", "tunnel_secret")}
        routes = {name: route.own(name) for name in ("next_hop_group", "effective_route", "border_gateway_route_row", "advertised_route", "vpc_route")}
        for i, node in enumerate(NODES):
            tables["node"].put(node, pb.Node(id=node, name=node, public_addresses=[peers.OUTER[i]], fabric_address=f"127.0.0.{i + 1}"))
            # One border gateway, one set of tables: the scope gives each node the rows of its own side.
            tunnel_id = f"{TUNNEL}{i + 1}"
            tunnel = pb.VpnTunnel(
                id=tunnel_id, vpn_connection_id=CONNECTION, cloud_address=peers.OUTER[i], customer_address=peers.OUTER[1 - i],
                admin_state=pb.ADMIN_STATE_UP, local_id=peers.OUTER[i], remote_id=peers.OUTER[1 - i], inside_cidr="169.254.100.0/30", inside_swapped=bool(i),
                rekey_margin_seconds=270, rekey_fuzz_percent=100, startup=pb.STARTUP_RESPOND if i else pb.STARTUP_INITIATE, maximum_segment_size="AUTO",
                border_gateway_id=GATEWAY, node_id=node, cloud_inside_address=INSIDE[i], customer_inside_address=INSIDE[1 - i],
                ike=pb.IkeOptions(version=pb.IKE_VERSION_V2, encryption=[pb.ENCRYPTION_AES256_GCM16], integrity=[pb.INTEGRITY_SHA2_256], dh_groups=[31], lifetime_seconds=28800),
                ipsec=pb.IpsecOptions(encryption=[pb.ENCRYPTION_AES256_GCM16], integrity=[pb.INTEGRITY_SHA2_256], pfs_groups=[31], lifetime_seconds=3600, lifetime_bytes=0,
                                      lifetime_packets=0, replay_window=1024, encapsulation=getattr(pb, f"ENCAPSULATION_{encapsulation}")),
                dpd=pb.DpdOptions(enabled=True, interval_seconds=10, timeout_seconds=30, action=pb.DPD_ACTION_RESTART),
                bgp=pb.BgpOptions(hold_time=30, keepalive=10))
            tables["vpn_tunnel"].put(tunnel_id, tunnel, scope=node)
            tables["tunnel_secret"].put(tunnel_id, rows.TunnelSecret(tunnel_id=tunnel_id, pre_shared_key=peers.KEY.encode()), scope=node)
            here, length = prefix(f"10.{i + 1}.0.0/24")
            there, _ = prefix(f"10.{2 - i}.0.0/24")
            routes["next_hop_group"].put(f"{GROUP}{i}", rows.NextHopGroup(
                id=f"{GROUP}{i}", border_gateway_id=GATEWAY, members=[rows.NextHopMember(tunnel_id=tunnel_id, vpn_connection_id=CONNECTION, node_id=node)],
                vpn_connection_ids=[CONNECTION]), scope=node)
            routes["effective_route"].put(f"{node}/{GATEWAY}/here", rows.EffectiveRoute(border_gateway_id=GATEWAY, destination=here, prefix_length=length, attachment_id="att-bench"), scope=node)
            routes["effective_route"].put(f"{node}/{GATEWAY}/there", rows.EffectiveRoute(border_gateway_id=GATEWAY, destination=there, prefix_length=length, next_hop_group_id=f"{GROUP}{i}"), scope=node)
        tables["border_gateway"].put(GATEWAY, pb.BorderGateway(id=GATEWAY, name="bench", asn=65000, allow_transit=False, node_ids=list(NODES)))
        tables["vpn_connection"].put(CONNECTION, pb.VpnConnection(id=CONNECTION, border_gateway_id=GATEWAY, routing=pb.ROUTING_STATIC))
        for table in (*tables.values(), *routes.values()):
            table.complete()

    def close(self, keep_logs=False):
        super().close(keep_logs)
        for bus in self.buses:
            bus.close()
        for node in NODES:
            peers.run("ip", "netns", "del", f"{self.tag}-{node}-{GATEWAY}", check=False)
