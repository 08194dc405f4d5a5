"""The benchmark's topology and its peers: host - gateway - gateway - host over veth, the gateways being two strongSwan
(kernel-libipsec), so that both sides of a comparison carry the same traffic over the same links in the same run."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time

CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
OUTER = ("203.0.113.1", "203.0.113.2")
KEY = "benchmark.key.0123456789"


def run(*command, netns=None, check=True, timeout=60, **options):
    # Not by `ip -n` or `ip netns exec`: both want "/" to be a mount point, which it is not in a plain chroot.
    if netns:
        command = ("nsenter", f"--net=/run/netns/{netns}", "--", *command)
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, **options)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


class Topology:
    """Namespaces <tag>-h1 <tag>-g1 <tag>-g2 <tag>-h2 and the links between them; the inner side of each gateway is put where `inner` says."""

    def __init__(self, tag):
        self.tag = tag
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{tag}-"))
        self.h1, self.g1, self.g2, self.h2 = (f"{tag}-{n}" for n in ("h1", "g1", "g2", "h2"))
        self.processes = []
        for namespace in (self.h1, self.g1, self.g2, self.h2):
            run("ip", "netns", "del", namespace, check=False)
            run("ip", "netns", "add", namespace)
            run("ip", "link", "set", "lo", "up", netns=namespace)
        run("ip", "link", "add", "internet", "netns", self.g1, "type", "veth", "peer", "name", "internet", "netns", self.g2)
        for gateway, address in zip((self.g1, self.g2), OUTER):
            run("ip", "addr", "add", f"{address}/24", "dev", "internet", netns=gateway)
            run("ip", "link", "set", "internet", "up", netns=gateway)

    def hosts(self, inner1, inner2):
        """Joins the hosts to the namespaces in which the gateways' inner sides are."""
        for host, inner, net in ((self.h1, inner1, "10.1.0"), (self.h2, inner2, "10.2.0")):
            run("ip", "link", "add", "gw", "netns", host, "type", "veth", "peer", "name", "lan", "netns", inner)
            run("ip", "addr", "add", f"{net}.2/24", "dev", "gw", netns=host)
            run("ip", "addr", "add", f"{net}.1/24", "dev", "lan", netns=inner)
            run("ip", "link", "set", "gw", "up", netns=host)
            run("ip", "link", "set", "lan", "up", netns=inner)
            run("ip", "route", "add", "default", "via", f"{net}.1", netns=host)

    def spawn(self, namespace, *command, log, environment=None):
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", *map(str, command)],
            stdout=open(self.folder / log, "ab"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})},
        )
        self.processes.append(process)
        return process

    def wait(self, seconds=20):
        """Until a ping crosses both gateways."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if subprocess.run(["nsenter", f"--net=/run/netns/{self.h1}", "ping", "-c1", "-W1", SERVER], capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.tag}: no traffic passes after {seconds} s; logs in {self.folder}")

    def cpu_seconds(self):
        """CPU time of the gateways' processes so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        total = 0
        for process in self.processes:
            try:
                fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / ticks
            except OSError:
                pass
        return total

    def close(self, keep_logs=False):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for namespace in (self.h1, self.g1, self.g2, self.h2):
            run("ip", "netns", "del", namespace, check=False)
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)


def forward(namespace):
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", netns=namespace)


class PlainPair(Topology):
    """The limit: two kernels that forward over the same links, and no gateway software at all."""

    name = "plain forwarding"

    def __init__(self, tag="bench-pl"):
        super().__init__(tag)
        try:
            self.hosts(self.g1, self.g2)
            for gateway, net, other in ((self.g1, "10.2.0.0/24", OUTER[1]), (self.g2, "10.1.0.0/24", OUTER[0])):
                forward(gateway)
                run("ip", "route", "add", net, "via", other, netns=gateway)
            self.wait()
        except BaseException:
            self.close(keep_logs=True)
            raise


class StrongSwanPair(Topology):
    name = "strongSwan kernel-libipsec"

    def __init__(self, tag="bench-ss"):
        super().__init__(tag)
        try:
            self.hosts(self.g1, self.g2)
            for gateway in (self.g1, self.g2):
                forward(gateway)
            self.start(self.g1, OUTER[0], OUTER[1])
            self.start(self.g2, OUTER[1], OUTER[0])
            for gateway in (self.g1, self.g2):
                self.swanctl(gateway, "--load-all", "--file", self.folder / f"{gateway}.swanctl.conf")
            self.swanctl(self.g1, "--initiate", "--child", "c")
            for gateway, net in ((self.g1, "10.2.0.0/24"), (self.g2, "10.1.0.0/24")):
                run("ip", "route", "replace", net, "dev", "ipsec0", netns=gateway)
                run("ip", "route", "flush", "table", "220", netns=gateway, check=False)
            self.wait()
        except BaseException:
            self.close(keep_logs=True)
            raise

    def swanctl(self, gateway, *arguments):
        end = time.monotonic() + 20
        while True:
            result = subprocess.run(["swanctl", *map(str, arguments), "--uri", f"unix://{self.folder}/{gateway}.vici"], capture_output=True, text=True, timeout=20)
            if result.returncode == 0:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"swanctl {arguments[0]}: {result.stderr.strip() or result.stdout.strip()}")
            time.sleep(0.3)

    def start(self, gateway, local, remote):
        (self.folder / f"{gateway}.strongswan.conf").write_text(f"""charon {{
  load = random nonce openssl aes sha1 sha2 hmac gcm kdf kernel-libipsec kernel-netlink socket-default vici updown pem pkcs1 x509 pubkey curve25519
  install_routes = no
  threads = 32
  plugins {{ vici {{ socket = unix://{self.folder}/{gateway}.vici }} }}
}}
""")
        (self.folder / f"{gateway}.swanctl.conf").write_text(f"""connections {{ t {{ version = 2
 local_addrs = {local}
 remote_addrs = {remote}
 proposals = aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-ecp256
 local {{ auth = psk
 id = {local} }}
 remote {{ auth = psk
 id = {remote} }}
 children {{ c {{ local_ts = 0.0.0.0/0
 remote_ts = 0.0.0.0/0
 esp_proposals = aes256gcm16-ecp256 }} }} }} }}
secrets {{ ike-1 {{ id = {remote}
 secret = "{KEY}" }} }}
""")
        with open("/proc/self/mountinfo", encoding="ascii") as mounts:
            private = any(line.split()[4] == "/" for line in mounts)
        # charon refuses to start over the pid file of another one. In a plain chroot no mount can be kept to oneself.
        if not private and os.path.exists("/run/charon.pid"):
            os.unlink("/run/charon.pid")
        command = ("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run; exec /usr/lib/ipsec/charon") if private else ("/usr/lib/ipsec/charon",)
        self.spawn(gateway, *command, log=f"{gateway}.log", environment={"STRONGSWAN_CONF": str(self.folder / f"{gateway}.strongswan.conf")})
        end = time.monotonic() + 20
        while not os.path.exists(self.folder / f"{gateway}.vici") and time.monotonic() < end:
            time.sleep(0.05)
