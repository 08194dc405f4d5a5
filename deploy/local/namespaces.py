# Network namespaces, cables and processes of the local lab. Everything made here is found again by its mark: a namespace by
# its prefix, a process by its namespace, its working folder or its environment. So a half-made lab can be taken down by
# someone who did not make it.
#
# No `ip netns exec` and no `ip -n`: both make "/" a slave mount, which fails in a plain chroot.
import ctypes
import os
import signal
import subprocess
import time

PREFIX = os.environ.get("TWINSPAN_NAMESPACE_PREFIX", "tw-")
RUN = os.environ.get("TWINSPAN_RUN", "/run/twinspan")
NETNS = "/run/netns"


def run(*command, check=True, netns=None, quiet=False, **options):
    """Runs a command (in a namespace), returns its standard output; a failure carries what it wrote."""
    command = [str(part) for part in command]
    if netns:
        command = inside(netns) + command
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def inside(netns):
    return ["nsenter", f"--net={NETNS}/{netns}", "--"]


def ip(netns, *arguments, check=True):
    words = " ".join(str(part) for part in arguments).split()
    return run("ip", *words, netns=netns, check=check)


def exists(netns):
    return os.path.exists(f"{NETNS}/{netns}")


def add_namespace(netns):
    """A fresh namespace with lo up, forwarding on and reverse path filters off."""
    if exists(netns):
        remove_namespace(netns)
    run("ip", "netns", "add", netns)
    ip(netns, "link set lo up")
    sysctl(netns, {
        "net/ipv4/ip_forward": 1,
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
        "net/ipv4/fib_multipath_hash_policy": 1,
        "net/ipv6/conf/all/forwarding": 1,
        "net/ipv6/conf/default/accept_dad": 0,
    })


def remove_namespace(netns):
    """Ends what runs in it and removes it."""
    end_processes(processes_in(netns))
    subprocess.run(["ip", "netns", "del", netns], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    path = f"{NETNS}/{netns}"
    if os.path.exists(path):
        subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)
        if os.path.exists(path):
            os.unlink(path)


