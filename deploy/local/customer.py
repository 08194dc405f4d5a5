# The customer's side of the lab: devices (strongSwan with kernel-libipsec, and BIRD) and the data centre (IDC) behind them.
#
# A device is a namespace with two ports: `internet`, a cable to the simulated internet's router, and `idc`, a cable to the IDC
# router. Its files are what `twinspan vpn-tunnel configuration … --vendor strongswan-bird --directory D` writes:
# strongswan.conf, swanctl.conf, bird.conf, setup.sh. The customer's own part, which no cloud can print, is in idc.conf beside
# them, written here: the IDC's prefix and the BGP session with the IDC router.
#
# The IDC router speaks iBGP with every device and takes the VPC's routes from them, so hosts behind it follow a device that
# loses its cloud session within milliseconds.
import contextlib
import os
import re
import shutil

import namespaces as ns

CHARON = "/usr/lib/ipsec/charon"
CUSTOMER_ASN = 65010


class Router:
    """The simulated internet: one namespace; every port of it is a cable, the far end owns addresses of its own (/32)."""

    def __init__(self, prefix=ns.PREFIX):
        self.netns = prefix + "internet"

    def up(self):
        ns.add_namespace(self.netns)

    def connect(self, netns, port, gateway, routed):
        """A cable from `port` here to `internet` in `netns`, whose next hop is `gateway`; `routed` prefixes lie behind it."""
        ns.cable((self.netns, port), (netns, "internet"))
        ns.ip(self.netns, "addr add", f"{gateway}/32", "dev", port)
        for prefix in routed:
            ns.ip(self.netns, "route replace", prefix, "dev", port)

    def disconnect(self, port):
        ns.ip(self.netns, "link del", port, check=False)


def default_route(netns, gateway):
    ns.ip(netns, "route replace", gateway, "dev internet")
    ns.ip(netns, "route replace default via", gateway, "dev internet onlink")


