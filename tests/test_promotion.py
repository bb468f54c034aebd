"""What becomes of promotions that canonical storage does not answer."""

import shutil

import pytest
import pytest_twisted
from worker_parts import running_worker

from trough import errors
from trough.model import canonical_path


@pytest_twisted.ensureDeferred
async def test_a_rename_that_is_carried_out_late_is_known_for_the_workers_own(tmp_path):
    """As by a NameNode that stood still: the next promotion is on its way by then. It fails,
    and the one after it succeeds; nothing goes aside."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        canonical = worker.canonical / canonical_path("300001")
        publish, late = worker.storage.publish, tmp_path / "late"

        async def unanswered(source, *rest):
            shutil.copy(source, late)
            raise errors.Unavailable("no answer")

        async def meanwhile(*args):
            late.replace(canonical)
            return await publish(*args)

        for number, way, error in (
            (1, unanswered, errors.Unavailable),
            (2, meanwhile, errors.Conflict),
        ):
            await worker.written("300001", f"INSERT INTO t VALUES ({number})")
            worker.storage.publish = way
            with pytest.raises(error):
                await worker.controller.promote("300001")
        worker.storage.publish = publish
        assert not await worker.segments.is_overwritten(await worker.storage.find("300001"))
        await worker.written("300001", "INSERT INTO t VALUES (3)")
        await worker.controller.promote("300001")
        assert worker.segments.aside() == []
        assert worker.segments.get("300001").entry.publishing == ""
