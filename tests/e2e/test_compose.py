# docker-compose.yml: what is in it is checked without an engine; then a region is run by an engine of the test's own.
import glob
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess

import namespaces as ns
import pytest
import region
import yaml
from conftest import TOP
from customer import CUSTOMER_ASN, DeviceOnNetwork

LONG_LIVED = {"database", "resource", "route", "esp-node-a", "ike-node-a", "bgp-node-a", "esp-node-b", "ike-node-b", "bgp-node-b",
              "vrouter-host-1"}
ONCE = {"secrets", "register", "twinspan"}
MAY_HAVE = {
    "esp": {"NET_ADMIN", "SYS_ADMIN", "NET_RAW", "NET_BIND_SERVICE"},
    "vrouter": {"NET_ADMIN", "SYS_ADMIN"},
    "secrets": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
}


def interpolated(value):
    """The defaults of ${NAME:-default}, as docker-compose fills them in."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def compose():
    with open(os.path.join(TOP, "docker-compose.yml"), encoding="utf-8") as text:
        return interpolated(yaml.safe_load(text))


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def kind_of(service):
    return service.partition("-")[0]


def program_of(service):
    return next((word for word in service["command"] if word.startswith("twinspan-")), None)


def endpoints(services):
    return dict(line.split() for line in services["secrets"]["environment"]["ENDPOINTS"].splitlines())


def identity_of(name):
    kind, _, place = name.partition("-")
    return f"{kind}.{place}" if place else kind


def test_every_service_of_the_architecture_is_there(services):
    assert set(services) == LONG_LIVED | ONCE
    for name in LONG_LIVED - {"database"}:
        assert program_of(services[name]) == f"twinspan-{kind_of(name)}", name
        if "-node-" in name or "-host-" in name:
            assert services[name]["environment"]["TWINSPAN_NODE"] == name.partition("-")[2], name


def test_long_lived_services_have_a_health_check_and_are_started_again(services):
    for name in LONG_LIVED:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name
        if name != "database":
            address, _, port = services[name]["environment"]["TWINSPAN_HEALTH"].rpartition(":")
            assert ipaddress.ip_address(address) and 1024 <= int(port) < 65536, name
    for name in ONCE:
        assert services[name]["restart"] == "no", name


def test_nobody_is_privileged(services):
    for name, service in services.items():
        assert not service.get("privileged"), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name
        assert set(service.get("cap_add", [])) <= MAY_HAVE.get(kind_of(name), set()), name
        for host in ("pid", "ipc", "userns_mode"):
            assert host not in service, name
        assert not any("seccomp" in option for option in service["security_opt"]), name
        assert "docker.sock" not in str(service.get("volumes")), name


def test_who_parses_hostile_packets_holds_nothing(services):
    for name in ("ike-node-a", "ike-node-b", "bgp-node-a", "bgp-node-b"):
        service = services[name]
        assert not service.get("cap_add") and not service.get("devices"), name
        uid, _, gid = service["user"].partition(":")
        assert int(uid) > 0 and int(gid) > 0, name
        node = name.partition("-")[2]
        assert service["network_mode"] == f"service:esp-{node}", name
        # What esp hands sockets to, and what the secrets are readable by, is that user.
        assert services[f"esp-{node}"]["environment"][f"TWINSPAN_{kind_of(name).upper()}_UID"] == uid, name
        assert f"{identity_of(name)} {uid}" in services["secrets"]["environment"]["RUN_AS"].splitlines(), name


def test_secrets_go_to_their_service_alone(compose, services):
    holders = {}
    for name, service in services.items():
        for volume in service["volumes"]:
            source, target, *options = volume.split(":")
            assert source in compose["volumes"], f"{name}: {volume}"
            if name != "secrets" and (source == "keys" or source.startswith("secrets-")):
                assert target == "/etc/twinspan" and options == ["ro"], f"{name}: {volume}"
                holders.setdefault(source, set()).add(name)
    assert "keys" not in holders
    for name in LONG_LIVED:
        assert holders.pop(f"secrets-{name}") == {name}
    assert holders == {"secrets-operator": {"register", "twinspan"}}
    made = {volume.split(":")[1] for volume in services["secrets"]["volumes"]}
    assert {f"/secrets/{identity_of(name)}" for name in LONG_LIVED} <= made


def test_addresses_agree(services):
    known = endpoints(services)
    assert set(known) == {identity_of(name) for name in LONG_LIVED - {"database"}}
    assert len(set(known.values())) == len(known)
    for name in LONG_LIVED - {"database"}:
        home = services[services[name].get("network_mode", "service:" + name).partition(":")[2]]
        fabric = home["networks"]["fabric"]["ipv4_address"]
        assert known[identity_of(name)].startswith(f"tcp://{fabric}:"), name
        assert services[name]["environment"]["TWINSPAN_HEALTH"].startswith(f"{fabric}:"), name
    registered = [line.split() for line in services["register"]["environment"]["NODES"].splitlines()]
    assert [line[0] for line in registered] == ["node-a", "node-b"]
    for name, fabric, public in registered:
        esp = services[f"esp-{name}"]
        assert fabric == esp["networks"]["fabric"]["ipv4_address"]
        assert public == esp["environment"]["PUBLIC_ADDRESSES"]
        assert public.split(",")[0] == esp["networks"]["internet"]["ipv4_address"]
    assert services["register"]["environment"]["VPC_HOSTS"] == f"host-1 {services['vrouter-host-1']['networks']['fabric']['ipv4_address']}"


def test_the_api_is_published_on_loopback_only(services):
    assert [name for name, service in services.items() if service.get("ports")] == ["resource"]
    assert services["resource"]["ports"] == ["127.0.0.1:8080:8080"]


def test_settings_are_those_that_the_readmes_document(services):
    for name, service in services.items():
        kind = {"secrets": "ctl", "register": "ctl", "twinspan": "ctl"}.get(name, kind_of(name))
        names = {setting for setting in service.get("environment", {}) if setting.startswith("TWINSPAN_")}
        if not names:
            continue
        with open(os.path.join(TOP, "services", kind, "README.md"), encoding="utf-8") as text:
            documented = set(re.findall(r"TWINSPAN_[A-Z_]+", text.read()))
        assert names <= documented, f"{name}: {sorted(names - documented)} not in services/{kind}/README.md"


def test_every_default_can_be_set_in_the_environment_file():
    with open(os.path.join(TOP, "docker-compose.yml"), encoding="utf-8") as text:
        used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text.read()))
    with open(os.path.join(TOP, "deploy", "env.example"), encoding="utf-8") as text:
        listed = dict(re.findall(r"^(\w+)=(.*)$", text.read(), re.M))
    listed.pop("COMPOSE_PROJECT_NAME")
    assert listed == used


def test_scripts_that_are_named_are_there(services):
    for name, service in services.items():
        for word in [*service["command"], *service.get("healthcheck", {}).get("test", [])]:
            if word.startswith("/usr/local/lib/twinspan/"):
                script = os.path.join(TOP, "deploy", "container", os.path.basename(word))
                assert os.access(script, os.X_OK), f"{name}: {word}"
    for script in glob.glob(os.path.join(TOP, "deploy", "container", "*")):
        subprocess.run(["sh", "-n", script], check=True)


# ---- with an engine ----
PROJECT = "twinspan-test"
SETTINGS = {"REGION": "test", "API_PORT": "18081", "INTERNET": "198.18.51", "FABRIC": "10.255.251", "API_NETWORK": "10.254.251",
            "IMAGE_TAG": "local"}
CUSTOMER = [SETTINGS["INTERNET"] + ".201", SETTINGS["INTERNET"] + ".202"]
TOKEN_FILE = os.path.join(TOP, "build", "test", "compose.token")
IDC_PREFIX, IDC_HOST, VPC_HOST = "192.168.0.0/16", "192.168.1.10", "10.0.1.10"


def docker(*arguments):
    return ns.run("docker", *arguments)


def docker_compose(*arguments, check=True):
    return ns.run("docker-compose", "-p", PROJECT, "--env-file", "deploy/env.example", *arguments, check=check, cwd=TOP,
                  env={**os.environ, **SETTINGS}, timeout=240)


def twinspan(*arguments):
    """The command line on this machine, over the published port."""
    environment = {**os.environ, "TWINSPAN_API": f"http://127.0.0.1:{SETTINGS['API_PORT']}", "TWINSPAN_TOKEN_FILE": TOKEN_FILE}
    text = ns.run(os.path.join(region.BIN, "twinspan"), *arguments, "--output", "json", env=environment)
    return json.loads(text) if text.strip() else None


def health(containers):
    return dict(line.split() for line in docker("inspect", "-f", "{{.Name}} {{.State.Health.Status}}", *containers).splitlines())


def named():
    """What an engine still has of this project."""
    return [line for kind in ("ps -a --format {{.Names}}", "volume ls -q", "network ls --format {{.Name}}")
            for line in docker(*kind.split()).splitlines() if line.startswith(PROJECT)]


class Engine:
    """A Docker engine of the test's own: it touches neither the machine's firewall nor another engine, and leaves nothing."""

    def __init__(self):
        self.home = os.path.join(TOP, "build", "test", "docker")
        self.log = os.path.join(TOP, "build", "test", "log", "dockerd.log")
        # A path of at most 107 octets, wherever the project is.
        self.socket = f"/run/twinspan-test-docker-{os.getpid()}.sock"
        self.process = None

    def start(self):
        self.remove_files()
        os.makedirs(self.home)
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--data-root", f"{self.home}/data", "--exec-root", f"{self.home}/exec", "--pidfile", f"{self.home}/pid", "--bridge=none",
                 "--iptables=false", "--ip6tables=false", "-H", f"unix://{self.socket}"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        os.environ["DOCKER_HOST"] = f"unix://{self.socket}"
        ns.wait_until(lambda: self.process.poll() is not None or self.answers(), 120, "the Docker engine's start", 0.2)
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                pytest.skip(f"a Docker engine does not start on this machine: {log.read().strip().splitlines()[-1]}")

    @staticmethod
    def answers():
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)
        os.environ.pop("DOCKER_HOST", None)
        self.remove_files()

    def remove_files(self):
        with open("/proc/self/mounts", encoding="ascii") as mounts:
            for mount in reversed([line.split()[1] for line in mounts if line.split()[1].startswith(self.home + "/")]):
                subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.home, ignore_errors=True)
        if os.path.exists(self.socket):
            os.unlink(self.socket)


@pytest.fixture(scope="module")
def engine():
    """The image, built as deploy/README.md says for a machine without a registry."""
    if not ns.root_is_a_mount():
        pytest.skip("this is a bare chroot: a Docker engine needs a root that is a mount")
    engine = Engine()
    try:
        engine.start()
        for command in (["sh", "deploy/base-image"], ["docker-compose", "-p", PROJECT, "build"]):
            ns.run(*command, cwd=TOP, env={**os.environ, "BUILD_NETWORK": "host"}, timeout=1800)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def running(engine):
    """A region of containers."""
    try:
        docker_compose("up", "-d", "--no-build")
        os.makedirs(os.path.dirname(TOKEN_FILE), exist_ok=True)
        with open(os.open(TOKEN_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
            out.write(docker_compose("exec", "-T", "resource", "cat", "/etc/twinspan/admin.token"))
        ns.wait_until(lambda: set(health(docker_compose("ps", "-q", *sorted(LONG_LIVED)).split()).values()) == {"healthy"}, 300, "every container healthy", 1)
        yield
    finally:
        docker_compose("down", "-v", "--remove-orphans", "-t", "5")
    assert not named()


@pytest.fixture(scope="module")
def tunnel(running):
    """A VPC, a border gateway and a connection; the first of its two tunnels, with its key."""
    gateway = twinspan("border-gateway", "create", "--name", "prod")
    vpc = twinspan("vpc", "create", "--name", "v", "--cidr-blocks", "10.0.0.0/16")
    subnet = twinspan("subnet", "create", "--name", "s", "--vpc-id", vpc["id"], "--cidr", "10.0.1.0/24")
    twinspan("vpc-attachment", "create", "--name", "a", "--border-gateway-id", gateway["id"], "--vpc-id", vpc["id"])
    twinspan("vpc-route-table", "update", vpc["defaultRouteTableId"], "--propagations", f"borderGatewayId={gateway['id']}")
    customer = twinspan("customer-gateway", "create", "--name", "dc", "--asn", CUSTOMER_ASN, "--public-addresses", ",".join(CUSTOMER))
    connection = twinspan("vpn-connection", "create", "--name", "c", "--border-gateway-id", gateway["id"],
                          "--customer-gateway-id", customer["id"])
    tunnels = twinspan("vpn-connection", "add-tunnels", connection["id"])["items"]
    assert {each["nodeId"] for each in tunnels} == {"node-a", "node-b"}
    ns.wait_until(lambda: [each["runningStatus"] for each in twinspan("vpn-tunnel", "list")["items"]] == ["CONNECTING"] * 2, 60, "both CONNECTING")
    docker_compose("exec", "-T", "vrouter-host-1", "/usr/local/lib/twinspan/workload", "machine", subnet["id"], f"{VPC_HOST}/24",
                   subnet["gatewayAddress"])
    return next(each for each in tunnels if each["customerAddress"] == CUSTOMER[0])


@pytest.fixture(scope="module")
def device(tunnel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    configuration = folder / "configuration"
    configuration.mkdir(mode=0o777)
    (configuration / "key").write_text(tunnel["ike"]["preSharedKey"] + "\n", encoding="ascii")
    box = DeviceOnNetwork("cdev", CUSTOMER[0], f"{PROJECT}_internet", f"{IDC_HOST}/16", run_directory=str(folder))
    # The command line of the image writes into a folder of this machine.
    docker_compose("run", "--rm", "-T", "-v", f"{configuration}:/out", "twinspan", "vpn-tunnel", "configuration", tunnel["id"], "--vendor",
                   "strongswan-bird", "--pre-shared-key-file", "/out/key", "--directory", "/out")
    try:
        box.plug()
        box.install(str(configuration))
        box.write_idc_configuration([IDC_PREFIX])
        box.start()
        yield box
    finally:
        box.remove()


def test_every_container_is_healthy(running):
    containers = docker_compose("ps", "-q", *sorted(LONG_LIVED)).split()
    assert len(containers) == len(LONG_LIVED)
    ns.wait_until(lambda: set(health(containers).values()) == {"healthy"}, 300, "health of all", 1)
    assert [node["id"] for node in twinspan("node", "list")["items"]] == ["node-a", "node-b"]


def test_tasks_may_be_done_again(running):
    before = docker_compose("exec", "-T", "resource", "cat", "/etc/twinspan/admin.token")
    docker_compose("up", "-d", "--no-build")
    docker_compose("run", "--rm", "-T", "secrets")
    assert docker_compose("exec", "-T", "resource", "cat", "/etc/twinspan/admin.token") == before
    assert len(twinspan("node", "list")["items"]) == 2


def test_a_service_sees_its_own_secrets_only(running):
    seen = docker_compose("exec", "-T", "ike-node-a", "sh", "-c", "ls /etc/twinspan/keys/*.secret; cat /proc/1/status")
    assert "/ike.node-a.secret" in seen and seen.count(".secret") == 1
    assert re.search(r"^CapBnd:\s+0+$", seen, re.M) and re.search(r"^NoNewPrivs:\s+1$", seen, re.M)


def test_a_customer_reaches_the_vpc(tunnel, device):
    ns.wait_until(lambda: twinspan("vpn-tunnel", "show", tunnel["id"])["runningStatus"] == "UP", 90, "the tunnel is UP")
    ns.wait_until(device.session_established, 90, "BGP is Established", 0.2)
    ns.wait_until(lambda: subprocess.run(ns.inside(device.netns) + ["ping", "-c1", "-W1", "-I", IDC_HOST, VPC_HOST], check=False,
                                         capture_output=True).returncode == 0, 60, "a ping through tunnel and VXLAN", 0.2)


def test_a_killed_dataplane_finds_its_namespaces_again(tunnel, device):
    node = f"esp-{tunnel['nodeId']}"
    before = docker_compose("exec", "-T", node, "sh", "-c", "pgrep -x twinspan-esp; stat -c %i /run/netns/*").split()
    docker_compose("exec", "-T", node, "pkill", "-KILL", "-x", "twinspan-esp")
    ns.run("ping", "-c20", "-i0.2", "-W1", "-I", IDC_HOST, VPC_HOST, netns=device.netns, check=False)
    ns.run("ping", "-c3", "-i0.2", "-W1", "-I", IDC_HOST, VPC_HOST, netns=device.netns)
    after = docker_compose("exec", "-T", node, "sh", "-c", "pgrep -x twinspan-esp; stat -c %i /run/netns/*").split()
    assert before[0] != after[0] and before[1:] == after[1:]
    assert device.session_established()


def test_a_process_that_ends_is_started_again(tunnel, device):
    """As the table in deploy/README.md says; `docker kill` is another thing: Docker takes it for its operator's wish."""
    container = docker_compose("ps", "-q", "route").strip()
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", container))
    os.kill(pid, signal.SIGKILL)
    ns.wait_until(lambda: int(docker("inspect", "-f", "{{.State.Pid}}", container)) not in (0, pid), 60, "another process", 0.2)
    ns.run("ping", "-c3", "-i0.2", "-W1", "-I", IDC_HOST, VPC_HOST, netns=device.netns)
    assert device.session_established()
