"""Names and paths in canonical storage: which files are segments, and where one may lie.

The same for all backends, and pure. A path is relative to the root, with ``/`` between its
parts.
"""

from __future__ import annotations

from trough import errors, model
from trough.util.confined_files import COMPANIONS

#: What a segment's file ends in.
SUFFIX = ".sqlite"


def below(directory: str, name: str) -> str:
    """The path of `name` in `directory`, both relative to the root, which is ``""``."""
    return f"{directory}/{name}" if directory else name


def segment_of(name: str) -> str | None:
    """The id of the segment whose file would have this name.

    :return: None for a file that Trough does not look at
    :raises trough.errors.BadSegmentId: a segment's file by its ending, and no id before it
    """
    if not name.endswith(SUFFIX) or name.startswith("."):
        return None
    segment = name.removesuffix(SUFFIX)
    if why := model.why_no_segment_id(segment):
        raise errors.BadSegmentId(f"not a segment id: {why}", model.SEGMENT_ID_RULE)
    return segment


def database_of(name: str) -> str | None:
    """The segment's file that a write-ahead log or a rollback journal belongs to.

    :return: None for any other file
    """
    for companion in COMPANIONS:
        if name.endswith(SUFFIX + companion):
            return name.removesuffix(companion)
    return None


def reason_to_skip_directory(name: str) -> str:
    """Why a directory is not looked into, or ``""`` where it is.

    A path goes into messages, rows and JSON, so it has to be text that all of them take.
    """
    if model.unsafe_text(name):
        return "a directory whose name cannot be written down safely"
    return ""


def shown(name: str) -> str:
    """A file's name as text that can be stored and printed, for any bytes."""
    return ascii(name)[1:-1] if model.unsafe_text(name) else name


def check_path(segment: str, path: str | None) -> str:
    """Where the file of `segment` lies: `path`, or the default one for None.

    :raises trough.errors.BadSegmentId: `segment` is no id
    :raises trough.errors.BadRequest: `path` leads out of the root, is hidden, or is not
        a file of this segment
    """
    model.check_segment_id(segment)
    if path is None:
        return model.canonical_path(segment)
    *directories, name = path.split("/")
    if name != segment + SUFFIX or not all(
        part and not part.startswith(".") and not reason_to_skip_directory(part)
        for part in directories
    ):
        raise errors.BadRequest(
            f"not a path of segment {segment} in canonical storage: {ascii(path)[:200]}",
            f"relative to the root, ending in {segment}{SUFFIX}, no part beginning with a dot",
        )
    return path
