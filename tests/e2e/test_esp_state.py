"""The file of the SAs' numbers: one process at a time, and an old format keeps its numbers."""

import fcntl
import os
import pathlib
import struct
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("TWINSPAN_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
RECORDS, FIRST, RECORD = 1 << 17, struct.Struct("=16sQQ"), struct.Struct("=16sQQQQ16x")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="esp opens raw sockets")


def start(folder, status=1):
    """Runs esp as far as it comes: its handover socket has no folder to be in, which may pass (1) as what is wrong for good does not (2)."""
    environment = dict(os.environ, TWINSPAN_NODE="node-a", TWINSPAN_STATE=str(folder), TWINSPAN_SOCKETS=str(folder / "nowhere/sockets"), TWINSPAN_WORKERS="1",
                       TWINSPAN_HEALTH=f"unix:{folder}/http", TWINSPAN_KEYS=str(folder), TWINSPAN_BUS=str(folder / "bus"))
    done = subprocess.run([BUILD / "bin/twinspan-esp"], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == status, done.stderr
    return done.stderr + done.stdout


def test_a_second_process_is_refused(tmp_path):
    with open(tmp_path / "sequences", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "TWINSPAN_STATE/sequences" in start(tmp_path)
    assert "TWINSPAN_SOCKETS" in start(tmp_path)
    assert (tmp_path / "sequences").stat().st_size == RECORDS * RECORD.size


def test_the_first_format_keeps_its_numbers(tmp_path):
    first = [(bytes([i]) * 16, 1 + i * 65536, i) for i in range(1, 6)]
    data = b"".join(FIRST.pack(*record) for record in first)
    (tmp_path / "sequences").write_bytes(data.ljust(RECORDS * FIRST.size, b"\0"))
    assert "TWINSPAN_SOCKETS" in start(tmp_path)
    data = (tmp_path / "sequences").read_bytes()
    assert len(data) == RECORDS * RECORD.size
    assert [RECORD.unpack_from(data, i * RECORD.size) for i in range(5)] == [(name, reserved, 0, stamp, 1) for name, reserved, stamp in first]
    assert not any(data[5 * RECORD.size :])
    assert not (tmp_path / "sequences.new").exists()
    assert "TWINSPAN_SOCKETS" in start(tmp_path)
    assert (tmp_path / "sequences").read_bytes() == data


def test_a_file_of_another_size_is_refused(tmp_path):
    (tmp_path / "sequences").write_bytes(b"x" * 100)
    assert "TWINSPAN_STATE/sequences" in start(tmp_path, status=2)
    assert (tmp_path / "sequences").read_bytes() == b"x" * 100
