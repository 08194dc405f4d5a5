# docker-compose.yml: what is in it is checked without an engine; where there is one and an image, a region is run by it.
import glob
import ipaddress
import os
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import TOP

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
SETTINGS = {"REGION": "test", "API_PORT": "18080", "INTERNET": "198.18.51", "FABRIC": "10.255.251", "API_NETWORK": "10.254.251",
            "IMAGE_TAG": os.environ.get("TWINSPAN_TEST_IMAGE_TAG", "local")}


def docker_compose(*arguments, check=True):
    done = subprocess.run(["docker-compose", "-p", PROJECT, "--env-file", "/dev/null", *arguments], cwd=TOP, text=True, check=False,
                          capture_output=True, env={**os.environ, **SETTINGS}, timeout=240)
    if check and done.returncode != 0:
        raise RuntimeError(f"docker-compose {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


@pytest.fixture(scope="module")
def running():
    """A region of containers, from an image that was built before: this test builds none."""
    if not shutil.which("docker-compose") or not shutil.which("docker"):
        pytest.skip("no Docker engine on this machine: docker and docker-compose are not installed")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Docker engine on this machine: the daemon does not answer")
    if subprocess.run(["docker", "image", "inspect", f"twinspan:{SETTINGS['IMAGE_TAG']}"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no image twinspan:{SETTINGS['IMAGE_TAG']}: run `docker-compose build` first")
    docker_compose("down", "-v", "--remove-orphans", check=False)
    try:
        docker_compose("up", "-d", "--no-build")
        yield
    finally:
        docker_compose("down", "-v", "--remove-orphans", "-t", "5")
    left = subprocess.run("docker ps -aq; docker volume ls -q; docker network ls -q", shell=True, text=True, capture_output=True,
                          check=True).stdout.split()
    named = [name for name in left if PROJECT in name]
    assert not named


def twinspan(*arguments):
    return docker_compose("run", "--rm", "-T", "twinspan", *arguments)


def test_a_region_of_containers(running):
    containers = docker_compose("ps", "-q", *sorted(LONG_LIVED)).split()
    assert len(containers) == len(LONG_LIVED)

    def states():
        text = subprocess.run(["docker", "inspect", "-f", "{{.Name}} {{.State.Health.Status}}", *containers], check=True, text=True,
                              capture_output=True).stdout
        return dict(line.split() for line in text.splitlines())

    from namespaces import wait_until
    wait_until(lambda: set(states().values()) == {"healthy"}, 90, f"every container is healthy: {states()}")
    assert "node-a" in twinspan("node", "list") and "node-b" in twinspan("node", "list")
    twinspan("border-gateway", "create", "--name", "prod", "--asn", "65000")
    twinspan("customer-gateway", "create", "--name", "dc", "--address", "198.18.51.200", "--asn", "65001")
    assert "prod" in twinspan("border-gateway", "list")
