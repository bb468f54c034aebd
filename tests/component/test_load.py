"""trough-load, run as a user does, against a small server that stores in real SQLite."""

import gzip
import io
import json

import pytest
import pytest_twisted
from load_runs import ELEVEN, publish, run
from places import SAMPLES
from twisted.internet import reactor
from web_servers import ClosingServer, WebServer

from trough.cli.load_progress import LoadProgress
from trough.load import main as load
from trough.load.segment_loader import REFUSED_IN_A_ROW
from trough.metadata.sqlite.store import SqliteMetadata

__all__ = ["run"]


@pytest_twisted.ensureDeferred
async def test_captures_become_crawled_urls(run):
    """A CDX file becomes rows of crawled_url, in batches, and the summary says how many."""
    text = "".join(ELEVEN.format(number) for number in range(25))
    assert await run("--batch", "10", run.file("a.cdx", text)) == load.ALL_LOADED
    assert len(run.segment.scripts) == 3
    assert run.segment.rows("SELECT count(*), min(timestamp), max(host) FROM crawled_url") == [
        (25, "2014-01-27 17:12:00", "example.com")
    ]
    assert "25 rows loaded, 0 records skipped" in run.printed


@pytest.mark.parametrize(
    ("name", "rows", "skipped"), [("iana.cdxj", 171, 0), ("zipnum-sample.cdx", 114, 37)]
)
@pytest_twisted.ensureDeferred
async def test_real_crawls(run, name, rows, skipped):
    """Real indexes are loaded as far as they are whole, and the damaged lines named."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no real crawl data: {path} is not there")
    damaged = [
        number
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if name.endswith(".cdx") and len(line.split(" ")) != 11
    ]
    assert len(damaged) == skipped
    status = await run("--show-skipped", "1000", str(path))
    assert status == (load.SOME_SKIPPED if skipped else load.ALL_LOADED)
    assert run.segment.rows("SELECT count(*) FROM crawled_url") == [(rows,)]
    told = [line for line in run.printed.splitlines() if "skipped: 21 field" in line]
    assert [int(line.split(":")[1]) for line in told] == damaged


@pytest_twisted.ensureDeferred
async def test_a_table_need_not_want_all_of_a_capture(run):
    """Of a capture, what the table has no column for is left out."""
    assert await run("--table", "small", run.file("a.cdx", ELEVEN.format(1))) == load.ALL_LOADED
    assert run.segment.rows("SELECT * FROM small") == [("http://example.com/1", "example.com")]


@pytest_twisted.ensureDeferred
async def test_csv_json_lines_and_gzip(run):
    """Several files of different formats, one of them compressed, in one run."""
    csv = run.file("a.csv.gz", gzip.compress(b"url,host\nhttp://a,a\nhttp://b,\n"))
    lines = run.file("b.jsonl", '{"url": "http://c"}\n{"url": "http://d", "host": "it\'s \\u0000"}')
    assert await run("--table", "small", csv, lines) == load.ALL_LOADED
    assert run.segment.rows("SELECT * FROM small") == [
        ("http://a", "a"),
        ("http://b", None),
        ("http://c", None),
        ("http://d", "it's \0"),
    ]


@pytest_twisted.ensureDeferred
async def test_refused_rows_are_found_and_the_rest_is_stored(run):
    """Rows that break the table's rules are skipped by line and reason, no others."""
    urls = [*map(str, range(200))]
    urls[70] = "69"  # not unique
    text = "".join(json.dumps({"url": url}) + "\n" for url in urls)
    text += '{"url": null}\n{"nothing": 1}\n'
    path = run.file("a.jsonl", text)
    assert await run("--table", "small", path) == load.SOME_SKIPPED
    assert run.segment.rows("SELECT count(*), count(DISTINCT url) FROM small") == [(199, 199)]
    assert f"{path}:71: skipped: UNIQUE constraint failed: small.url" in run.printed
    assert f"{path}:201: skipped: NOT NULL constraint failed: small.url" in run.printed
    assert f"{path}:202: skipped: small has no column nothing" in run.printed
    assert "199 rows loaded, 3 records skipped" in run.printed


