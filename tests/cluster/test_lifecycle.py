"""Starting and stopping in order, and the worker's data directory."""

import gc
import subprocess
import sys
import weakref

import pytest
import pytest_twisted
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred

from trough import errors
from trough.util.services import ServiceStack, StopHook, settle
from trough.worker.data_directory import DataDirectory


class Noted(Service):
    """Notes when it starts and stops."""

    def __init__(self, name, events, until=None):
        self.label, self.events, self.until = name, events, until

    def startService(self):
        super().startService()
        self.events.append(f"+{self.label}")

    def stopService(self):
        super().stopService()
        self.events.append(f"-{self.label}")
        return self.until


def test_children_stop_one_after_the_other_the_last_one_first():
    """A child stops only when the one that started after it has stopped."""
    events, slow, stack = [], Deferred(), ServiceStack()
    Noted("a", events).setServiceParent(stack)
    Noted("b", events, slow).setServiceParent(stack)
    stack.startService()
    stopped = maybeDeferred(stack.stopService)
    assert events == ["+a", "+b", "-b"] and not stopped.called
    slow.callback(None)
    assert events == ["+a", "+b", "-b", "-a"] and stopped.called


@pytest_twisted.ensureDeferred
async def test_a_child_that_fails_to_stop_does_not_keep_the_others_from_it():
    """Every child is stopped, whatever became of the one before."""
    events, stack = [], ServiceStack()
    Noted("a", events).setServiceParent(stack)

    async def failing():
        raise ValueError("cannot stop")

    StopHook(failing).setServiceParent(stack)
    stack.startService()
    await stack.stopService()
    assert events == ["+a", "-a"]


class Knot:
    """What only a search for garbage finds, once nobody else knows it."""

    def __init__(self):
        self.self = self


def test_what_is_loaded_is_settled_and_garbage_is_not():
    """What is there stays and is not searched any more; what was garbage is gone before."""
    young, *older = gc.get_threshold()
    loaded, garbage = Knot(), weakref.ref(Knot())
    try:
        settle()
        assert garbage() is None
        assert not any(found is loaded for found in gc.get_objects())
        assert gc.get_threshold()[0] > young and gc.get_threshold()[1:] == (*older,)
        later = weakref.ref(Knot())
        gc.collect()
        assert later() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(young, *older)


def test_identity_is_made_once(tmp_path):
    """A worker keeps its identity, and two workers have different ones."""
    first = DataDirectory(tmp_path / "a", "w1").identity
    assert first and DataDirectory(tmp_path / "a", "w1").identity == first
    assert DataDirectory(tmp_path / "b", "w1").identity != first


def test_a_directory_in_use_is_refused_and_free_again_after_kill(tmp_path):
    """The second process ends with a sentence; kill -9 of the first frees the directory."""
    script = (
        "import pathlib, sys; from trough.worker.data_directory import DataDirectory;"
        "DataDirectory(pathlib.Path(sys.argv[1]), 'w1').privilegedStartService();"
        "print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"mine\n"
    second = subprocess.run(command, input=b"", capture_output=True)
    assert second.returncode == 1 and b"in use by another worker" in second.stderr
    first.kill()
    first.communicate()
    third = subprocess.run(command, input=b"", capture_output=True)
    assert third.returncode == 0 and third.stdout == b"mine\n"


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """LOCAL_DATA below a file is a setting that cannot be used."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BadSettings, match=r"LOCAL_DATA .*file/below"):
        DataDirectory(tmp_path / "file" / "below", "w1")
