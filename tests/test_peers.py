"""Calls between Trough processes."""

import pytest
import pytest_twisted
from twisted.internet import reactor

from trough import errors
from trough.peers import Peers


@pytest_twisted.ensureDeferred
async def test_a_worker_whose_row_names_no_manager_is_refused_with_the_reason():
    """Such are the rows of an original installation's workers."""
    with pytest.raises(errors.Unavailable, match="original installation"):
        await Peers(reactor).call("POST", "provision", {"segment": "s"})
