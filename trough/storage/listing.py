"""What two looks at a storage differ in: the part that all backends share, and pure.

A backend walks its directories and makes a :class:`Directory` of each one that it looks
into; :func:`compare` turns two sets of them into :class:`trough.storage.Changes`. It
promises to cost what changed, and to hold a million files in some tens of megabytes.

Where several files have one id, the one modified last counts. Two files at an id's
default path are one file, so at least one of several is a *stray*, lying elsewhere:
only strays are indexed by id, and a storage in its usual layout has none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trough import errors, model
from trough.model import CanonicalCopy
from trough.storage import Changes, Listing
from trough.storage.paths import SUFFIX, below
from trough.util.bounded_lru import BoundedLru

#: When to list a directory whatever its identity: at the next scan, or never.
AT_ONCE, NEVER = 0.0, float("inf")

#: How often directories may disappear under a walk before it is given up.
_WALKS = 5

#: A version within one directory: modification time in milliseconds, and size.
_Version = tuple[int, int]

#: A version anywhere: the same, and the directory.
_Place = tuple[int, int, str]


class Files:
    """The segments' files right in one directory, packed: some 30 bytes each."""

    __slots__ = ("_ids", "_modified", "_sizes")

    def __init__(
        self, ids: Sequence[str] = (), modified: Sequence[int] = (), sizes: Sequence[int] = ()
    ) -> None:
        """:param modified: of each, in milliseconds; likewise `sizes` in bytes"""
        self._ids = "/".join(ids)  # a character that no id contains
        self._modified = array("q", modified)
        self._sizes = array("q", sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Id, modification time and size of each."""
        return zip(self.ids(), self._modified, self._sizes, strict=True)

    def ids(self) -> list[str]:
        return self._ids.split("/") if self._sizes else []

    def strays(self, path: str) -> tuple[str, ...]:
        """Those whose default directory is not `path`."""
        default = model.canonical_directory
        return tuple(segment for segment in self.ids() if default(segment) != path)


def files_but_halves(
    ids: Sequence[str],
    modified: Sequence[int],
    sizes: Sequence[int],
    halves: Mapping[str, str],
    skipped: dict[str, str],
) -> Files:
    """Pack the files of a directory, and skip those that lack rows.

    :param halves: why the files of some segments do not count, as far as there are any
    :param skipped: gets these reasons by the files' names
    """
    if not halves:
        return Files(ids, modified, sizes)
    rows = list(zip(ids, modified, sizes, strict=True))
    whole = [row for row in rows if row[0] not in halves]
    for segment, _, _ in rows:
        if segment in halves:
            skipped[segment + SUFFIX] = halves[segment]
    return Files([row[0] for row in whole], [row[1] for row in whole], [row[2] for row in whole])


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """One directory, as it was when it was looked into.

    :ivar identity: equal as long as nothing was created, renamed or removed in the
        directory; taken before its entries were read
    :ivar strays: ids of files that are not in their default directory
    :ivar children: names of the directories in it
    :ivar skipped: names of files that cannot be segments, with the reason
    :ivar look_again: time from which it has to be listed whatever its identity, in seconds
        since the epoch by the storage's clock, which may go back a little
    """

    identity: object
    files: Files = field(default_factory=Files)
    strays: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    look_again: float = NEVER

    def is_still(self, identity: object, now: float) -> bool:
        """Whether nothing can have changed since, the directory having `identity` now."""
        return self.identity == identity and now < self.look_again


@dataclass(frozen=True, slots=True)
class _Index:
    """What a listing knows across its directories.

    :ivar strays: directories, by id, of files that are not at their default path
    :ivar duplicates: by id, the paths that do not count, with the reason
    """

    strays: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    duplicates: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Copies(Collection[CanonicalCopy]):
    """Copies that are made as they are iterated over. A million at once would take 350 MB.

    :param directories: paths and files, of those where every file is meant
    :param single: further ones
    """

    __slots__ = ("_directories", "_single")

    def __init__(
        self, directories: Sequence[tuple[str, Files]], single: Sequence[CanonicalCopy]
    ) -> None:
        self._directories = directories
        self._single = single

    def __len__(self) -> int:
        return sum(len(files) for _, files in self._directories) + len(self._single)

    def __iter__(self) -> Iterator[CanonicalCopy]:
        for path, files in self._directories:
            prefix = below(path, "")
            for segment, modified, size in files:
                yield CanonicalCopy(segment, f"{prefix}{segment}{SUFFIX}", size, modified)
        yield from self._single

    def __contains__(self, copy: object) -> bool:
        return any(copy == each for each in self)


@dataclass(slots=True)
class Walk:
    """What a backend saw on one way through its directories.

    :ivar whole: False where a directory was gone when its turn came
    """

    directories: dict[str, Directory] = field(default_factory=dict)
    whole: bool = True


def changes_since(
    since: Listing | None,
    full: bool,
    walk: Callable[[Mapping[str, Directory], bool], Walk],
) -> Changes:
    """Walk until the result is certain.

    A file that moves from one directory to another during a walk may be seen in neither. So a
    segment is reported as gone only after a second walk, which begins after the first one missed
    it. Most directories are unchanged then, so that costs little.

    :param walk: given the directories known so far, and whether to look into all
    :raises trough.errors.Unavailable: directories disappear during every walk
    """
    known: Mapping[str, Directory] = since.directories if since else {}  # type: ignore[assignment]
    confirmed = False
    for _ in range(_WALKS):
        seen = walk(known, full and not confirmed)
        if not seen.whole:
            known = {**known, **seen.directories}
            continue
        changes = compare(since, seen.directories)
        if confirmed or not changes.gone:
            return changes
        known, confirmed = seen.directories, True
    raise errors.Unavailable("directories keep disappearing from canonical storage")


def files_of(segment: str, listing: Listing) -> list[str]:
    """Paths of all files of a segment that a listing knows, the one that counts last."""
    directories: Mapping[str, Directory] = listing.directories  # type: ignore[assignment]
    index = listing.index if isinstance(listing.index, _Index) else _Index()
    places = sorted(_View(directories, index.strays).places(segment))
    return [below(directory, segment + SUFFIX) for _, _, directory in places]


def compare(before: Listing | None, directories: Mapping[str, Directory]) -> Changes:
    """How `directories`, all there are now, differ from those of an earlier look.

    :param directories: those that were not looked into again are the same objects
    :return: with ``looked_into`` counting the others
    """
    before = before or Listing()
    known: Mapping[str, Directory] = before.directories  # type: ignore[assignment]
    touched = [
        path for path in known.keys() | directories.keys() if _differ(known, directories, path)
    ]
    if not touched:
        return Changes(before, (), (), 0)
    touched.sort()
    index = before.index if isinstance(before.index, _Index) else _Index()
    strays = _strays(index, known, directories, touched)
    comparison = _Comparison(
        _View(known, index.strays), _View(directories, strays), index.duplicates
    )
    for path in touched:
        comparison.directory(path)
    for segment in comparison.contested:
        comparison.contest(segment)
    duplicates = comparison.duplicates
    return Changes(
        Listing(directories, _skipped(directories, duplicates), _Index(strays, duplicates)),
        Copies(comparison.whole, comparison.single),
        tuple(comparison.gone),
        sum(1 for path in touched if path in directories),
    )


def _differ(
    known: Mapping[str, Directory], directories: Mapping[str, Directory], path: str
) -> bool:
    return known.get(path) is not directories.get(path)


class _View:
    """One side of a comparison."""

    def __init__(
        self, directories: Mapping[str, Directory], strays: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.strays = strays
        self._directories = directories
        self._unpacked: BoundedLru[str, dict[str, _Version]] = BoundedLru(64)

    def packed(self, path: str) -> Files:
        """The files in one directory; none where it is not there."""
        directory = self._directories.get(path)
        return directory.files if directory else Files()

    def files(self, path: str) -> dict[str, _Version]:
        """Modification time and size by id, as a dict of the caller's own."""
        return {segment: (modified, size) for segment, modified, size in self.packed(path)}

    def places(self, segment: str) -> Iterator[_Place]:
        """Every file that has this id."""
        for path in (model.canonical_directory(segment), *self.strays.get(segment, ())):
            version = self._files_of(path).get(segment)
            if version is not None:
                yield (*version, path)

    def _files_of(self, path: str) -> dict[str, _Version]:
        """As :meth:`files`, for those who ask for one neighbour after another: a few
        directories stay unpacked."""
        files = self._unpacked.get(path)
        if files is None:
            files = self.files(path)
            self._unpacked.put(path, files)
        return files


def _strays(
    index: _Index,
    known: Mapping[str, Directory],
    directories: Mapping[str, Directory],
    touched: Iterable[str],
) -> Mapping[str, tuple[str, ...]]:
    """The index of strays brought up to date."""
    strays = dict(index.strays)
    for path in touched:
        before = known[path].strays if path in known else ()
        after = directories[path].strays if path in directories else ()
        for segment in before:
            left = tuple(place for place in strays.pop(segment) if place != path)
            if left:
                strays[segment] = left
        for segment in after:
            strays[segment] = (*strays.get(segment, ()), path)
    return strays


class _Comparison:
    """What was found to differ so far.

    :ivar whole: directories whose every file is new
    :ivar single: other files that are new or have another version
    :ivar contested: segments of which more than one file may have to be looked at; a
        dict, since that keeps the order in which neighbours follow each other
    """

    def __init__(self, old: _View, new: _View, duplicates: Mapping[str, Mapping[str, str]]) -> None:
        self._old = old
        self._new = new
        self.whole: list[tuple[str, Files]] = []
        self.single: list[CanonicalCopy] = []
        self.gone: list[str] = []
        self.contested: dict[str, None] = {}
        self.duplicates = dict(duplicates)

    def directory(self, path: str) -> None:
        """Compare the files in one directory."""
        before, after = self._old.files(path), self._new.packed(path)
        contested = self._contested_of(before) | self._contested_of(after.ids())
        self.contested.update(dict.fromkeys(contested))
        if not before and not contested:
            self.whole.append((path, after))
            return
        prefix = below(path, "")
        self.single += [
            CanonicalCopy(segment, f"{prefix}{segment}{SUFFIX}", size, modified)
            for segment, modified, size in after
            if before.pop(segment, None) != (modified, size) and segment not in contested
        ]
        self.gone += [segment for segment in before if segment not in contested]

    def _contested_of(self, segments: Collection[str]) -> set[str]:
        return {
            segment
            for strays in (self._old.strays, self._new.strays)
            if strays  # usually there are none, and a million files
            for segment in segments
            if segment in strays
        }

    def contest(self, segment: str) -> None:
        """Compare a segment that has, or had, a file elsewhere than at its default path."""
        before = max(self._old.places(segment), default=None)
        places = sorted(self._new.places(segment))
        self.duplicates.pop(segment, None)
        if not places:
            if before is not None:
                self.gone.append(segment)
            return
        *others, after = places
        path = below(after[2], segment + SUFFIX)
        if after != before:
            self.single.append(CanonicalCopy(segment, path, after[1], after[0]))
        if others:
            self.duplicates[segment] = {
                below(directory, segment + SUFFIX): f"{path} has the same id and is newer"
                for _, _, directory in others
            }


def _skipped(
    directories: Mapping[str, Directory], duplicates: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    skipped = {
        below(path, name): reason
        for path, directory in directories.items()
        for name, reason in directory.skipped.items()
    }
    for paths in duplicates.values():
        skipped.update(paths)
    return skipped
