# A whole region on one machine: namespaces and cables, PostgreSQL, keys, and every service under s6. `up` and `down` are the two
# doors (deploy/local/region); the demo and the tests use them too. The region's only state is its run directory, its processes
# and its namespaces; `down` finds them by their marks, not by what `up` remembers.
import contextlib
import fcntl
import glob
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import namespaces as ns
from customer import Router, default_route

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BIN = os.path.join(os.environ.get("TWINSPAN_BUILD", os.path.join(TOP, "build")), "bin")
POSTGRES = (sorted(glob.glob("/usr/lib/postgresql/*/bin")) or ["/usr/lib/postgresql/15/bin"])[-1]
RUN, PREFIX = ns.RUN, ns.PREFIX
API = "127.0.0.1:8080"

NODES = {
    "node-a": {"public": [f"198.51.100.{n}" for n in range(17, 31)], "network": "198.51.100.16/28", "fabric": "10.255.0.11"},
    "node-b": {"public": [f"198.51.100.{n}" for n in range(33, 47)], "network": "198.51.100.32/28", "fabric": "10.255.0.12"},
}
HOSTS = {"host-1": {"fabric": "10.255.0.21"}}
NODE_GATEWAY = "198.51.100.1"
FABRIC_MTU = 9000

# Numbers, not accounts: nothing of them is left in /etc. The group is what the sockets of the bus are opened to; the keys decide.
GROUP = 61000
LOG_UID = 61000
UIDS = {"resource": 61001, "route": 61002, "ike.node-a": 61011, "ike.node-b": 61012, "bgp.node-a": 61021, "bgp.node-b": 61022}
# Root without the rest of root: what namespaces, TUN, raw sockets, ports below 1024 and reuseport programs need.
CAPABILITIES = {
    "esp": "+net_admin,+net_raw,+net_bind_service,+sys_admin,+bpf,+ipc_lock",
    "vrouter": "+net_admin,+sys_admin",
}


def identities():
    nodes = [f"{service}.{node}" for node in NODES for service in ("esp", "ike", "bgp")]
    return ["resource", "route", *nodes, *(f"vrouter.{host}" for host in HOSTS)]


def path(*parts):
    return os.path.join(RUN, *parts)


def directory(name, uid=0, mode=0o750, gid=GROUP):
    os.makedirs(path(name), exist_ok=True)
    os.chown(path(name), uid, gid)
    os.chmod(path(name), mode)
    return path(name)


