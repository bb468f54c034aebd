"""A disk in memory that loses, at a power cut, what was not flushed: any blocks of it."""

from __future__ import annotations

import errno
import random
from pathlib import Path

from trough.replication.disk import File

BLOCK = 512


class PowerCut(BaseException):
    """The machine is off."""


class _Node:
    """What is in a file, now and on disk."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.durable = data

    def after_a_crash(self, chance: random.Random) -> _Node:
        """Each block is as it was flushed, or as it was written last."""
        old, new = bytes(self.durable), bytes(self.data)
        size = chance.choice((len(old), len(new)))
        blocks = []
        for at in range(0, size, BLOCK):
            source = chance.choice((old, new))
            blocks.append(source[at : at + BLOCK].ljust(min(BLOCK, size - at), b"\0"))
        return _Node(b"".join(blocks)[:size])


class LossyDisk:
    """See :class:`trough.replication.disk.Disk`.

    Names survive in the order of their changes, as by a journal of the file system.

    :param chance: decides what is lost
    :ivar left: changes until the power is cut; a negative number for never
    :ivar room: bytes that are free
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.left = -1
        self.room = 1 << 40
        self._nodes: dict[Path, _Node] = {}
        self._durable: dict[Path, _Node] = {}
        #: Changes of names that are not on disk: which directories, and all names after it.
        self._changes: list[tuple[set[Path], dict[Path, _Node]]] = []

    def after_a_crash(self) -> LossyDisk:
        """The disk as the machine finds it when it is on again."""
        survived = self.chance.randint(0, len(self._changes))
        names = self._changes[survived - 1][1] if survived else self._durable
        disk = LossyDisk(self.chance)
        disk._nodes = {path: node.after_a_crash(self.chance) for path, node in names.items()}
        disk._durable = dict(disk._nodes)
        return disk

    def change(self) -> None:
        """Count a change, and cut the power when it is time."""
        if self.left == 0:
            raise PowerCut
        self.left -= 1

    def _rename(self, *paths: Path) -> None:
        self._changes.append(({path.parent for path in paths}, dict(self._nodes)))

    def put(self, path: Path, data: bytes) -> None:
        """Have a file on disk."""
        self._nodes[path] = self._durable[path] = _Node(data)

    # -- the interface -----------------------------------------------------------------

    def open(self, path: Path, create: bool = False) -> File:
        self.change()
        if create:
            self._nodes[path] = _Node()
            self._rename(path)
        elif path not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return LossyFile(self, path, self._nodes[path])

    def node(self, path: Path) -> _Node | None:
        return self._nodes.get(path)

    def load(self, path: Path) -> bytes | None:
        node = self._nodes.get(path)
        return None if node is None else bytes(node.data)

    def names(self, directory: Path) -> list[str]:
        return [path.name for path in self._nodes if path.parent == directory]

    def make_directory(self, path: Path) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        self.change()
        self._nodes[target] = self._nodes.pop(source)
        self._rename(source, target)

    def remove(self, path: Path) -> None:
        self.change()
        if self._nodes.pop(path, None) is not None:
            self._rename(path)

    def flush_directory(self, path: Path) -> None:
        self.change()
        for number in range(len(self._changes) - 1, -1, -1):
            if path in self._changes[number][0]:
                self._durable = self._changes[number][1]
                del self._changes[: number + 1]
                return

    def free(self, path: Path) -> int:
        return self.room


class LossyFile:
    """A file of a :class:`LossyDisk`."""

    def __init__(self, disk: LossyDisk, path: Path, node: _Node) -> None:
        self._disk = disk
        self._path = path
        self._node = node

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._node.data[offset : offset + size])

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._disk.change()
        if offset > len(self._node.data):
            self._node.data.extend(bytes(offset - len(self._node.data)))
        self._node.data[offset : offset + len(data)] = data

    def size(self) -> int:
        return len(self._node.data)

    def truncate(self, size: int) -> None:
        self._disk.change()
        del self._node.data[size:]
        self._node.data.extend(bytes(size - len(self._node.data)))

    def flush(self) -> None:
        self._disk.change()
        self._node.durable = bytes(self._node.data)

    def is_still_there(self) -> bool:
        return self._disk.node(self._path) is self._node

    def lock(self) -> None:
        pass

    def close(self) -> None:
        pass
