"""The tables bus in Python, for tests: an owner that feeds rows to a service under test, and a replica that reads its tables.

    keys = make_keys(directory, ["resource", "route", "ike.node-a", "esp.node-a"])       # <identity>.public/.secret, Z85
    make_endpoints(directory + "/endpoints", {"resource": "ipc:///tmp/x/resource", …})    # TWINSPAN_BUS
    with Bus("resource", directory, directory + "/endpoints") as bus:
        nodes = bus.own("node")
        nodes.put("node-a", resource_pb2.Node(id="node-a", …))                            # scope="node-a" where it matters
        nodes.complete()
    with Bus("ike.node-a", …) as bus:
        usage = bus.replicate("esp.node-a", "sa_usage", tables_pb2.SaUsage)
        usage.wait(lambda rows: "tun-a/00001234" in rows)
        usage.rows                                                                        # {key: message}

Every Bus has a thread of its own that turns its sockets. The generated modules are `resource_pb2`, `tables_pb2`, `bus_pb2` here
(compiled into build/gen-python when they are older than proto/). What the owner leaves out: credit (it sends everything at once) and
changes by difference after a reconnection (it always sends a snapshot).
"""
import os
import secrets
import subprocess
import sys
import threading
import time

import zmq
import zmq.utils.z85

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
_GENERATED = os.path.join(TOP, "build", "gen-python")


def _generate():
    protos = [os.path.join(TOP, "proto", name) for name in os.listdir(os.path.join(TOP, "proto")) if name.endswith(".proto")]
    outputs = [os.path.join(_GENERATED, os.path.basename(p)[:-6] + "_pb2.py") for p in protos]
    if all(os.path.exists(o) and os.path.getmtime(o) >= os.path.getmtime(p) for p, o in zip(protos, outputs)):
        return
    os.makedirs(_GENERATED, exist_ok=True)
    subprocess.run(["protoc", f"--python_out={_GENERATED}", "-I", os.path.join(TOP, "proto"), *protos], check=True)


_generate()
sys.path.insert(0, _GENERATED)
import bus_pb2  # noqa: E402
import resource_pb2  # noqa: E402,F401
import tables_pb2  # noqa: E402,F401

BATCH = 60 * 1024
HEARTBEAT = 1.0