def write(name, text, uid=0, mode=0o644, gid=GROUP):
    with open(os.open(path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
        out.write(text)
    os.chown(path(name), uid, gid)
    os.chmod(path(name), mode)
    return path(name)


@contextlib.contextmanager
def one_at_a_time():
    """`up` and `down` of one checkout never overlap. The lock is this folder: it leaves no file."""
    fd = os.open(os.path.dirname(os.path.abspath(__file__)), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


# ---- up ----
def make_network():
    """The simulated internet, the fabric, and the namespaces of nodes and hosts on them."""
    router = Router(PREFIX)
    router.up()
    fabric = PREFIX + "fabric"
    ns.add_namespace(fabric)
    ns.ip(fabric, "link add br0 mtu", FABRIC_MTU, "type bridge")
    ns.ip(fabric, "link set br0 up")
    for name, machine in {**NODES, **HOSTS}.items():
        netns = PREFIX + name
        ns.add_namespace(netns)
        ns.cable((fabric, name), (netns, "fabric"), FABRIC_MTU)
        ns.ip(fabric, "link set", name, "master br0")
        ns.ip(netns, "addr add", f"{machine['fabric']}/24 dev fabric")
    for name, node in NODES.items():
        netns = PREFIX + name
        router.connect(netns, name, NODE_GATEWAY, [node["network"]])
        for address in node["public"]:
            ns.ip(netns, "addr add", f"{address}/32 dev internet")
        default_route(netns, NODE_GATEWAY)


def make_database():
    """A private PostgreSQL cluster: Unix socket only, a role and a password for each service that keeps state."""
    uid, gid = (int(number) for number in ns.run("stat", "-c", "%u %g", postgres_home()).split())
    directory("postgres", uid, 0o750)
    directory("postgres/socket", uid, 0o750)
    directory("postgres/data", uid, 0o700, gid)
    passwords = {name: secrets.token_urlsafe(24) for name in ("postgres", "resource", "route")}
    write("postgres/superuser", passwords["postgres"] + "\n", uid, 0o400)
    for name in ("resource", "route"):
        write(f"secret/{name}/database-password", passwords[name] + "\n", UIDS[name], 0o400)
    as_postgres = ["setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={GROUP}", "--no-new-privs"]
    ns.run(*as_postgres, f"{POSTGRES}/initdb", "-D", path("postgres/data"), "-U", "postgres", "--auth=scram-sha-256",
           f"--pwfile={path('postgres/superuser')}", "--locale=C", "--encoding=UTF8", cwd=path("postgres"))
    with open(path("postgres/data/postgresql.conf"), "a", encoding="ascii") as settings:
        settings.write(f"listen_addresses = ''\nunix_socket_directories = '{path('postgres/socket')}'\n"
                       "max_connections = 20\nshared_buffers = 32MB\nlog_line_prefix = '%m '\n")
    roles = "".join(f"CREATE ROLE {name} LOGIN PASSWORD '{passwords[name]}';\nGRANT CREATE ON DATABASE twinspan TO {name};\n"
                    for name in ("resource", "route"))
    single_user = [*as_postgres, f"{POSTGRES}/postgres", "--single", "-D", path("postgres/data"), "postgres"]
    # Single-user mode takes one statement a line; the roles exist before anybody can connect.
    statements = "CREATE DATABASE twinspan;\nREVOKE ALL ON DATABASE twinspan FROM PUBLIC;\n" + roles + "".join(
        f"GRANT CONNECT ON DATABASE twinspan TO {name};\n" for name in ("resource", "route"))
    done = ns.run(*single_user, input=statements, cwd=path("postgres"))
    if "ERROR" in done:
        raise RuntimeError(f"PostgreSQL refused its roles: {done.strip()}")
    service("postgres", "", [*as_postgres, f"{POSTGRES}/postgres", "-D", path("postgres/data")], down_signal="SIGINT")


def postgres_home():
    """A folder that the account `postgres` of the Debian package owns."""
    return "/var/lib/postgresql"


def make_keys():
    """A key pair for every identity of the bus. Each service sees all public keys and its own secret."""
    everything = directory("keys/all", 0, 0o700)
    ns.run(f"{BIN}/twinspan", "keys", "create", "--directory", everything, *identities())
    for identity in identities():
        uid = UIDS.get(identity, 0)
        own = directory(f"keys/{identity}", uid, 0o500)
        for file in os.listdir(everything):
            if file.endswith(".public") or file == f"{identity}.secret":
                shutil.copy(f"{everything}/{file}", f"{own}/{file}")
                os.chown(f"{own}/{file}", uid, GROUP)
                os.chmod(f"{own}/{file}", 0o400)
    write("endpoints", "".join(f"{identity} ipc://{path('bus', identity)}\n" for identity in identities()))


def service(name, netns, command, environment=None, down_signal=None):
    """A folder for s6: what to run, and where its output goes. `environment` is all that it sees."""
    folder = path("service", name)
    os.makedirs(f"{folder}/log", exist_ok=True)
    os.makedirs(path("log", name), exist_ok=True)
    os.chown(path("log", name), LOG_UID, GROUP)
    words = (ns.inside(netns) if netns else []) + command
    settings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOCAL_REGION": ns.mark(), **(environment or {})}
    clean = " ".join(f"{key}='{value}'" for key, value in settings.items())
    script(f"{folder}/run", "exec 2>&1\ndate +%s >started\numask 0007\nulimit -n 65536 2>/dev/null || true\n"
                            f"exec env -i {clean} \\\n\t{' '.join(words)}\n")
    script(f"{folder}/finish", AT_ONCE)
    script(f"{folder}/log/run", f"exec setpriv --reuid={LOG_UID} --regid={GROUP} --clear-groups --bounding-set=-all --inh-caps=-all "
                                f"s6-log -b n4 s4000000 {path('log', name)}\n")
    if down_signal:
        with open(f"{folder}/down-signal", "w", encoding="ascii") as out:
            out.write(down_signal + "\n")


# s6 lets a second pass before it starts a service again. One that died of itself (not at our word: status 0) after it had been
# up for a while need not wait that long; one that dies again and again does.
AT_ONCE = """[ "$1" -ne 0 ] && [ "$2" -ne 15 ] && [ $(($(date +%s) - $(cat started))) -ge 2 ] || exit 0
(s6-svwait -D -t 2000 . && s6-svc -u .) </dev/null >/dev/null 2>&1 &
"""


def script(name, text):
    with open(name, "w", encoding="ascii") as out:
        out.write("#!/bin/sh\n" + text)
    os.chmod(name, 0o755)


def privileges(identity):
    kind = identity.partition(".")[0]
    if kind in CAPABILITIES:
        kept = f"-all,{CAPABILITIES[kind]}"
        return ["setpriv", "--reuid=0", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", "--inh-caps=-all",
                f"--bounding-set={kept}"]
    return ["setpriv", f"--reuid={UIDS[identity]}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", "--inh-caps=-all",
            "--bounding-set=-all"]


def secret_file(identity, name):
    """A key of its own for a service: 32 random octets, the last of them no newline (a reader drops one)."""
    target = write(f"secret/{identity}/{name}", "", UIDS.get(identity, 0), 0o400)
    with open(target, "wb") as out:
        out.write(secrets.token_bytes(31) + b"\1")
    return target


def settings_of(identity):
    kind, _, place = identity.partition(".")
    settings = {
        "TWINSPAN_KEYS": path("keys", identity),
        "TWINSPAN_BUS": path("endpoints"),
        "TWINSPAN_HEALTH": f"unix:{path('health', identity)}",
        "TWINSPAN_LOG_LEVEL": os.environ.get("TWINSPAN_LOG_LEVEL", "info"),
    }
    if place:
        settings["TWINSPAN_NODE"] = place
    if kind in ("resource", "route"):
        settings["TWINSPAN_DATABASE"] = f"host={path('postgres/socket')} dbname=twinspan user={kind}"
        settings["TWINSPAN_DATABASE_PASSWORD_FILE"] = path("secret", identity, "database-password")
    if kind == "resource":
        settings["TWINSPAN_HTTP"] = API
        settings["TWINSPAN_REGION"] = "local"
        settings["TWINSPAN_SECRET_KEY_FILE"] = secret_file(identity, "secret.key")
        settings["TWINSPAN_ADMIN_TOKEN_FILE"] = write("secret/resource/admin.token", token() + "\n", UIDS["resource"], 0o400)
    if kind in ("esp", "vrouter"):
        settings["TWINSPAN_FABRIC_MTU"] = FABRIC_MTU
    if kind == "esp":
        settings["TWINSPAN_NAMESPACE_PREFIX"] = PREFIX
        settings["TWINSPAN_STATE"] = directory(f"state/{identity}", 0, 0o700)
        settings["TWINSPAN_IKE_UID"] = UIDS[f"ike.{place}"]
        settings["TWINSPAN_BGP_UID"] = UIDS[f"bgp.{place}"]
    if kind in ("esp", "ike", "bgp"):
        settings["TWINSPAN_SOCKETS"] = path("sockets", place)
    if kind == "ike":
        settings["TWINSPAN_SEAL_KEY_FILE"] = secret_file(identity, "seal.key")
    if kind == "vrouter":
        settings["TWINSPAN_NAMESPACE_PREFIX"] = PREFIX
    return settings


def token():
    with open(path("admin.token"), encoding="ascii") as text:
        return text.read().strip()


def make_services():
    for name in ("service", "log", "keys", "secret", "state"):
        directory(name, 0, 0o751)
    for name in ("bus", "health", "sockets"):
        directory(name, 0, 0o1770)  # each service makes its own sockets here and can't remove another's
    for identity in identities():
        directory(f"secret/{identity}", UIDS.get(identity, 0), 0o500)
    write("admin.token", secrets.token_urlsafe(32) + "\n", 0, 0o600, 0)
    make_keys()
    make_database()
    for identity in identities():
        kind, _, place = identity.partition(".")
        service(identity, PREFIX + place if place else "", privileges(identity) + [f"{BIN}/twinspan-{kind}"], settings_of(identity))
    write("env", f"export TWINSPAN_API=http://{API}\nexport TWINSPAN_TOKEN_FILE={path('admin.token')}\nexport TWINSPAN_RUN={RUN}\n"
                 f"case \":$PATH:\" in *:{BIN}:*) ;; *) PATH={BIN}:$PATH ;; esac\nexport PATH\n", gid=0)


def readiness(identity):
    """None when the service is ready, otherwise what it waits for."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(path("health", identity))
            connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError as error:
        return f"its start ({error.strerror or error})"
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] == [b"200"]:
        return None
    return " ".join(body.decode(errors="replace").split()) or "?"


def metrics(identity):
    """{'name{labels}': value} of a service."""
    text = ns.run("curl", "-sS", "--max-time", "5", "--unix-socket", path("health", identity), "http://x/metrics")
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line and line[0] != "#"}


def waiting_for(only=None):
    return {identity: what for identity in (only or identities()) if (what := readiness(identity))}


def wait_ready(seconds=60, say=print, only=None):
    limit, told = time.monotonic() + seconds, None
    while waiting := waiting_for(only):
        text = "; ".join(f"{identity}: {what}" for identity, what in waiting.items())
        if time.monotonic() > limit:
            raise TimeoutError(f"not ready after {seconds} s: {text} (logs: {path('log')}/<service>/current)")
        if text != told and time.monotonic() > limit - seconds + 2:
            say(f"  waiting for {text}")
            told = text
        time.sleep(0.05)


def twinspan(*arguments, check=True, parse=True):
    """The command line, as an operator types it; the result of --output json."""
    environment = dict(os.environ, TWINSPAN_API=f"http://{API}", TWINSPAN_TOKEN_FILE=path("admin.token"))
    command = [f"{BIN}/twinspan", *(str(word) for word in arguments), *(["--output", "json"] if parse else [])]
    text = ns.run(*command, check=check, env=environment)
    return json.loads(text) if parse and text.strip() else text


def register():
    known = {node["name"] for node in twinspan("node", "list")["items"]} | {host["name"] for host in twinspan("vpc-host", "list")["items"]}
    for name, node in NODES.items():
        if name not in known:
            twinspan("node", "create", "--name", name, "--public-addresses", ",".join(node["public"]), "--fabric-address", node["fabric"])
    for name, host in HOSTS.items():
        if name not in known:
            twinspan("vpc-host", "create", "--name", name, "--fabric-address", host["fabric"])


def supervisor():
    """The pid of s6-svscan, or None."""
    for pid in ns.marked_processes(RUN):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                if comm.read().strip() == "s6-svscan":
                    return pid
    return None


def is_up():
    return os.path.exists(path("complete")) and supervisor() is not None


def up(say=print, mark=None):
    """Starts a region, or says that it is up. `mark`: a file that tells whose it is; what is up is then ended first."""
    if os.geteuid() != 0:
        raise SystemExit("a region needs root: it makes network namespaces")
    for tool in ("s6-svscan", "setpriv", "nsenter", "ip", "curl"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is missing: run deploy/install-packages")
    with one_at_a_time():
        if is_up() and not mark:
            say("the region is up already")
        else:
            clean()
            start(say, mark)
        wait_ready(say=say)
    say("every service is ready")


def start(say, mark):
    begin = time.monotonic()
    os.makedirs(RUN, exist_ok=True)
    os.chmod(RUN, 0o755)
    write("id", secrets.token_hex(16) + "\n")
    if mark:
        write(mark, "")
    say("network: internet, fabric, " + ", ".join([*NODES, *HOSTS]))
    make_network()
    say("keys, PostgreSQL, services")
    make_services()
    ns.start(["s6-svscan", path("service")], path("log/supervisor"), cwd=path("service"))
    wait_ready(30, say, only=["resource"])
    register()
    write("complete", "")
    say(f"started in {time.monotonic() - begin:.1f} s")


# ---- down ----
def clean():
    """Ends and removes all that carries this region's marks; nothing to do is fine."""
    supervisors = [pid for pid in ns.marked_processes(RUN) if _name(pid) == "s6-svscan"]
    for pid in supervisors:
        os.kill(pid, signal.SIGTERM)  # it brings every service down in its own way, then ends
    limit = time.monotonic() + 8
    while any(ns.alive(pid) for pid in supervisors) and time.monotonic() < limit:
        time.sleep(0.05)
    # What outlived that: supervisors first, so that nobody starts anything again.
    for pid in ns.marked_processes(RUN):
        if _name(pid) in ("s6-svscan", "s6-supervise"):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    leftovers = set(ns.marked_processes(RUN))
    for netns in ns.namespaces():
        leftovers |= set(ns.processes_in(netns))
    ns.end_processes(leftovers)
    for netns in ns.namespaces():
        ns.remove_namespace(netns)
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        for mount in reversed([line.split()[1] for line in mounts if line.split()[1].startswith(RUN + "/")]):
            subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(RUN, ignore_errors=True)


def _name(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def leftovers():
    """What `down` should not have left: for tests."""
    return {"processes": ns.marked_processes(RUN), "namespaces": ns.namespaces(),
            "files": [RUN] if os.path.exists(RUN) else []}


def down(say=print):
    with one_at_a_time():
        clean()
    left = {kind: found for kind, found in leftovers().items() if found}
    if left:
        raise SystemExit(f"could not remove {left}")
    say("the region is down; nothing is left of it")


def keep_logs(target):
    """Copies the last of every log to a folder that outlives the region."""
    os.makedirs(target, exist_ok=True)
    for log in glob.glob(path("log", "*", "current")) + glob.glob(path("devices", "*", "*.log")):
        name = os.path.relpath(log, RUN).replace("/current", "").replace("/", "-")
        with open(log, "rb") as source, open(os.path.join(target, name), "wb") as out:
            out.write(source.read()[-400000:])


# ---- a workload in a VPC ----
def attach_workload(name, subnet, address, host="host-1"):
    """A machine of a VPC: namespace `name`, its port in the subnet's bridge. `subnet` is the resource. Returns the namespace."""
    netns, vpc = PREFIX + name, f"{PREFIX}{host}-{subnet['vpcId']}"
    ns.wait_until(lambda: ns.exists(vpc) and subnet["id"] in ns.ip(vpc, "-br link", check=False), 10, f"the subnet {subnet['id']} on {host}")
    ns.add_namespace(netns)
    port = f"w-{name}"[:15]
    ns.ip(vpc, "link del", port, check=False)
    ns.cable((vpc, port), (netns, "eth0"))
    ns.ip(vpc, "link set", port, "master", subnet["id"])
    length = subnet["cidr"].partition("/")[2]
    ns.ip(netns, "addr add", f"{address}/{length} dev eth0")
    ns.ip(netns, "route replace default via", subnet["gatewayAddress"])
    return netns


def main(arguments):
    if arguments == ["up"]:
        try:
            up()
        except KeyboardInterrupt:
            down()
            return 130
        print(f"\nNext, in a shell:\n  . {path('env')}\n  twinspan help\nand at the end: make down")
        return 0
    if arguments == ["down"]:
        down()
        return 0
    if arguments == ["status"]:
        if not is_up():
            print("the region is not up")
            return 1
        waiting = waiting_for()
        for identity in identities():
            print(f"{identity:20} {'waits for ' + waiting[identity] if identity in waiting else 'ready'}")
        return 1 if waiting else 0
    print("usage: region up | down | status", file=sys.stderr)
    return 2
