"""The web console, from its files to a real browser that shows them."""

import json
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from chromium import Chromium
from processes import Machine, http, until_blocking, write
from waiting import GIVE_UP

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e'
DAYS = "SELECT day, sum(n) AS total FROM visits GROUP BY day ORDER BY day"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker with three segments."""
    directory = tmp_path_factory.mktemp("console")
    with Machine(directory, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        for number in range(3):
            url = machine.provision("s1", f"crawl-{number}")["write_url"]
            write(
                url,
                "CREATE TABLE visits (day TEXT, n INTEGER, note TEXT);"
                f"INSERT INTO visits VALUES ('2026-01-0{number + 1}', {number + 1}, '{HOSTILE}'),"
                "  ('2026-01-09', 9007199254740993, NULL), ('2026-01-09', -9, x'00ff')",
            )
        sync = machine.url("s1", "SYNC_SERVER_PORT")
        until_blocking(
            lambda: json.loads(http("GET", f"{sync}segments")[1])["count"] == 3, "three segments"
        )
        yield machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A browser of which the size and the colours are as ever, and that has no complaints."""
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.show("about:blank")
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []


def console(machine, path="", **options):
    query = f"?{urlencode(options)}" if options else ""
    return f"{machine.url('s1', 'SYNC_SERVER_PORT')}console/#/{path}{query}"


def test_the_page_may_load_nothing_from_elsewhere(machine):
    """Nor be shown in a frame; and its files name no other server."""
    url = machine.url("s1", "SYNC_SERVER_PORT")
    with urlopen(url, timeout=GIVE_UP) as response:
        assert response.url == url + "console/"
        policy = response.headers["content-security-policy"]
        tag = response.headers["etag"]
        text = response.read().decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert http("GET", f"{url}console/", headers={"If-None-Match": tag})[0] == 304
    assert "//" not in text.replace("<!doctype html>", "")
    for name in ("nosuch.js", "..%2f__init__.py", "vendor/%2e%2e%2fapp.js", "__init__.py"):
        assert http("GET", f"{url}console/{name}")[0] == 404


