# What the end-to-end tests share: the paths, and one region with the tutorial's first eight steps done.
import os
import sys

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path[:0] = [os.path.join(TOP, "deploy", "local"), os.path.join(TOP, "tests", "lab")]

import api  # noqa: E402
import region  # noqa: E402
from tutorial import Tutorial  # noqa: E402


@pytest.fixture(scope="session")
def tutorial():
    """A region, two real devices, both tunnels UP, routes propagated both ways. Tests leave it as they found it."""
    if region.is_up() and not os.path.exists(region.path("test")):
        pytest.fail("a region is up already: end it with `make down`")
    try:
        region.up(lambda _: None, mark=region.path("test"))
        yield Tutorial().build()
    finally:
        region.keep_logs(os.path.join(TOP, "build", "test", "region-log"))
        region.down(lambda _: None)


@pytest.fixture(scope="module")
def postgres():
    made = api.Postgres()
    made.start()
    yield made
    made.remove()


@pytest.fixture
def service(tmp_path, postgres):
    postgres.query("DROP SCHEMA IF EXISTS resource CASCADE")
    made = api.Resource(tmp_path, postgres)
    made.start()
    yield made
    made.close()