def make_keys(directory, identities):
    """Makes the key files of the bus in one directory and returns it."""
    os.makedirs(directory, exist_ok=True)
    for identity in identities:
        if os.path.exists(f"{directory}/{identity}.secret"):
            continue
        public, secret = zmq.curve_keypair()
        with open(f"{directory}/{identity}.public", "wb") as out:
            out.write(public + b"\n")
        with open(os.open(f"{directory}/{identity}.secret", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
            out.write(secret + b"\n")
    return directory


def make_endpoints(path, endpoints):
    with open(path, "w", encoding="ascii") as out:
        out.writelines(f"{identity} {endpoint}\n" for identity, endpoint in endpoints.items())
    return path


def read_endpoints(path):
    with open(path, encoding="ascii") as lines:
        return dict(line.split(None, 1) for line in map(str.strip, lines) if line and not line.startswith("#"))


def _key(directory, identity, suffix):
    with open(f"{directory}/{identity}.{suffix}", "rb") as text:
        return text.read().strip()


def _octets(key):
    return key if isinstance(key, bytes) else key.encode()


def _text(key):
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key


class OwnTable:
    """A table owned here. put and remove take effect with commit; nothing is sent before complete."""

    def __init__(self, bus, name):
        self.bus, self.name = bus, name
        self.sequence, self.is_complete = 0, False
        self.rows = {}  # key: (scope, value)
        self.pending = {}
        self.streams = {}  # (peer, stream number): _Stream

    def put(self, key, message, scope=""):
        value = message if isinstance(message, bytes) else message.SerializeToString()
        with self.bus.lock:
            self.pending[_octets(key)] = (scope, value)

    def remove(self, key):
        with self.bus.lock:
            self.pending[_octets(key)] = None

    def commit(self):
        """Publishes what was put and removed as one change; returns its sequence."""
        with self.bus.lock:
            change, self.pending = self.pending, {}
            before = dict(self.rows)
            for key, row in change.items():
                if row is None:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = row
            self.sequence += 1
            sequence = self.sequence
            self.bus.call(lambda: self._send_change(change, before, sequence))
            return sequence

    def complete(self):
        sequence = self.commit()
        with self.bus.lock:
            if not self.is_complete:
                self.is_complete = True
                self.bus.call(lambda: [self._send_snapshot(stream) for stream in list(self.streams.values())])
        return sequence

    def wait_applied(self, reader, sequence=None, seconds=5):
        """Waits until `reader` has applied `sequence` (the latest by default)."""
        wanted = self.sequence if sequence is None else sequence
        limit = time.monotonic() + seconds
        while self.applied(reader) < wanted:
            if time.monotonic() > limit:
                raise TimeoutError(f"{reader} has applied {self.applied(reader)} of {self.name}, not {wanted}")
            time.sleep(0.005)

    def applied(self, reader):
        """What `reader` has applied: with what was not for its eyes it has nothing to do."""
        marks = [stream.covered if stream.applied >= stream.sent else stream.applied
                 for stream in list(self.streams.values()) if stream.identity == reader]
        return min(marks, default=0)

    # ---- on the bus thread ----
    def _open(self, peer, identity, frame):
        for key, stream in list(self.streams.items()):
            # What the reader had on another connection, and what this very replica had on this one: a newer stream takes its place.
            if stream.identity == identity and stream.filter == frame.filter and (stream.peer != peer or stream.follower == frame.follower):
                del self.streams[key]
        stream = self.streams[peer, frame.stream] = _Stream(peer, frame.stream, identity, frame.filter)
        stream.follower = frame.follower
        if self.is_complete:
            self._send_snapshot(stream)

    def _send_snapshot(self, stream):
        rows = [bus_pb2.BusRow(key=key, value=value) for key, (scope, value) in self.rows.items() if stream.shows(scope)]
        self._send(stream, rows, self.sequence, True)

    def _send_change(self, change, before, sequence):
        if not self.is_complete:
            return
        for stream in list(self.streams.values()):
            rows = []
            for key, row in change.items():
                if row is not None and stream.shows(row[0]):
                    rows.append(bus_pb2.BusRow(key=key, value=row[1]))
                elif key in before and stream.shows(before[key][0]):
                    rows.append(bus_pb2.BusRow(key=key, removed=True))
            if rows and sequence > stream.sent:
                self._send(stream, rows, sequence, False)
            stream.covered = max(stream.covered, sequence)

    def _send(self, stream, rows, sequence, snapshot):
        parts, size = [[]], 0
        for row in rows:
            if size > BATCH:
                parts.append([])
                size = 0
            parts[-1].append(row)
            size += len(row.key) + len(row.value) + 16
        for i, part in enumerate(parts):
            batch = bus_pb2.BusBatch(table=self.name, epoch=self.bus.epoch, sequence=sequence, previous=0 if snapshot else stream.sent,
                                     snapshot=snapshot, first=i == 0, last=i == len(parts) - 1, rows=part, stream=stream.number, part=i)
            self.bus.send_to(stream.peer, bus_pb2.BusFrame(batch=batch))
        stream.sent = stream.covered = sequence


class _Stream:
    """One reader's stream of a table: what was sent, what it has applied."""

    def __init__(self, peer, number, identity, wanted):
        self.peer, self.number, self.identity, self.filter = peer, number, identity, wanted
        self.sent, self.covered, self.applied = 1 << 63, 0, 0

    def shows(self, scope):
        node = self.identity.partition(".")[2]
        return scope == "" or (scope == self.filter if self.filter else node in ("", scope))


class Replica:
    """A copy of another's table: rows {key: message}. `refused` is the owner's reason when it did not admit us."""

    def __init__(self, bus, owner, name, message, wanted):
        self.bus, self.owner, self.name, self.message, self.filter = bus, owner, name, message, wanted
        self.rows, self.epoch, self.sequence = {}, 0, 0
        self.has_snapshot, self.refused, self.batches = False, "", 0
        self._parts, self.stream = [], 0

    def wait(self, condition=None, seconds=5, what=""):
        """Waits for the first snapshot, and until condition(rows) holds; returns its value."""
        limit = time.monotonic() + seconds
        while True:
            with self.bus.lock:
                value = self.has_snapshot and (condition(self.rows) if condition else True)
            if value:
                return value
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.name} of {self.owner}: {what or 'condition'} not met in {seconds} s; "
                                   f"snapshot={self.has_snapshot} refused={self.refused!r} rows={self.rows}")
            time.sleep(0.005)

    # ---- on the bus thread ----
    def _open(self):
        self._parts = []
        self.stream = secrets.randbits(62)
        frame = bus_pb2.BusOpen(table=self.name, filter=self.filter, epoch=self.epoch, sequence=self.sequence, stream=self.stream)
        self.bus.send_owner(self.owner, bus_pb2.BusFrame(open=frame))

    def _batch(self, batch):
        if batch.epoch == self.epoch and batch.sequence <= self.sequence:
            self._applied()
            return
        if batch.first:
            self._parts = []
        self._parts.append(batch)
        if not batch.last:
            return
        if not batch.snapshot and (batch.epoch != self.epoch or batch.previous != self.sequence):
            self._open()
            return
        with self.bus.lock:
            if batch.snapshot:
                self.rows = {}
            for part in self._parts:
                for row in part.rows:
                    if row.removed:
                        self.rows.pop(_text(row.key), None)
                    else:
                        self.rows[_text(row.key)] = self.message.FromString(row.value) if self.message else row.value
            self.epoch, self.sequence, self.has_snapshot = batch.epoch, batch.sequence, True
            self.batches += 1
        self._applied()

    def _applied(self):
        applied = bus_pb2.BusApplied(table=self.name, epoch=self.epoch, sequence=self.sequence, stream=self.stream)
        self.bus.send_owner(self.owner, bus_pb2.BusFrame(applied=applied))