def test_segments_are_found_a_page_at_a_time(machine):
    """In the order of their ids, with the number of all that match."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "segments"
    first = json.loads(http("GET", f"{url}?limit=2")[1])
    assert (first["count"], first["next"]) == (3, "crawl-1")
    second = json.loads(http("GET", f"{url}?limit=2&after={first['next']}")[1])
    assert second["next"] is None
    rows = [*first["segments"], *second["segments"]]
    assert [row["segment"] for row in rows] == ["crawl-0", "crawl-1", "crawl-2"]
    found = json.loads(http("GET", f"{url}?matching=2%24")[1])
    assert [row["segment"] for row in found["segments"]] == ["crawl-2"]
    (row,) = found["segments"]
    assert (row["tier"], row["writer"], row["copies"]) == ("hot", "w1", ["w1"])
    assert row["unpromoted_since"] > 1_700_000_000
    assert row["size"] is row["version"] is None
    one = json.loads(http("GET", f"{url}/crawl-1")[1])
    assert one["lock"]["node"] == "w1"
    assert http("GET", f"{url}/nosuch")[0] == 404
    assert http("GET", f"{url}?matching=(")[0] == 400
    assert http("GET", f"{url}?macthing=x")[0] == 400


def test_a_query_is_a_link(machine, page):
    """Rows, the number of segments, a chart and downloads come of the address alone."""
    page.show(console(machine, "query", which="^crawl", sql=DAYS, run="yes"))
    page.wait_for_text("4 rows in")
    page.wait_for_text("3 segments: crawl-0, crawl-1, crawl-2")
    # A number that JavaScript cannot hold is shown as it is stored.
    page.wait_for_text("27021597764222952")
    page.click("Chart")
    assert page.value("document.querySelector('.chart canvas').width") > 0
    links = page.value("[...document.querySelectorAll('a[download]')].map(a => a.href)")
    assert len(links) == 7
    for link in links:
        assert http("GET", link)[0] == 200


def test_each_segment_may_answer_by_itself(machine, page):
    """Rows then have their segment; the same in every format."""
    asked = {"which": "^crawl", "how": "each", "sql": "SELECT day, n FROM visits LIMIT 1"}
    page.show(console(machine, "query", **asked, run="yes"))
    page.wait_for_text("3 rows in")
    cells = page.value("[...document.querySelectorAll('td')].map(c => c.innerText)")
    assert {"crawl-0", "crawl-1", "crawl-2"} <= set(cells)
    links = page.value("[...document.querySelectorAll('a[download]')].map(a => a.href)")
    for link in links:
        status, answer = http("GET", link)
        assert status == 200 and b"crawl-2" in answer
    url = machine.url("s1", "SYNC_SERVER_PORT") + "gather"
    body = {"matching": "^crawl", "sql": "SELECT count(*) AS n FROM visits", "each": True}
    status, answer = http("POST", url, json.dumps(body).encode())
    assert sorted(json.loads(answer)["rows"]) == [[f"crawl-{n}", 3] for n in range(3)]
    assert status == 200


def test_a_chart_is_part_of_the_link(machine, page):
    """A reader who opens it sees the chart at once; another query has none."""
    page.show(console(machine, "query", which="^crawl", sql=DAYS, run="yes"))
    page.wait_for_text("4 rows in")
    page.click("Chart")
    link = page.value("location.href")
    assert "chart=line" in link
    page.show("about:blank")
    page.show(link)
    page.wait_for("document.querySelector('.chart canvas').width > 0")
    page.click("Run")
    page.wait_for("!location.href.includes('chart=')")


def test_values_are_text_whatever_they_hold(machine, page):
    """Markup is shown, not run; what is invisible is written out; NULL is no text."""
    sql = "SELECT note, n FROM visits WHERE _segment = 'crawl-0' ORDER BY n"
    page.show(console(machine, "query", which="^crawl", sql=sql, run="yes"))
    page.wait_for_text("3 rows in")
    cells = page.value("[...document.querySelectorAll('td')].map(c => c.innerText)")
    assert HOSTILE.replace("\u202e", "\\u202e") in cells
    assert "9007199254740993" in cells
    assert {"NULL", "BLOB, 2 bytes"} <= set(cells)
    assert page.value("document.title") == "Query - Trough"
    assert page.value("document.querySelectorAll('main img, main script').length") == 0
    page.value("document.querySelectorAll('th button')[1].click()")
    page.value("document.querySelectorAll('th button')[1].click()")
    assert page.value("document.querySelector('th[aria-sort=descending]').innerText") == "n ▾"


def test_missing_segments_are_obvious(machine, page):
    """An alert names them; without leave to miss any the query fails, and says why."""
    asked = {"which": "crawl-0,nosuch", "list": "yes", "sql": "SELECT count(*) FROM visits"}
    page.show(console(machine, "query", **asked, partial="yes", run="yes"))
    page.wait_for_text("1 segment missing")
    alert = page.value("document.querySelector('[role=alert]').innerText")
    assert "nosuch: no worker serves" in alert
    page.show("about:blank")
    page.show(console(machine, "query", **asked, run="yes"))
    page.wait_for_text("1 of 2 segments failed")
    page.complaints[:] = [each for each in page.complaints if "503" not in each]


def test_the_keyboard_is_enough(machine, page):
    """Tab comes to the editor and out of it, Ctrl-Enter runs, and the history remembers."""
    page.show(console(machine, "query"))
    page.wait_for_text("3 segments")
    focused = "(document.activeElement.shadowRoot?.activeElement ?? document.activeElement)"
    seen = []
    for _ in range(14):
        page.press("Tab")
        seen.append(page.value(f"{focused}.innerText || {focused}.id || {focused}.type"))
        if seen[-1] == "SELECT 1":
            page.type("SELECT 2 AS typed -- ")
            page.press("Enter", 2)
            page.wait_for_text("1 row in")
    assert "which" in seen
    assert "Run" in seen[seen.index("which") :]
    page.wait_for_text("1 row in")
    page.value("document.querySelector('summary').click()")
    assert "2 AS typed" in page.value("document.querySelector('details').innerText")
    assert "typed" in page.value("location.hash")


def test_a_segment_has_a_page(machine, page):
    """Where it lies, its columns, a sample; and it is promoted with one click."""
    page.show(console(machine, "segments"))
    page.wait_for_text("crawl-2")
    page.value("[...document.querySelectorAll('td a')].find(a => a.innerText == 'crawl-1').click()")
    page.wait_for_text("3 rows; a sample:")
    page.wait_for_text("w1, since")
    page.value(
        "[...document.querySelectorAll('button')].find(b => b.innerText == 'Promote').click()"
    )
    page.wait_for_text("promote: done")
    url = machine.url("s1", "SYNC_SERVER_PORT") + "segments/crawl-1"

    def promoted():
        about = json.loads(http("GET", url)[1])
        # The worker says later than the leader that nothing waits for promotion.
        return about["version"] and about["unpromoted_since"] is None and about

    assert until_blocking(promoted, "a version and a clean lock")["size"] > 0
    page.show("about:blank")
    page.show(console(machine, "segments", matching="crawl-1"))
    heads = "[...document.querySelectorAll('th')].map(each => each.innerText)"
    wanted = "Segment,Tier,Copies,Size,Version,Writer,Unpromoted since"
    page.wait_for(f"{heads}.join() == {json.dumps(wanted)}")
    page.wait_for_text("KiB")


def test_the_cluster_shows_its_problems_first(machine, page):
    """With the section of the guide; and a worker shows itself on its own port."""
    page.show(console(machine, "cluster"))
    page.wait_for_text("No problems.")
    page.wait_for_text("w1")
    # The leader names the locks, and each leads to its segment.
    page.wait_for("[...document.querySelectorAll('dd a')].some(a => a.innerText == 'crawl-0')")
    page.wait_for_text("answers; as of")
    page.show(machine.url("w1", "SYNC_LOCAL_PORT") + "console/")
    page.wait_for_text("Written here")
    # The server has samples from before the page was opened.
    page.wait_for("document.querySelectorAll('figure canvas').length > 3")
    for port in (("s1", "SYNC_SERVER_PORT"), ("w1", "SYNC_LOCAL_PORT")):
        past = json.loads(http("GET", machine.url(*port) + "history")[1])
        assert past["columns"][:3] == ["time", "requests_total", "errors_total"]
        assert past["rows"]
    assert page.value("[...document.querySelectorAll('nav a')].filter(a => !a.hidden).length") == 1
    status = machine.status("s1")
    status["workers"][0]["trouble"] = "w1: promotions fail (see Promotions fail)"
    status["leadership"]["placement"]["lost_copies"] = 7
    told = page.value(f"import('./cluster.js').then(m => m.problemsOf({json.dumps(status)}))")
    assert [each["section"] for each in told] == ["Promotions fail", "Segments have too few copies"]
    shown = page.value(
        f"import('./guide.js').then(m => m.guideTo({json.dumps(told[1]['section'])}))"
    )
    assert shown["command"] == "trough-admin workers"


PAGES = {
    "query": {"which": "^crawl", "sql": DAYS, "run": "yes"},
    "segments": {},
    "segments/crawl-0": {},
    "cluster": {},
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(machine, page, path, scheme):
    """axe-core finds nothing serious on a desk and on a phone, in either scheme."""
    ready = {"query": "rows in", "segments": "3 segments", "cluster": "No problems"}
    for width in (360, 1280):
        page.look_like(scheme, width)
        page.show("about:blank")
        page.show(console(machine, path, **PAGES[path]))
        page.wait_for_text(ready.get(path, "a sample:"))
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.serious_faults() == []