def namespaces(prefix=PREFIX):
    try:
        return sorted(name for name in os.listdir(NETNS) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def cable(first, second, mtu=1500):
    """A veth pair between two (namespace, interface) ends, both up."""
    (netns_a, name_a), (netns_b, name_b) = first, second
    temporary = f"t{os.getpid() % 100000}{name_a[:3]}"
    ip(netns_a, "link add", name_a, "mtu", mtu, "type veth peer name", temporary, "mtu", mtu)
    ip(netns_a, "link set", temporary, "netns", f"{NETNS}/{netns_b}")
    ip(netns_b, "link set", temporary, "name", name_b)
    ip(netns_a, "link set", name_a, "up")
    ip(netns_b, "link set", name_b, "up")


def root_is_a_mount():
    """False in a plain chroot, where a process can't keep its mounts to itself."""
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        return any(line.split()[4] == "/" for line in mounts)


# ---- settings of a namespace ----
_libc = ctypes.CDLL(None, use_errno=True)
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # the same on every architecture
_CLONE_NEWNET = 0x40000000


def enter(netns):
    """Moves the calling thread into a namespace."""
    fd = os.open(f"{NETNS}/{netns}", os.O_RDONLY)
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")
    finally:
        os.close(fd)


def _writable_proc():
    """A descriptor of a proc that nobody mounted read-only, as containers do: one of our own, mounted nowhere."""
    fs = _libc.syscall(_SYS_FSOPEN, b"proc", 0)
    if fs < 0 or _libc.syscall(_SYS_FSCONFIG, fs, 6, None, None, 0) != 0:  # 6: FSCONFIG_CMD_CREATE
        return os.open("/proc", os.O_RDONLY)
    return _libc.syscall(_SYS_FSMOUNT, fs, 0, 0)


def sysctl(netns, settings):
    """Writes /proc/sys entries in a namespace; one that this kernel does not have is passed over."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            enter(netns)
            proc = _writable_proc()
            for name, value in settings.items():
                try:
                    fd = os.open("sys/" + name, os.O_WRONLY, dir_fd=proc)
                except FileNotFoundError:
                    continue
                os.write(fd, f"{value}\n".encode())
                os.close(fd)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(f"cannot set {', '.join(settings)} in {netns}")


# ---- processes ----
def start(command, log, netns=None, environment=None, cwd=None):
    """Starts a daemon of the lab in a session of its own; its output goes to the file `log`. Returns the Popen."""
    marked = dict(os.environ, LOCAL_REGION=mark(), **(environment or {}))
    with open(log, "ab") as sink:
        return subprocess.Popen((inside(netns) if netns else []) + [str(part) for part in command], stdin=subprocess.DEVNULL,
                                stdout=sink, stderr=sink, start_new_session=True, env=marked, cwd=cwd)


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def processes_in(netns):
    try:
        wanted = os.stat(f"{NETNS}/{netns}")
    except FileNotFoundError:
        return []
    found = []
    for pid in _pids():
        try:
            their = os.stat(f"/proc/{pid}/ns/net")
        except OSError:
            continue
        if (their.st_ino, their.st_dev) == (wanted.st_ino, wanted.st_dev) and pid != os.getpid():
            found.append(pid)
    return found


def _ancestors():
    pids, pid = set(), os.getpid()
    while pid > 0:
        pids.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                pid = int(stat.read().rsplit(b")", 1)[1].split()[1])
        except OSError:
            break
    return pids


def mark(run_directory=RUN):
    """What a process of the region carries as LOCAL_REGION: the run directory and the id that `up` made for it, since another region of the
    same machine (in a container, in a chroot) has a run directory of the same name."""
    try:
        with open(os.path.join(run_directory, "id"), encoding="ascii") as text:
            return f"{run_directory}:{text.read().strip()}"
    except FileNotFoundError:
        return f"{run_directory}:"


def _identity(path):
    """Which directory it is, whoever asks: None when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_marked(pid, run_directory, ours, home):
    root = f"/proc/{pid}/root"
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
        with open(f"/proc/{pid}/environ", "rb") as environ:
            variables = environ.read().split(b"\0")
    except OSError:
        return False
    # PostgreSQL overwrites its environment; it works in the run directory, which has to be this one and not a namesake.
    if cwd == run_directory or cwd.startswith(run_directory + "/"):
        return home is not None and _identity(root + run_directory) == home
    value = next((each[len(b"LOCAL_REGION="):].decode() for each in variables if each.startswith(b"LOCAL_REGION=")), None)
    if value is None or value == ours:
        return value is not None
    # Without an id (the run directory was removed by hand) the name has to do, among those that share this root and these pids.
    return (ours == f"{run_directory}:" and value.startswith(ours) and _identity(root) == _identity("/")
            and _identity(f"/proc/{pid}/ns/pid") == _identity("/proc/self/ns/pid"))


def marked_processes(run_directory=RUN):
    """What works in this run directory or carries the mark that `start` gives; this process and those it descends from are left out."""
    spared, ours, home = _ancestors(), mark(run_directory), _identity(run_directory)
    return [pid for pid in _pids() if pid not in spared and _is_marked(pid, run_directory, ours, home)]


def end_processes(pids, patience=3.0):
    """Asks processes to end, then makes them."""
    pids = [pid for pid in pids if _signal(pid, signal.SIGTERM)]
    limit = time.monotonic() + patience
    while pids and time.monotonic() < limit:
        time.sleep(0.02)
        pids = [pid for pid in pids if alive(pid)]
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    while any(alive(pid) for pid in pids) and time.monotonic() < limit + 2:
        time.sleep(0.02)


def alive(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rsplit(b")", 1)[1].split()[0] != b"Z"
    except OSError:
        return False


def _signal(pid, number):
    try:
        os.kill(pid, number)
        return True
    except OSError:
        return False


def wait_until(condition, seconds, what, step=0.02):
    """Waits until `condition` holds and returns its value; what it waited for is in the error."""
    limit = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= limit:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(step)