class Bus:
    """One identity on the bus. `keypair` (public, secret): another one than the identity's own; with it nothing is owned."""

    def __init__(self, identity, keys, endpoints, keypair=None):
        self.identity, self.keys = identity, keys
        self.endpoints = endpoints if isinstance(endpoints, dict) else read_endpoints(endpoints)
        self.keypair = keypair or (_key(keys, identity, "public"), _key(keys, identity, "secret"))
        self.epoch = secrets.randbits(62) | 1
        self.lock = threading.RLock()
        self.tables, self.replicas, self.owners, self.peers, self.answers = {}, [], {}, {}, {}
        self.heard = {}  # owner: time of the last frame from it
        self.context = zmq.Context()
        self._calls = []
        self._wake_out, self._wake_in = self.context.socket(zmq.PAIR), self.context.socket(zmq.PAIR)
        self._wake_in.bind("inproc://wake")
        self._wake_out.connect("inproc://wake")
        self._ending = False
        self.router = None
        if not keypair and identity in self.endpoints:
            self._bind()
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._ending = True
        self._wake()
        self._thread.join()
        self.context.destroy(linger=0)

    def own(self, name):
        table = OwnTable(self, name)
        self.tables[name] = table
        return table

    def replicate(self, owner, name, message=None, wanted=""):
        """A replica of `owner`'s table `name`; `message` is the rows' class (None: octets), `wanted` the filter."""
        replica = Replica(self, owner, name, message, wanted)

        def begin():
            self.replicas.append(replica)
            self._connect(owner)
            replica._open()

        self.call(begin)
        return replica

    def ask(self, owner, name, body=b"", seconds=5):
        """A question; returns the answer's body or raises with its error."""
        number = secrets.randbits(62)
        question = bus_pb2.BusQuestion(id=number, name=name, body=body, deadline_ms=int(seconds * 1000))

        def begin():
            self._connect(owner)
            self.send_owner(owner, bus_pb2.BusFrame(question=question))

        self.call(begin)
        limit = time.monotonic() + seconds
        while number not in self.answers:
            if time.monotonic() > limit:
                raise TimeoutError(f"no answer to {name} from {owner}")
            time.sleep(0.005)
        answer = self.answers.pop(number)
        if answer.error:
            raise RuntimeError(answer.error)
        return answer.body

    def call(self, function):
        """Runs a function on the bus thread."""
        with self.lock:
            self._calls.append(function)
            self._wake()

    def _wake(self):
        with self.lock:
            self._wake_out.send(b"")

    # ---- on the bus thread ----
    def _bind(self):
        self._zap = self.context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self.router = self.context.socket(zmq.ROUTER)
        self.router.curve_server = True
        self.router.curve_publickey, self.router.curve_secretkey = self.keypair
        self.router.zap_domain = b"twinspan"
        self.router.sndhwm = self.router.rcvhwm = 0
        path = self.endpoints[self.identity].removeprefix("ipc://")
        if path.startswith("/") and os.path.exists(path):
            os.unlink(path)
        self.router.bind(self.endpoints[self.identity])
        if path.startswith("/"):
            os.chmod(path, 0o777)

    def _connect(self, owner):
        if owner in self.owners:
            return
        dealer = self.context.socket(zmq.DEALER)
        dealer.curve_serverkey = _key(self.keys, owner, "public")
        dealer.curve_publickey, dealer.curve_secretkey = self.keypair
        dealer.linger, dealer.sndhwm, dealer.rcvhwm = 0, 0, 0
        dealer.reconnect_ivl, dealer.reconnect_ivl_max = 20, 200
        dealer.connect(self.endpoints[owner])
        self.owners[owner] = dealer

    def send_owner(self, owner, frame):
        try:
            self.owners[owner].send(frame.SerializeToString(), zmq.NOBLOCK)
        except zmq.Again:
            pass  # a socket that was refused has nowhere to queue it

    def send_to(self, reader, frame):
        try:
            self.router.send_multipart([reader, frame.SerializeToString()])
        except zmq.ZMQError:
            self._forget(reader)

    def _forget(self, peer):
        for table in self.tables.values():
            for key in [key for key in table.streams if key[0] == peer]:
                del table.streams[key]
        self.peers.pop(peer, None)

    def _turn(self):
        beat = 0.0
        while not self._ending:
            poller = zmq.Poller()
            sockets = [self._wake_in, *([self.router, self._zap] if self.router else []), *self.owners.values()]
            for socket in sockets:
                poller.register(socket, zmq.POLLIN)
            ready = dict(poller.poll(max(0, int((beat - time.monotonic()) * 1000))))
            if self._wake_in in ready:
                while self._wake_in.poll(0):
                    self._wake_in.recv()
                with self.lock:
                    calls, self._calls = self._calls, []
                for function in calls:
                    function()
            if self.router and self._zap in ready:
                self._authenticate()
            if self.router and self.router in ready:
                while self.router.poll(0):
                    self._serve()
            for owner, dealer in list(self.owners.items()):
                if dealer in ready:
                    while dealer.poll(0):
                        self._hear(owner, bus_pb2.BusFrame.FromString(dealer.recv()))
            if time.monotonic() >= beat:
                beat = time.monotonic() + HEARTBEAT
                frame = bus_pb2.BusFrame(heartbeat=bus_pb2.BusHeartbeat(epoch=self.epoch, interval_ms=int(HEARTBEAT * 1000)))
                for reader in list(self.peers):
                    self.send_to(reader, frame)
                for owner in self.owners:
                    self.send_owner(owner, frame)

    def _authenticate(self):
        version, request, _domain, _address, _identity, _mechanism, key = self._zap.recv_multipart()[:7]
        known = {zmq.utils.z85.decode(_key(self.keys, name[:-7], "public")): name[:-7]
                 for name in os.listdir(self.keys) if name.endswith(".public")}
        identity = known.get(key)
        status = [b"200", b"OK", identity.encode(), b""] if identity else [b"400", b"unknown key", b"", b""]
        self._zap.send_multipart([version, request, *status])

    def _serve(self):
        parts = self.router.recv_multipart(copy=False)
        reader, identity = parts[0].bytes, parts[-1].get("User-Id")
        frame = bus_pb2.BusFrame.FromString(parts[-1].bytes)
        if reader not in self.peers:
            self.send_to(reader, bus_pb2.BusFrame(heartbeat=bus_pb2.BusHeartbeat(epoch=self.epoch, interval_ms=int(HEARTBEAT * 1000))))
        self.peers[reader] = identity
        kind = frame.WhichOneof("kind")
        if kind == "open":
            table = self.tables.get(frame.open.table)
            if table:
                table._open(reader, identity, frame.open)
            else:
                self._refuse(reader, frame.open, "not owned")
        elif kind == "applied":
            table = self.tables.get(frame.applied.table)
            stream = table.streams.get((reader, frame.applied.stream)) if table else None
            if not stream:
                self._refuse(reader, frame.applied, "unknown stream")
            elif frame.applied.epoch == self.epoch:
                stream.applied = max(stream.applied, frame.applied.sequence)

    def _refuse(self, reader, frame, reason):
        self.send_to(reader, bus_pb2.BusFrame(refused=bus_pb2.BusRefused(table=frame.table, stream=frame.stream, reason=reason)))

    def _hear(self, owner, frame):
        self.heard[owner] = time.monotonic()
        kind = frame.WhichOneof("kind")
        replica = None
        if kind in ("batch", "refused"):
            stream = getattr(frame, kind).stream
            replica = next((one for one in self.replicas if one.owner == owner and one.stream == stream), None)
        if kind == "batch" and replica:
            replica._batch(frame.batch)
        elif kind == "refused" and replica:
            if frame.refused.reason == "unknown stream":
                replica._open()
            else:
                replica.refused = frame.refused.reason or "refused"
        elif kind == "heartbeat":
            for replica in self.replicas:
                if replica.owner == owner and replica.epoch not in (0, frame.heartbeat.epoch):
                    replica._open()
        elif kind == "answer":
            self.answers[frame.answer.id] = frame.answer