@pytest_twisted.ensureDeferred
async def test_loading_stops_where_everything_is_refused(run):
    """So many refusals in a row that it is not the rows: stop, say the reason."""
    text = '{"url": "same"}\n' * (3 * REFUSED_IN_A_ROW)
    assert await run("--table", "small", run.file("a.jsonl", text)) == load.STOPPED
    assert f"{REFUSED_IN_A_ROW} rows in a row were refused" in run.printed
    assert f"--from-line {REFUSED_IN_A_ROW + 2}" in run.printed


@pytest_twisted.ensureDeferred
async def test_many_refusals_among_good_rows_are_no_reason_to_stop(run):
    """Refusals that are not in a row are skipped however many they are."""
    urls = [f"u{number // 2}" for number in range(3 * REFUSED_IN_A_ROW)]
    text = "".join(json.dumps({"url": url}) + "\n" for url in urls)
    path = run.file("a.jsonl", text)
    assert await run("--table", "small", "--batch", "50", path) == load.SOME_SKIPPED
    assert run.segment.rows("SELECT count(*) FROM small") == [(len(set(urls)),)]


@pytest_twisted.ensureDeferred
async def test_columns_that_the_table_lacks_among_good_rows_are_no_reason_to_stop(run):
    """Rows that wait for their batch are good ones in between, although not stored yet."""
    good = (json.dumps({"url": str(number)}) for number in range(REFUSED_IN_A_ROW))
    path = run.file("a.jsonl", "".join(f'{row}\n{{"nothing": 1}}\n' for row in good))
    assert await run("--table", "small", path) == load.SOME_SKIPPED
    assert run.segment.rows("SELECT count(*) FROM small") == [(REFUSED_IN_A_ROW,)]


@pytest_twisted.ensureDeferred
async def test_loading_stops_where_no_column_is_the_tables(run):
    """A file for another table: told after some rows, and nothing is stored."""
    path = run.file("a.jsonl", '{"nothing": 1}\n' * (2 * REFUSED_IN_A_ROW))
    assert await run("--table", "small", path) == load.STOPPED
    assert "the last because: small has no column nothing" in run.printed
    assert "nothing of it is stored" in run.printed


@pytest_twisted.ensureDeferred
async def test_two_values_for_one_column_are_refused(run):
    """SQLite would drop one of them without a word."""
    path = run.file("a.jsonl", '{"url": "a", "URL": "b"}\n{"url": "c"}\n')
    assert await run("--table", "small", path) == load.SOME_SKIPPED
    assert run.segment.rows("SELECT url FROM small") == [("c",)]
    assert f"{path}:1: skipped: two values for one column: url, URL" in run.printed


@pytest_twisted.ensureDeferred
async def test_only_the_first_skipped_lines_are_told(run):
    """--show-skipped bounds what is printed, and the summary counts all."""
    path = run.file("a.cdx", ELEVEN.format(1) + "damaged\n" * 50)
    assert await run("--show-skipped", "2", path) == load.SOME_SKIPPED
    assert run.printed.count("skipped: 1 field, and no header") == 2
    assert "1 row loaded, 50 records skipped" in run.printed


@pytest_twisted.ensureDeferred
async def test_where_to_go_on_after_a_stop(run):
    """A worker that fails half-way: what is stored is said, and --from-line completes it."""
    text = "".join(ELEVEN.format(number) for number in range(30))
    path = run.file("a.cdx", text)
    run.segment.before_write = lambda: (
        (503, b"500 Server Error: disk full\n", ("x-trough-error", "disk-full"))
        if len(run.segment.scripts) == 3
        else None
    )
    assert await run("--batch", "10", path) == load.STOPPED
    assert "disk full" in run.printed and "--from-line 21" in run.printed
    assert await run("--batch", "10", "--from-line", "21", path) == load.ALL_LOADED
    assert run.segment.rows("SELECT count(*), count(DISTINCT url) FROM crawled_url") == [(30, 30)]