class Device:
    """One customer device. The last octet n of its address gives its IDC port's: 192.168.255.4n+1, and 4n+2 at the IDC router."""

    INTERNET_GATEWAY = "203.0.113.254"

    def __init__(self, name, address, prefix=ns.PREFIX, run_directory=ns.RUN):
        self.name, self.address = name, address
        number = int(address.rpartition(".")[2]) % 60
        self.netns = prefix + name
        self.prefix = prefix
        self.directory = os.path.join(run_directory, "devices", name)
        self.private_run = os.path.join(self.directory, "run")
        self.idc_address = f"192.168.255.{4 * number + 1}"
        self.idc_router = f"192.168.255.{4 * number + 2}"

    # ---- the box ----
    def plug(self):
        """Makes the namespace and its internet port."""
        os.makedirs(self.private_run, exist_ok=True)
        router = Router(self.prefix)
        ns.add_namespace(self.netns)
        router.disconnect(self.name)
        router.connect(self.netns, self.name, self.INTERNET_GATEWAY, [f"{self.address}/32"])
        ns.ip(self.netns, "addr add", f"{self.address}/32", "dev internet")
        default_route(self.netns, self.INTERNET_GATEWAY)

    def remove(self):
        Router(self.prefix).disconnect(self.name)
        ns.remove_namespace(self.netns)
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- configuration ----
    def install(self, configuration):
        """Takes the four printed files from the folder `configuration`; the printed bird.conf includes the customer's own part."""
        for name in ("strongswan.conf", "swanctl.conf", "bird.conf", "setup.sh"):
            shutil.copy(os.path.join(configuration, name), os.path.join(self.private_run, name))
        os.chmod(os.path.join(self.private_run, "swanctl.conf"), 0o600)
        with open(os.path.join(self.private_run, "bird.conf"), "r+", encoding="ascii") as text:
            if "idc.conf" not in text.read():
                text.write('\ninclude "idc.conf";\n')

    def write_idc_configuration(self, prefixes, asn=CUSTOMER_ASN):
        """The customer's own part of BIRD's configuration, added to the printed one, and the device's own routes to the IDC."""
        routes = "\n".join(f"\troute {prefix} via {self.idc_router};" for prefix in prefixes)
        for prefix in prefixes:
            ns.ip(self.netns, "route replace", prefix, "via", self.idc_router)
        with open(os.path.join(self.private_run, "idc.conf"), "w", encoding="ascii") as out:
            out.write(f"""log stderr all;
debug protocols {{ states, events }};
# The IDC behind this device: its prefixes, which the session to the cloud announces, and the IDC router.
protocol static idc {{
	ipv4;
{routes}
}}
protocol bgp idc_router {{
	local {self.idc_address} as {asn};
	neighbor {self.idc_router} as {asn};
	connect retry time 1;
	connect delay time 1;
	error wait time 1, 1;
	ipv4 {{
		import none;
		export where source = RTS_BGP;
		next hop self;
	}};
}}
""")

    # ---- its daemons ----
    def start(self):
        self.start_charon()
        self.setup()
        self.load()
        self.start_bird()

    def start_charon(self):
        """charon with this device's folder as its /run, where it keeps its pid file and the vici socket."""
        for name in ("charon.pid", "charon.vici"):
            if os.path.exists(f"{self.private_run}/{name}"):
                os.unlink(f"{self.private_run}/{name}")
        if ns.root_is_a_mount():
            command = ["unshare", "--mount", "sh", "-c", f"mount --bind {self.private_run} /run && exec {CHARON}"]
            seen_at = "/run"
        else:
            # In a chroot no mount can be kept to oneself. charon refuses to start over the pid file of another one.
            if os.path.exists("/run/charon.pid"):
                os.unlink("/run/charon.pid")
            command, seen_at = [CHARON], self.private_run
        with open(os.path.join(self.private_run, "charon.conf"), "w", encoding="ascii") as out:
            out.write(f"include {seen_at}/strongswan.conf\n"
                      f"charon {{ plugins {{ vici {{ socket = unix://{seen_at}/charon.vici }} }}\n"
                      "filelog { stderr { default = 1 } } }\n")
        ns.start(command, f"{self.directory}/charon.log", netns=self.netns,
                 environment={"STRONGSWAN_CONF": f"{seen_at}/charon.conf"}, cwd="/")
        ns.wait_until(lambda: os.path.exists(f"{self.private_run}/charon.vici"), 10, f"{self.name}: charon's start")

    def load(self):
        self.swanctl("--load-all", "--file", f"{self.private_run}/swanctl.conf")

    def setup(self):
        ns.run("sh", f"{self.private_run}/setup.sh", netns=self.netns)

    def start_bird(self):
        ns.start(["bird", "-f", "-c", f"{self.private_run}/bird.conf", "-s", f"{self.private_run}/bird.ctl"],
                 f"{self.directory}/bird.log", netns=self.netns, cwd=self.private_run)
        ns.wait_until(lambda: "Daemon is up" in self.birdc("show status", check=False), 10, f"{self.name}: BIRD's start")

    def swanctl(self, *arguments, check=True):
        return ns.run("timeout", "20", "swanctl", *arguments, "--uri", f"unix://{self.private_run}/charon.vici", check=check)

    def birdc(self, *arguments, check=True):
        return ns.run("birdc", "-s", f"{self.private_run}/bird.ctl", *" ".join(arguments).split(), check=check)

    # ---- what an operator does to it ----
    def cloud_protocol(self):
        """The name of the BGP protocol that speaks with the cloud: the one that is not the IDC router's."""
        rows = [line.split() for line in self.birdc("show protocols").splitlines()]
        names = [row[0] for row in rows if len(row) > 1 and row[1] == "BGP" and row[0] != "idc_router"]
        if len(names) != 1:
            raise RuntimeError(f"{self.name}: expected one session with the cloud, found {names}")
        return names[0]

    def session_established(self):
        return "Established" in self.birdc("show protocols", self.cloud_protocol(), check=False)

    def close_session(self):
        self.birdc("disable", self.cloud_protocol())

    def open_session(self):
        self.birdc("enable", self.cloud_protocol())

    def withdraw(self):
        self.birdc("disable idc")

    def announce(self):
        self.birdc("enable idc")

    def set_rekey_times(self, seconds):
        """The device's own timers for both kinds of SA, kept apart from each other; the tunnel is negotiated anew."""
        name = os.path.join(self.private_run, "swanctl.conf")
        timers = ("rekey_time", "over_time", "life_time", "rand_time")
        out = []
        with open(name, encoding="ascii") as text:
            for line in text.read().splitlines():
                word = line.split()[0] if line.split() else ""
                if word in timers:
                    continue
                out.append(line)
                indent = line[:len(line) - len(line.lstrip())]
                if word == "version":
                    out += [f"{indent}rekey_time = {seconds}s", f"{indent}over_time = {seconds + 60}s", f"{indent}rand_time = 1s"]
                if word == "local_ts":
                    out += [f"{indent}rekey_time = {seconds}s", f"{indent}life_time = {2 * seconds + 60}s", f"{indent}rand_time = 1s"]
        with open(name, "w", encoding="ascii") as text:
            text.write("\n".join(out) + "\n")
        self.swanctl("--load-all", "--file", name)

    def connection(self):
        """The name of the one connection that charon has."""
        return self.swanctl("--list-conns").split(":")[0].strip()

    def rekeys(self):
        """How many SAs of each kind charon says were rekeyed, whoever asked."""
        with open(f"{self.directory}/charon.log", encoding="utf-8", errors="replace") as text:
            log = text.read()
        return {"child": len(re.findall(r"outbound CHILD_SA \S+ established", log)), "ike": len(re.findall(r"IKE_SA \S+ rekeyed between", log))}

    def port_down(self):
        ns.ip(self.netns, "link set internet down")

    def port_up(self):
        ns.ip(self.netns, "link set internet up")
        default_route(self.netns, self.INTERNET_GATEWAY)  # the kernel forgot it with the port


