"""Our ESP against scapy's, an implementation that shares nothing with ours: each decrypts what the other made, plain and in UDP, for every suite; and tshark
decrypts a capture of ours. The dataplane's core runs in build/test/tools/esp_oracle, so no privilege is needed."""

import os
import pathlib
import random
import subprocess

import pytest

scapy = pytest.importorskip("scapy.all")
from scapy.all import ICMP, IP, TCP, UDP, Ether, Raw, wrpcap  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
ORACLE = pathlib.Path(os.environ.get("TWINSPAN_BUILD", TOP / "build")) / "test/tools/esp_oracle"

OURS, THEIRS = "198.51.100.17", "203.0.113.1"
SPI_IN, SPI_OUT = 0x1001, 0x2002
# our name, key octets, scapy's name; our name, key octets, scapy's name
GCM = [("gcm128", 20, "AES-GCM", "none", 0, "NULL"), ("gcm256", 36, "AES-GCM", "none", 0, "NULL")]
MACS = [("sha1", 20, "HMAC-SHA1-96"), ("sha256", 32, "SHA2-256-128"), ("sha384", 48, "SHA2-384-192"), ("sha512", 64, "SHA2-512-256")]
CBC = [(f"cbc{bits}", bits // 8, "AES-CBC", *mac) for bits in (128, 192, 256) for mac in MACS]


class Oracle:
    def __init__(self, engine):
        if not ORACLE.exists():
            pytest.skip(f"{ORACLE} is not built (make test-tools)")
        self.process = subprocess.Popen([ORACLE, engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def out(self, command, octets):
        answer = self.ask(command, bytes(octets).hex())
        assert answer[0] == "out", answer
        return [bytes.fromhex(a) for a in answer[1:]]


@pytest.fixture(params=["ipsec-mb", "openssl"])
def oracle(request):
    oracle = Oracle(request.param)
    yield oracle
    oracle.process.stdin.close()
    oracle.process.wait(5)


def associate(oracle, suite, udp):
    """Installs one suite under fresh keys; gives scapy's two halves: what reads our packets, what makes theirs."""
    encryption, key_octets, crypt_name, integrity, mac_octets, mac_name = suite
    keys = [random.randbytes(key_octets) for _ in range(2)]
    macs = [random.randbytes(mac_octets) for _ in range(2)]
    answer = oracle.ask("sa", encryption, integrity, "udp" if udp else "plain", SPI_IN, keys[0].hex(), macs[0].hex() or "-", SPI_OUT, keys[1].hex(),
                        macs[1].hex() or "-")
    assert answer == ["ok"], answer

    def half(spi, key, mac, source, destination):
        return SecurityAssociation(ESP, spi=spi, crypt_algo=crypt_name, crypt_key=key, auth_algo=mac_name, auth_key=mac or None,
                                   tunnel_header=IP(src=source, dst=destination), nat_t_header=UDP(sport=4500, dport=4500) if udp else None)

    return half(SPI_OUT, keys[1], macs[1], OURS, THEIRS), half(SPI_IN, keys[0], macs[0], THEIRS, OURS)


def inner(source, destination):
    yield IP(src=source, dst=destination) / ICMP() / b"ping"
    for size in (0, 1, 2, 3, 63, 64, 511, 1300):
        yield IP(src=source, dst=destination, tos=0xB8) / UDP(sport=1, dport=2) / Raw(random.randbytes(size))
        yield IP(src=source, dst=destination, flags="DF") / TCP(sport=3, dport=4, flags="A", options=[("Timestamp", (1, 2))]) / Raw(random.randbytes(size))


def settle(packet):
    return bytes(IP(bytes(packet)))


@pytest.mark.parametrize("udp", [True, False], ids=["udp", "plain"])
@pytest.mark.parametrize("suite", GCM + CBC, ids=lambda s: f"{s[0]}-{s[3]}")
def test_scapy_reads_ours_and_we_read_scapys(oracle, suite, udp):
    ours, theirs = associate(oracle, suite, udp)
    for number, packet in enumerate(inner("10.0.1.2", "192.168.3.4"), 1):
        packet = settle(packet)
        (esp,) = oracle.out("encap", packet)
        assert int.from_bytes(esp[:4], "big") == SPI_OUT and int.from_bytes(esp[4:8], "big") == number
        outer = IP(src=OURS, dst=THEIRS)
        outer = outer / UDP(sport=4500, dport=4500) / Raw(esp) if udp else outer / ESP(esp)
        assert bytes(ours.decrypt(IP(bytes(outer)))) == packet
    for number, packet in enumerate(inner("192.168.3.4", "10.0.1.2"), 1):
        packet = settle(packet)
        sealed = theirs.encrypt(IP(packet), seq_num=number)
        esp = bytes(sealed[UDP].payload) if udp else bytes(sealed[ESP])
        assert oracle.out("decap", esp) == [packet]
        assert oracle.ask("decap", esp.hex()) == ["drop", "replay"]
        spoilt = bytearray(bytes(theirs.encrypt(IP(packet), seq_num=1000 + number))[28 if udp else 20 :])
        spoilt[-1] ^= 1
        assert oracle.ask("decap", bytes(spoilt).hex()) == ["drop", "authentication"]


def test_scapy_cannot_send_from_where_it_may_not(oracle):
    _, theirs = associate(oracle, GCM[0], True)
    cases = {("8.8.8.8", "10.0.1.2"): "inner_source", ("10.0.9.9", "10.0.1.2"): "inner_source", ("192.168.3.4", "192.168.9.9"): "inner_destination",
             ("192.168.3.4", "8.8.8.8"): "inner_destination", ("169.254.10.2", "10.0.1.2"): "inner_destination"}
    for number, ((source, destination), reason) in enumerate(cases.items(), 1):
        sealed = theirs.encrypt(IP(src=source, dst=destination) / UDP() / b"x", seq_num=number)
        assert oracle.ask("decap", bytes(sealed[UDP].payload).hex()) == ["drop", reason]


def test_tshark_reads_ours(tmp_path):
    oracle = Oracle("ipsec-mb")
    key, mac = random.randbytes(16), random.randbytes(32)
    assert oracle.ask("sa", "cbc128", "sha256", "plain", SPI_IN, key.hex(), mac.hex(), SPI_OUT, key.hex(), mac.hex()) == ["ok"]
    packets = [settle(p) for p in inner("10.0.1.2", "192.168.3.4")]
    capture = tmp_path / "ours.pcap"
    wrpcap(str(capture), [Ether() / IP(src=OURS, dst=THEIRS, proto=50) / Raw(oracle.out("encap", p)[0]) for p in packets])
    try:
        out = subprocess.run(
            ["tshark", "-r", str(capture), "-o", "esp.enable_encryption_decode:TRUE", "-o",
             f'uat:esp_sa:"IPv4","{OURS}","{THEIRS}","0x{SPI_OUT:08x}","AES-CBC [RFC3602]","0x{key.hex()}","HMAC-SHA-256-128 [RFC4868]","0x{mac.hex()}"',
             "-T", "fields", "-e", "ip.dst"], capture_output=True, text=True, timeout=60, check=True).stdout
    except FileNotFoundError:
        pytest.skip("tshark is not installed")
    lines = out.splitlines()
    assert len(lines) == len(packets)
    for line in lines:
        assert line.split(",") == [THEIRS, "192.168.3.4"], line