@pytest_twisted.ensureDeferred
async def test_a_batch_without_an_answer_is_told_as_doubtful(run):
    """No answer: the lines of that batch may be stored or not, and that is said."""
    async with ClosingServer(reactor) as dying:
        provisioned = {"write_url": dying.url}
        answer = run.segment.__call__

        def provision_elsewhere(method, uri, body):
            if uri == "/provision":
                return 200, json.dumps(provisioned).encode()
            return answer(method, uri, body)

        async with WebServer(reactor, provision_elsewhere) as sync:
            metadata = SqliteMetadata(run._path / "other" / "registry.db", reactor)
            (run._path / "other").mkdir()
            await publish(metadata, "s", sync.url)
            run._path = run._path / "other"
            path = run.file("a.cdx", "damaged\n" + ELEVEN.format(1) * 5)
            assert await run(path) == load.STOPPED
            await metadata.close()
    assert "lines 2 to 6 may be stored or not" in run.printed
    assert len(dying.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--table", "absent"], "has no table absent"),
        (["nowhere.cdx"], "nowhere.cdx: cannot be read: No such file or directory\n"),
        (["--segment", "a/b"], "not a segment id"),
        (["-u", "mysql://x"], "mysql"),
        (["--from-line", "5", "a", "b"], "name one file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_begin_says_why(run, arguments, reason):
    """Nothing is stored, and one line says what was wrong."""
    files = [] if arguments[-1].startswith("nowhere") else [run.file("a.cdx", ELEVEN.format(1))]
    if arguments[0] == "--from-line":
        files = []
    assert await run(*arguments, *files) == load.STOPPED
    assert reason in run.printed
    assert "Traceback" not in run.printed
    assert run.segment.scripts == []


@pytest_twisted.ensureDeferred
async def test_files_that_are_no_files_of_any_format(run):
    """An unknown format, a damaged archive and an empty file are told apart."""
    assert await run(run.file("a.txt", "what is this\n")) == load.STOPPED
    assert "--format" in run.printed
    damaged = gzip.compress(ELEVEN.encode() * 50)[:-20]
    assert await run(run.file("a.cdx.gz", damaged)) == load.STOPPED
    assert "the file ends early" in run.printed
    assert await run(run.file("empty", "")) == load.ALL_LOADED
    assert "0 rows loaded, 0 records skipped" in run.printed


@pytest_twisted.ensureDeferred
async def test_messages_cannot_command_the_terminal(run):
    """What a damaged line holds is shown, not obeyed."""
    path = run.file("\x1b[2J.csv", 'url\n"\x1b[31m"x\n')
    assert await run("--table", "small", path) == load.SOME_SKIPPED
    assert "\x1b" not in run.printed


def test_usage_is_told_by_status_two(capsys):
    """Wrong arguments end with status 2 and the usage; --help says what matters."""
    for arguments in ([], ["--segment", "s", "--batch", "0"], ["--segment", "s", "--format", "x"]):
        with pytest.raises(SystemExit, match="2"):
            load.main(arguments)
        told = capsys.readouterr().err
        assert "usage: trough-load" in told and "_positive" not in told
    with pytest.raises(SystemExit, match="0"):
        load.main(["--help"])
    assert "twice stores its rows twice" in capsys.readouterr().out


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere():
    """It shows the share read and the time left, is drawn seldom, and leaves room for messages."""
    now = [0.0]
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        now[0] = 0.0
        progress = LoadProgress(stream, 200, lambda: now[0])
        progress.begin(lambda: 100)
        progress.add(loaded=1)
        now[0] = 5.0
        progress.add(loaded=1999)
        progress.say("a message")
        now[0] = 16.0
        progress.add(loaded=2000)
        progress.finish()
    drawn = terminal.getvalue().split("\r\x1b[K")
    begin = "[##########..........]  50% 2,000 rows loaded, about 5.0 s left"
    assert drawn[1].startswith(begin)
    assert drawn[2] == "a message\n"
    assert log.getvalue().splitlines() == [
        "a message",
        " 50% 4,000 rows loaded, about 16.0 s left, 0 records skipped in 16.0 s, 250 rows/s",
        "4,000 rows loaded, 0 records skipped in 16.0 s, 250 rows/s",
    ]
