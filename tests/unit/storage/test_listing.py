"""What two looks at a storage differ in, against the plainest possible answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trough import errors
from trough.model import CanonicalCopy, canonical_path
from trough.storage.listing import Directory, Files, Walk, changes_since, compare
from trough.storage.paths import check_path, segment_of, shown

# A state of a storage: modification time and size, by directory and id. Ids whose default
# directories are among the directories, so that strays and others meet.
DIRECTORIES = ("", "1", "2", "1/2", "x")
IDS = ("1abc", "2abc", "abc", "x", "1xyz")
states = st.dictionaries(
    st.tuples(st.sampled_from(DIRECTORIES), st.sampled_from(IDS)),
    st.tuples(st.integers(1, 3), st.integers(0, 2)),
    max_size=12,
)


def path_of(directory, segment):
    return f"{directory}/{segment}.sqlite".lstrip("/")


def winners(state):
    """The copy that counts, by id."""
    found = {}
    for (directory, segment), (modified, size) in state.items():
        place = (modified, size, directory)
        found[segment] = max(place, found.get(segment, place))
    return {
        segment: CanonicalCopy(segment, path_of(directory, segment), size, modified)
        for segment, (modified, size, directory) in found.items()
    }


def walked(state, known=None):
    """The directories of a state; those of `known` where nothing differs, as a backend
    does."""
    directories = {}
    for directory in {directory for directory, _ in state} | {""}:
        rows = sorted(
            (segment, *version) for (where, segment), version in state.items() if where == directory
        )
        packed = Files([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
        before = (known or {}).get(directory)
        if before is not None and list(before.files) == rows:
            directories[directory] = before
        else:
            directories[directory] = Directory(rows, packed, packed.strays(directory))
    return directories


@given(st.lists(states, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_compare_tells_exactly_what_differs(history):
    """Over any history, what is present and gone is what differs between the winners of
    one state and the next, and every loser is skipped with the winner's path."""
    listing, before = None, {}
    for state in history:
        directories = walked(state, listing.directories if listing else None)
        changes = compare(listing, directories)
        after = winners(state)
        assert sorted(changes.present, key=str) == sorted(
            (copy for segment, copy in after.items() if before.get(segment) != copy), key=str
        )
        assert len(changes.present) == len(list(changes.present))
        assert sorted(changes.gone) == sorted(before.keys() - after.keys())
        losers = {path_of(*place) for place in state} - {copy.path for copy in after.values()}
        assert set(changes.listing.skipped) == losers
        listing, before = changes.listing, after


def test_nothing_new_keeps_the_listing():
    """Where no directory was looked into, the listing itself comes back."""
    first = compare(None, walked({("1", "1abc"): (1, 1)}))
    again = compare(first.listing, dict(first.listing.directories))
    assert again.listing is first.listing
    assert (tuple(again.present), again.gone, again.looked_into) == ((), (), 0)


def test_present_can_be_asked_for_membership():
    """Copies are made as they are asked for, and compare by value."""
    changes = compare(None, walked({("1", "1abc"): (7, 9)}))
    assert CanonicalCopy("1abc", "1/1abc.sqlite", 9, 7) in changes.present
    assert CanonicalCopy("1abc", "1/1abc.sqlite", 9, 8) not in changes.present


def walks(*seen):
    """A walk that sees one thing after another, and notes what it was asked for."""
    asked, left = [], list(seen)

    def walk(known, full):
        asked.append((dict(known), full))
        return left.pop(0)

    return walk, asked


def test_what_moved_during_a_walk_is_not_gone():
    """A segment that a walk missed is told as gone only when a second one misses it too."""
    here, there = {("1", "1abc"): (1, 1)}, {("x", "1abc"): (1, 1)}
    since = compare(None, walked(here)).listing
    missed, found = walked({}), walked(there)
    walk, asked = walks(Walk(missed), Walk(found))
    changes = changes_since(since, True, walk)
    assert changes.gone == ()
    assert [copy.path for copy in changes.present] == ["x/1abc.sqlite"]
    assert asked == [(dict(since.directories), True), (missed, False)]

    walk, asked = walks(Walk(missed), Walk(missed))
    assert changes_since(since, False, walk).gone == ("1abc",)


def test_a_directory_that_disappears_under_a_walk_has_it_repeated():
    """A walk that was not whole is repeated, with what it did see already known."""
    half, whole = walked({("1", "1abc"): (1, 1)}), walked({("2", "2abc"): (1, 1)})
    walk, asked = walks(Walk(half, whole=False), Walk(whole))
    assert [copy.segment for copy in changes_since(None, True, walk).present] == ["2abc"]
    assert asked[1] == (half, True)


def test_a_storage_that_never_holds_still_is_unavailable():
    """When directories disappear under every walk, nothing is told as gone."""
    since = compare(None, walked({("1", "1abc"): (1, 1)})).listing
    with pytest.raises(errors.Unavailable, match="disappearing"):
        changes_since(since, False, lambda known, full: Walk({}, whole=False))


def test_which_names_are_segments():
    """By its ending a file is one or not; with the ending, the rest has to be an id."""
    assert segment_of("300001.sqlite") == "300001"
    assert segment_of("a.b.sqlite") == "a.b"
    for other in ("300001", "300001.sqlite-wal", ".300001.sqlite", ".sqlite", "a.SQLITE"):
        assert segment_of(other) is None
    for bad in ("a\u2028b.sqlite", "a:b.sqlite", "\udcff.sqlite", "a\n.sqlite"):
        with pytest.raises(errors.BadSegmentId):
            segment_of(bad)


def test_names_are_shown_safely():
    """What cannot be printed or stored as text is shown escaped."""
    assert shown("tëst") == "tëst"
    assert shown("a\x1b[2J\udcff") == r"a\x1b[2J\udcff"


def test_default_path():
    """Without a path, a segment lies at its default one."""
    assert check_path("300001", None) == canonical_path("300001") == "300/300001.sqlite"
    assert check_path("300001", "a/b/300001.sqlite") == "a/b/300001.sqlite"