class DeviceOnNetwork(Device):
    """A device with a port in a network of a Docker engine (the `internet` of a region in containers); the data centre behind it is one interface."""

    def __init__(self, name, address, network, idc_host="192.168.1.10/16", **options):
        super().__init__(name, address, prefix="tc-", **options)
        self.network, self.idc_host = network, idc_host
        self.port = f"tc-{name}"[:15]

    def plug(self):
        bridge = "br-" + ns.run("docker", "network", "inspect", "-f", "{{.Id}}", self.network).strip()[:12]
        gateway = ns.run("docker", "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", self.network).strip()
        os.makedirs(self.private_run, exist_ok=True)
        ns.add_namespace(self.netns)
        ns.ip(None, "link del", self.port, check=False)
        ns.cable((None, self.port), (self.netns, "internet"))
        ns.ip(None, "link set", self.port, "master", bridge)
        ns.ip(self.netns, "addr add", f"{self.address}/24 dev internet")
        ns.ip(self.netns, "route add default via", gateway)
        ns.ip(self.netns, "link add idc type bridge")
        ns.ip(self.netns, "link set idc up")
        ns.ip(self.netns, "addr add", f"{self.idc_host} dev idc")

    def write_idc_configuration(self, prefixes, asn=CUSTOMER_ASN):
        routes = " ".join(f'route {prefix} via "idc";' for prefix in prefixes)
        with open(os.path.join(self.private_run, "idc.conf"), "w", encoding="ascii") as out:
            out.write(f"protocol static idc {{ ipv4; {routes} }}\n")

    def remove(self):
        ns.remove_namespace(self.netns)
        ns.ip(None, "link del", self.port, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


class Idc:
    """The data centre: a router that every device is connected to, and hosts behind it."""

    def __init__(self, prefix=ns.PREFIX, run_directory=ns.RUN, asn=CUSTOMER_ASN):
        self.prefix, self.asn = prefix, asn
        self.netns = prefix + "idc"
        self.directory = os.path.join(run_directory, "devices", "idc")

    def up(self):
        os.makedirs(self.directory, exist_ok=True)
        ns.add_namespace(self.netns)

    def connect(self, device):
        port = f"to-{device.name}"[:15]
        ns.ip(self.netns, "link del", port, check=False)
        ns.cable((self.netns, port), (device.netns, "idc"))
        ns.ip(self.netns, "addr add", f"{device.idc_router}/30", "dev", port)
        ns.ip(device.netns, "addr add", f"{device.idc_address}/30", "dev idc")
        with open(f"{self.directory}/session-{device.name}.conf", "w", encoding="ascii") as out:
            out.write(f"""protocol bgp {device.name.replace("-", "_")} {{
	local {device.idc_router} as {self.asn};
	neighbor {device.idc_address} as {self.asn};
	connect retry time 1;
	connect delay time 1;
	error wait time 1, 1;
	ipv4 {{ import all; export none; }};
}}
""")
        self.birdc("configure", check=False)  # before its start there is nobody to tell

    def disconnect(self, device):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.directory}/session-{device.name}.conf")
        ns.ip(self.netns, "link del", f"to-{device.name}"[:15], check=False)
        self.birdc("configure", check=False)

    def add_host(self, name, address, gateway, length=24):
        netns = self.prefix + name
        ns.add_namespace(netns)
        ns.cable((self.netns, name[:15]), (netns, "eth0"))
        ns.ip(self.netns, "addr add", f"{gateway}/{length}", "dev", name[:15])
        ns.ip(netns, "addr add", f"{address}/{length}", "dev eth0")
        ns.ip(netns, "route add default via", gateway)
        return netns

    def start(self):
        with open(f"{self.directory}/bird.conf", "w", encoding="ascii") as out:
            out.write("""router id 192.168.255.254;
protocol device { }
protocol direct { ipv4; }
protocol kernel {
	merge paths on;
	ipv4 { export where source = RTS_BGP; };
}
include "session-*.conf";
""")
        ns.start(["bird", "-f", "-c", f"{self.directory}/bird.conf", "-s", f"{self.directory}/bird.ctl"],
                 f"{self.directory}/bird.log", netns=self.netns, cwd=self.directory)
        ns.wait_until(lambda: "Daemon is up" in self.birdc("show status", check=False), 10, "the IDC router's start")

    def birdc(self, *arguments, check=True):
        return ns.run("birdc", "-s", f"{self.directory}/bird.ctl", *" ".join(arguments).split(), check=check)

    def kernel_routes(self):
        return ns.ip(self.netns, "route show proto bird")
