"""The downloaded configuration for strongSwan and BIRD, installed on a real device against another strongSwan in the cloud's place: the tunnel
comes up by itself, BGP runs inside it, and it comes back when the peer died."""
import pathlib
import shutil
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/lab")]
import api  # noqa: E402
import device as lab  # noqa: E402
from device import ns  # noqa: E402
from test_api import make_region  # noqa: E402

PREFIX = "twcfg-"
KEY = "A.real_key_for_both"

pytestmark = pytest.mark.skipif(not pathlib.Path("/usr/lib/ipsec/charon").exists() or not shutil.which("bird"), reason="no strongSwan and BIRD")


def tunnel_of(admin, **options):
    """A connection to one device; its first tunnel."""
    make_region(admin)
    gateway = admin.make("border-gateways")
    customer = admin.make("customer-gateways", asn=65010, publicAddresses=["203.0.113.1"])
    connection = admin.make("vpn-connections", borderGatewayId=gateway["id"], customerGatewayId=customer["id"])
    return admin.call("POST", f"/v1/vpn-connections/{connection['id']}/tunnels", {"ike": {"preSharedKey": KEY}, **options}).json["items"][0]


def write_files(admin, tunnel, directory):
    """What the command line does with the text: a file for each section, the key in its place."""
    answer = admin.call("GET", f"/v1/vpn-tunnels/{tunnel['id']}/configuration?vendor=strongswan-bird")
    assert answer.status == 200, answer
    directory.mkdir()
    for section in answer.raw.decode().split("#### ")[1:]:
        name, _, text = section.partition("\n")
        (directory / name).write_text(text.replace("@PRE_SHARED_KEY@", KEY))


@pytest.fixture
def boxes(tmp_path):
    router = lab.Router(PREFIX)
    router.up()
    cloud, customer = (lab.Device(name, address, PREFIX, str(tmp_path)) for name, address in [("cloud", "198.51.100.17"), ("customer", "203.0.113.1")])
    try:
        for box in (cloud, customer):
            box.plug()
        yield cloud, customer
    finally:
        for box in (cloud, customer):
            ns.end_processes(ns.processes_in(box.netns))
            box.remove()
        ns.remove_namespace(router.netns)


def announce(box, prefix):
    (pathlib.Path(box.private_run) / "idc.conf").write_text(f"protocol static idc {{ ipv4; route {prefix} blackhole; }}\n")


def is_up(box):
    sas = box.swanctl("--list-sas", check=False)
    return "ESTABLISHED" in sas and "INSTALLED" in sas


@pytest.mark.parametrize("options,ike,esp", [
    ({}, "aes256gcm16-prfsha256-x25519", "aes256gcm16-x25519"),
    ({"ike": {"preSharedKey": KEY, "encryption": ["AES128"], "integrity": ["SHA2_256"], "dhGroups": [14]},
      "ipsec": {"encryption": ["AES128"], "integrity": ["SHA2_256"], "pfsGroups": [0]}, "insideCidr": "169.254.99.0/30"},
     "aes128-sha256-modp2048", "aes128-sha256"),
    ({"localId": "branch-1", "remoteId": "me@example.com"}, "aes256gcm16-prfsha256-x25519", "aes256gcm16-x25519"),
])
def test_device_comes_up(service, boxes, tmp_path, options, ike, esp):  # noqa: F811
    cloud, customer = boxes
    if "insideCidr" in options:  # given for one tunnel: not by the layout
        options = {**options, "cloudAddress": "198.51.100.17", "customerAddress": "203.0.113.1"}
    tunnel = tunnel_of(service.admin, **{"dpd": {"intervalSeconds": 1, "timeoutSeconds": 3}, "bgp": {"holdTime": 6, "keepalive": 2}, **options})
    write_files(service.admin, tunnel, tmp_path / "customer")
    lab.write_configuration(str(tmp_path / "cloud"), cloud_address="203.0.113.1", customer_address="198.51.100.17", pre_shared_key=KEY,
                            cloud_inside=tunnel["customerInsideAddress"], customer_inside=tunnel["cloudInsideAddress"], cloud_asn=65010,
                            customer_asn=65000, ike=ike, esp=esp)
    peer = tmp_path / "cloud/swanctl.conf"
    for line, name in [("198.51.100.17", "localId"), ("203.0.113.1", "remoteId")]:
        for key in ("id =", "id-1 =", "id-2 ="):
            peer.write_text(peer.read_text().replace(f"{key} {line}\n", f"{key} {'keyid:' if name == 'localId' else ''}{options[name]}\n"
                                                     if name in options else f"{key} {line}\n"))
    announce(cloud, "10.0.0.0/16")
    announce(customer, "192.168.0.0/16")
    for box in (cloud, customer):
        box.install(str(tmp_path / box.name))
        box.start()
    ns.wait_until(lambda: is_up(customer), 60, "the tunnel")
    ns.wait_until(customer.session_established, 60, "the BGP session")
    ns.wait_until(lambda: "10.0.0.0/16 via " + tunnel["cloudInsideAddress"] in ns.ip(customer.netns, "route show proto bird"), 60, "the route")
    assert "192.168.0.0/16" in ns.ip(cloud.netns, "route show proto bird")
    assert ns.run("ping", "-c1", "-W2", tunnel["cloudInsideAddress"], netns=customer.netns)

    # The peer dies without a word: the device notices, keeps trying, and all is as before when it is back.
    ns.end_processes([pid for pid in ns.processes_in(cloud.netns)], patience=0)
    ns.wait_until(lambda: not is_up(customer), 60, "the device to notice")
    cloud.port_down()  # until it has its configuration: to the NO_PROPOSAL_CHOSEN of one without, strongSwan takes no second try
    cloud.start()
    cloud.port_up()
    ns.wait_until(lambda: is_up(customer), 60, "the tunnel again")
    ns.wait_until(customer.session_established, 60, "the BGP session again")


def test_static_routing(service, tmp_path):  # noqa: F811
    tunnel = tunnel_of(service.admin)
    service.admin.change("vpn-connections", tunnel["vpnConnectionId"], routing="STATIC")
    write_files(service.admin, tunnel, tmp_path / "files")
    text = (tmp_path / "files/bird.conf").read_text()
    assert "protocol bgp" not in text and "static" in text
    ns.run("bird", "-p", "-c", tmp_path / "files/bird.conf")
    ns.run("sh", "-n", tmp_path / "files/setup.sh")
    assert "ip route replace" in (tmp_path / "files/setup.sh").read_text()
