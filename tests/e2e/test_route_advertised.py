"""What route tells the bgp of each node: of which connections, and with which attributes."""
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lab"))
from bus import resource_pb2 as R, tables_pb2 as T  # noqa: E402
from route_region import NODES, Region, node, put_learned, resource  # noqa: E402


@pytest.fixture
def region(tmp_path):
    made = Region(tmp_path)
    yield made
    made.close()


def test_a_bgp_is_told_of_connections_on_its_node_only(region):
    tables = resource(region)
    node(region, "node-a", "tun-a")
    node(region, "node-b", "tun-b")

    def put_tunnel(name, where):
        tables["vpn_tunnel"].put(name, R.VpnTunnel(id=name, vpn_connection_id="vpn-2", node_id=where, border_gateway_id="bgw-1"), scope=where)
        tables["vpn_tunnel"].commit()

    tables["vpn_connection"].put("vpn-2", R.VpnConnection(id="vpn-2", border_gateway_id="bgw-1", routing=R.ROUTING_BGP))
    tables["vpn_connection"].commit()
    put_tunnel("tun-c", "node-a")
    region.start()
    a, b = (region.replicate("advertised_route", T.AdvertisedRoute, f"bgp.{name}") for name in NODES)
    a.wait(lambda rows: set(rows) == {"vpn-1/node-a/10.0.1.0/24", "vpn-2/node-a/10.0.1.0/24"})
    b.wait(lambda rows: set(rows) == {"vpn-1/node-b/10.0.1.0/24"})
    put_tunnel("tun-d", "node-b")
    b.wait(lambda rows: set(rows) == {"vpn-1/node-b/10.0.1.0/24", "vpn-2/node-b/10.0.1.0/24"})
    assert not any("node-b" in key for key in a.rows)
    tables["vpn_tunnel"].remove("tun-d")
    tables["vpn_tunnel"].commit()
    b.wait(lambda rows: set(rows) == {"vpn-1/node-b/10.0.1.0/24"})
    with pytest.raises(TimeoutError):  # nor may it ask for another node's
        region.bus("bgp.node-b").replicate("route", "advertised_route", T.AdvertisedRoute, "node-a").wait(seconds=0.5)


def test_communities_are_told_on_where_there_is_transit(region):
    tables = resource(region)
    a = node(region, "node-a", "tun-a", prefixes=())
    node(region, "node-b", "tun-b", prefixes=())
    tables["border_gateway"].put("bgw-1", R.BorderGateway(id="bgw-1", tenant="acme", asn=65000, allow_transit=True, node_ids=NODES))
    tables["vpn_connection"].put("vpn-2", R.VpnConnection(id="vpn-2", border_gateway_id="bgw-1", routing=R.ROUTING_BGP))
    tables["vpn_tunnel"].put("tun-c", R.VpnTunnel(id="tun-c", vpn_connection_id="vpn-2", node_id="node-b", border_gateway_id="bgw-1"), scope="node-b")
    for name in ("border_gateway", "vpn_connection", "vpn_tunnel"):
        tables[name].commit()
    put_learned(a["learned"], "tun-a", "192.168.0.0/16", communities=[65010 << 16 | 7, 0xffff0000])
    put_learned(a["learned"], "tun-a", "192.168.7.0/24", communities=[0xffffff01])
    a["learned"].commit()
    region.start()
    advertised = region.replicate("advertised_route", T.AdvertisedRoute, "bgp.node-b")
    advertised.wait(lambda rows: {key for key in rows if key.startswith("vpn-2")} == {"vpn-2/node-b/10.0.1.0/24", "vpn-2/node-b/192.168.0.0/16"})
    row = advertised.rows["vpn-2/node-b/192.168.0.0/16"]
    assert (list(row.as_path), list(row.communities)) == ([65010], [65010 << 16 | 7, 0xffff0000])
