"""Clients of a test's machine, as fixtures; the test's module has the fixture ``machine``."""

import pytest
import pytest_twisted
from twisted.internet import reactor

from trough.client import TroughClient
from trough.cluster_client.client import Cluster
from trough.metadata.open import open_metadata


@pytest.fixture
def client(machine):
    """A blocking client of the machine."""
    with TroughClient(machine.metadata_url) as client:
        yield client


@pytest_twisted.async_yield_fixture
async def cluster(machine):
    """A Twisted client of the machine."""
    cluster = Cluster(open_metadata(machine.metadata_url, reactor), reactor)
    await cluster.open()
    yield cluster
    await cluster.close()
