# The nine steps of the high-availability tutorial, through the command line, against two real devices. The demo shows them; the
# end-to-end tests stand on them. Everything a step says it saw was read from the command line, a device or the traffic itself.
import json
import os
import time

import namespaces as ns
import region
from customer import CUSTOMER_ASN, Device, Idc
from stream import Stream, lost_outside

VPC_CIDR, SUBNET_CIDR, VPC_HOST = "10.0.0.0/16", "10.0.1.0/24", "10.0.1.10"
IDC_PREFIX, IDC_HOST, IDC_GATEWAY = "192.168.0.0/16", "192.168.1.10", "192.168.1.1"
DEVICES = {"device-1": "203.0.113.1", "device-2": "203.0.113.2"}
# With the default settings of a tunnel, under traffic: the longest that a device which falls silent costs. Towards the IDC the cloud's liveness
# finds it out (services/ike/README.md) or the BGP session's hold time does, towards the VPC the device by that hold time: 3 s by the printed
# configuration (services/resource/README.md), and BIRD acts on it within a second.
SILENCE_SECONDS = 5
RATE = 100


class Tutorial:
    def __init__(self, tunnel_options=()):
        self.tunnel_options = list(tunnel_options)
        self.devices = [Device(name, address) for name, address in DEVICES.items()]
        self.idc = Idc()
        self.tunnels = []

    def build(self, until=8):
        """Steps 1 to `until` without a word, for tests."""
        for step in self.steps()[:until]:
            step[1]()
        return self

    def steps(self):
        return [
            ("A border gateway", self.border_gateway),
            ("A VPC attachment", self.attachment),
            ("A customer gateway with two addresses", self.customer_gateway),
            ("A VPN connection with BGP", self.connection),
            ("Two tunnels", self.add_tunnels),
            ("The customer's devices, both tunnels UP", self.configure_devices),
            ("BGP Established in both tunnels", self.sessions),
            ("Propagation both ways", self.propagation),
        ]

    # ---- steps 1 to 8: each returns the lines to show ----
    def border_gateway(self):
        self.bgw = region.twinspan("border-gateway", "create", "--name", "demo")
        return [f"{self.bgw['id']}: AS {self.bgw['asn']}, on {', '.join(self.bgw.get('nodeIds', [])) or 'its nodes'}"]

    def attachment(self):
        self.vpc = region.twinspan("vpc", "create", "--name", "demo", "--cidr-blocks", VPC_CIDR)
        self.subnet = region.twinspan("subnet", "create", "--name", "demo", "--vpc-id", self.vpc["id"], "--cidr", SUBNET_CIDR)
        self.att = region.twinspan("vpc-attachment", "create", "--name", "demo", "--border-gateway-id", self.bgw["id"],
                                   "--vpc-id", self.vpc["id"])
        self.route_table = self.vpc["defaultRouteTableId"]
        region.twinspan("vpc-route-table", "update", self.route_table, "--propagations",
                        f"borderGatewayId={self.bgw['id']}")
        self.vpc_netns = region.attach_workload("vpc-machine", self.subnet, VPC_HOST)
        return [f"{self.vpc['id']} {VPC_CIDR} with {self.subnet['id']} {SUBNET_CIDR}",
                f"{self.att['id']}: {self.vpc['id']} on {self.bgw['id']}, propagation {self.att['propagation']}",
                f"a machine {VPC_HOST} in the subnet"]

    def customer_gateway(self):
        self.cgw = region.twinspan("customer-gateway", "create", "--name", "demo", "--asn", CUSTOMER_ASN,
                                   "--public-addresses", ",".join(DEVICES.values()))
        return [f"{self.cgw['id']}: AS {self.cgw['asn']}, {' and '.join(self.cgw['publicAddresses'])}"]

    def connection(self):
        self.vpn = region.twinspan("vpn-connection", "create", "--name", "demo", "--border-gateway-id", self.bgw["id"],
                                   "--customer-gateway-id", self.cgw["id"])
        addresses = self.vpn["cloudAddresses"]
        if len({address["nodeId"] for address in addresses}) != 2:
            raise RuntimeError(f"the cloud addresses are not on two nodes: {addresses}")
        return [f"{self.vpn['id']}: routing {self.vpn['routing']}, cloud addresses "
                + " and ".join(f"{address['address']} on {address['nodeId']}" for address in addresses)]

    def add_tunnels(self):
        items = region.twinspan("vpn-connection", "add-tunnels", self.vpn["id"], *self.tunnel_options)["items"]
        by_customer = {tunnel["customerAddress"]: tunnel for tunnel in items}
        self.tunnels = [by_customer[device.address] for device in self.devices]
        for tunnel in self.tunnels:
            self._keep_key(tunnel)
        return [f"{tunnel['id']}: {tunnel['cloudAddress']} ({tunnel['nodeId']}) - {tunnel['customerAddress']}, "
                f"inside {tunnel['cloudInsideAddress']} - {tunnel['customerInsideAddress']}" for tunnel in self.tunnels]

    def _keep_key(self, tunnel):
        """The pre-shared key is shown once, when it is made."""
        os.makedirs(self._folder(tunnel), exist_ok=True)
        with open(os.open(self._key_file(tunnel), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
            out.write(tunnel["ike"].pop("preSharedKey") + "\n")

    def _folder(self, tunnel):
        return region.path("devices", "configuration", tunnel["id"])

    def _key_file(self, tunnel):
        return os.path.join(self._folder(tunnel), "pre-shared-key")

    def configure_devices(self):
        self.idc.up()
        self.idc_netns = self.idc.add_host("idc-host", IDC_HOST, IDC_GATEWAY)
        self.idc.start()
        for device, tunnel in zip(self.devices, self.tunnels):
            region.twinspan("vpn-tunnel", "configuration", tunnel["id"], "--vendor", "strongswan-bird", "--pre-shared-key-file",
                            self._key_file(tunnel), "--directory", self._folder(tunnel), parse=False)
            device.plug()
            self.idc.connect(device)
            device.install(self._folder(tunnel))
            device.write_idc_configuration([IDC_PREFIX])
            device.start()
        begin = time.monotonic()
        ns.wait_until(lambda: self.status() == ["UP", "UP"], 30, "both tunnels UP")
        return [f"{device.name} configured with what the command line printed for {tunnel['id']}"
                for device, tunnel in zip(self.devices, self.tunnels)] + [f"both tunnels UP {time.monotonic() - begin:.1f} s later, "
                                                                          f"connection {self.ha_status()}"]

    def sessions(self):
        ns.wait_until(lambda: self.bgp() == ["Established"] * 2 and all(device.session_established() for device in self.devices),
                      30, "two BGP sessions Established")
        return [f"{tunnel['cloudInsideAddress']} - {tunnel['customerInsideAddress']}: Established on both ends" for tunnel in self.tunnels]

    def propagation(self):
        self.wait_converged()
        routes = self.vpc_routes()
        lines = [f"border gateway: {IDC_PREFIX} through {' and '.join(self.effective_tunnels())}"]
        lines += [f"VPC table {self.route_table}: {route['destination']} {route['type']} by {route['nextHopId']}" for route in routes
                  if route["type"] == "PROPAGATED"]
        lines += [f"IDC router: {' '.join(self.idc.kernel_routes().split())}"]
        return lines

    # ---- what is so now ----
    def show(self, tunnel):
        return region.twinspan("vpn-tunnel", "show", tunnel["id"])

    def status(self):
        return [self.show(tunnel).get("runningStatus") for tunnel in self.tunnels]

    def bgp(self):
        return [self.show(tunnel).get("bgpState") for tunnel in self.tunnels]

    def ha_status(self):
        return region.twinspan("vpn-connection", "show", self.vpn["id"])["haStatus"]

    def effective_tunnels(self):
        """The tunnels that the IDC's prefix is reached through."""
        tables = region.twinspan("border-gateway", "show", self.bgw["id"]).get("routeTables", {})
        return sorted(tunnel for route in tables.get("effectiveRoutes", []) if route["destination"] == IDC_PREFIX
                      for tunnel in route.get("tunnelIds", []))

    def vpc_routes(self):
        return region.twinspan("vpc-route-table", "show", self.route_table).get("routes", [])

    def propagated(self):
        return any(route["destination"] == IDC_PREFIX and route["type"] == "PROPAGATED" and route["state"] == "EFFECTIVE"
                   for route in self.vpc_routes())

    def idc_paths(self):
        """Through how many devices the IDC router reaches the VPC."""
        route = self.idc.kernel_routes()
        return route.count("nexthop") or route.count(" via ")

    def wait_converged(self, seconds=30):
        both = sorted(tunnel["id"] for tunnel in self.tunnels)
        ns.wait_until(lambda: self.effective_tunnels() == both and self.propagated() and self.idc_paths() == 2, seconds,
                      f"{IDC_PREFIX} effective through both tunnels, and the VPC known to the IDC through both devices")

    def carried(self):
        """Inner packets that each device has taken out of its tunnel and put into it: [(to_idc, to_vpc), …]."""
        counts = []
        for device in self.devices:
            link = json.loads(ns.ip(device.netns, "-j -s link show dev ipsec0"))[0]["stats64"]
            counts.append((link["rx"]["packets"], link["tx"]["packets"]))
        return counts

    # ---- step 9 ----
    def ping(self, count=10):
        """Ping from the VPC's machine to the IDC's host; returns its summary."""
        text = ns.run("ping", "-n", "-c", count, "-i", "0.2", "-W", "2", IDC_HOST, netns=self.vpc_netns, check=False)
        summary = [line for line in text.splitlines() if "packet loss" in line]
        if not summary or " 0% packet loss" not in summary[0]:
            raise RuntimeError(f"ping {IDC_HOST} from {VPC_HOST}: {summary[0] if summary else text}")
        return summary[0]

    def stream(self, ports, rate=RATE):
        return Stream((self.vpc_netns, VPC_HOST), (self.idc_netns, IDC_HOST), ports, rate)

    def ports_through(self, index, tries=32):
        """Ports with which a flow goes through tunnel `index`, for each direction (each side chooses by its own hash of the
        five-tuple): so that a failure of that tunnel hits every packet of both."""
        found = {}
        for n in range(tries):
            ports = dict.fromkeys(("to_idc", "to_vpc"), (20000 + 100 * index + n, 30000 + index))
            before = self.carried()[index]
            stream = self.stream(ports, 200)
            time.sleep(0.1)
            result = stream.stop(0.05)
            for way, then, now in zip(("to_idc", "to_vpc"), before, self.carried()[index]):
                if now - then >= result[way]["sent"] * 0.8:
                    found.setdefault(way, ports[way])
            if len(found) == 2:
                return found
        raise RuntimeError(f"of {tries} flows each way only {found} go through {self.devices[index].name}")

    def moving(self, index, ways, seconds=0.5):
        """Does device `index` carry the stream in these directions (0: to the IDC, 1: to the VPC)?"""
        before = self.carried()[index]
        time.sleep(seconds)
        after = self.carried()[index]
        return all(after[way] - before[way] > RATE * seconds * 0.7 for way in ways)

    FAILURES = {
        "bgp-session-closed": (Device.close_session, Device.open_session, (0, 1)),
        "route-withdrawn": (Device.withdraw, Device.announce, (0,)),  # the device still knows the VPC: the other way stays
        "port-down": (Device.port_down, Device.port_up, (0, 1)),
    }

    def failover(self, kind, failing=0, patience=SILENCE_SECONDS + 5):
        """Makes one failure on a device under a stream that goes through its tunnel, undoes it; returns the report's object. `patience`: for how
        many seconds the move is waited for. Only `within` judges by the clock; `lost_elsewhen` are those that were lost although they were
        sent before the failure or after the move was seen."""
        make, undo, ways = self.FAILURES[kind]
        device, other = self.devices[failing], self.devices[1 - failing]
        expected = [self.tunnels[1 - failing]["id"]]
        ports = self.ports_through(failing)
        stream = self.stream(ports)
        result = {"kind": kind, "device": device.name, "tunnel": self.tunnels[failing]["id"], "limit_ms": SILENCE_SECONDS * 1000}
        try:
            time.sleep(1)
            begin = time.monotonic()
            make(device)
            result["switched"] = self._holds(lambda: self.effective_tunnels() == expected and self.moving(1 - failing, ways), patience)
            seen = time.monotonic()
            result["seen_after_s"] = round(seen - begin, 1)
            undo(device)
            back = time.monotonic()
            result["restored"] = self._restored(failing, ways)
            result["restored_after_s"] = round(time.monotonic() - back, 1)
            time.sleep(0.5)
            figures = stream.stop()
        finally:
            stream.kill()
        # What was on its way when the failure came was sent a moment earlier.
        result["lost_elsewhen"] = {way: lost_outside(figures[way], begin - 0.5, seen) for way in figures}
        for way in figures.values():
            del way["lost_sent_at"]
        result.update(lost=sum(way["lost"] for way in figures.values()), sent=sum(way["sent"] for way in figures.values()),
                      switch_ms=max(way["gap_ms"] for way in figures.values()), carried_by_after=other.name, directions=figures)
        result["within"] = self._within(result)
        return result

    def _restored(self, failing, ways):
        both = sorted(tunnel["id"] for tunnel in self.tunnels)
        return self._holds(lambda: self.effective_tunnels() == both and self.idc_paths() == 2 and self.propagated()
                           and self.moving(failing, ways), 40)

    @staticmethod
    def _holds(condition, seconds):
        try:
            return bool(ns.wait_until(condition, seconds, "it", 0.05))
        except TimeoutError:
            return False

    @staticmethod
    def _within(result):
        """At most 5 packets each way, or for a dead port no longer without traffic than a silent device may cost."""
        ways = result["directions"]
        if result["kind"] == "port-down":
            return all(figures["gap_ms"] <= result["limit_ms"] for figures in ways.values())
        return all(figures["lost"] <= 5 for figures in ways.values())
