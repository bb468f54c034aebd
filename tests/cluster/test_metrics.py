"""What Prometheus scrapes from real processes, and what is made of it."""

import json
import re
from urllib.parse import quote

import pytest
import yaml
from places import ROOT
from processes import Machine, http, read, until_blocking, write
from prometheus_client.parser import text_string_to_metric_families

SQL = "SELECT n FROM t ORDER BY n"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker with one segment; every read is slow."""
    directory = tmp_path_factory.mktemp("metrics")
    with Machine(directory, MINIMUM_ASSIGNMENTS="1", SLOW_QUERY_SECONDS="0.000001") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        url = machine.provision("s1", "counted")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)")
        yield machine


def scraped(machine, name):
    """Samples of a process: values by name and labels."""
    port = "SYNC_SERVER_PORT" if name == "s1" else "SYNC_LOCAL_PORT"
    status, text = http("GET", machine.url(name, port) + "metrics")
    assert status == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def requests(samples, **labels):
    return samples.get(("trough_requests_total", *sorted(labels.items())), 0)


def test_requests_rows_and_writes_are_counted(machine):
    """By protocol, verb and outcome; the status has the same."""
    before = scraped(machine, "w1")
    read_url = machine.url("w1", "READ_PORT") + "?segment=counted"
    assert read(read_url, SQL) == [{"n": 1}, {"n": 2}]
    assert http("POST", read_url, b"SELECT nosuch")[0] == 400
    assert (
        http("GET", machine.url("w1", "READ_PORT") + "?segment=counted&sql=" + quote(SQL))[0] == 200
    )
    after = scraped(machine, "w1")
    asked = {"protocol": "http", "verb": "read"}
    assert requests(after, **asked, outcome="ok") - requests(before, **asked, outcome="ok") == 2
    assert requests(after, **asked, outcome="bad-sql") == 1
    assert requests(after, protocol="http", verb="write", outcome="ok") == 1
    assert after["trough_rows_total",] - before["trough_rows_total",] >= 4
    assert after["trough_answer_bytes_total",] > before["trough_answer_bytes_total",]
    assert after["trough_writes_total",] == 1
    assert after["trough_changes_total",] >= 2
    latency = ("trough_request_seconds_count", ("protocol", "http"), ("verb", "read"))
    assert after[latency] == 3
    status = machine.status("w1")
    assert status["requests"]["http read"] == {"ok": 2, "bad-sql": 1}
    assert status["executors"]["totals"]["writes"] == 1


def test_the_work_of_executors_is_measured(machine):
    """Waits and turns by kind; and each commit with its writes and its log."""
    write_url = machine.provision("s1", "counted")["write_url"]
    before = scraped(machine, "w1")
    write(write_url, "INSERT INTO t VALUES (3)")
    read(machine.url("w1", "READ_PORT") + "?segment=counted", SQL)
    after = scraped(machine, "w1")

    def more(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    for name in ("trough_executor_queue_seconds", "trough_executor_turn_seconds"):
        assert more(f"{name}_count", kind="read") >= 1
        assert more(f"{name}_count", kind="write") >= 1
    assert more("trough_commit_seconds_count") == more("trough_commit_writes_sum") == 1
    assert after["trough_commit_seconds_sum",] > 0
    assert more("trough_wal_bytes_count") == 1
    assert more("trough_wal_bytes_sum") > 4096


def test_promotions_and_fetches_are_measured(machine):
    """With their bytes; and what was promoted is no older write any more."""
    write(machine.provision("s1", "moved")["write_url"], "CREATE TABLE t (n)")
    before = scraped(machine, "w1")
    body = b'{"segment": "moved"}'
    assert http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", body)[0] == 200
    after = scraped(machine, "w1")
    publish = ("direction", "publish")
    for name, least in (
        ("trough_transfer_seconds_count", 1),
        ("trough_transfer_bytes_total", 4096),
    ):
        assert after[name, publish] - before[name, publish] >= least
    assert after["trough_transfer_failures_total", publish] == 0
    assert after["trough_reconciler_looks_total",] > 0


def test_kept_answers_are_counted(machine):
    """Segments on the worker, and whole GATHERs on the sync server."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "gather"
    body = json.dumps({"segments": ["counted"], "sql": "SELECT sum(n) FROM t"}).encode()
    until_blocking(lambda: http("POST", url, body)[0] == 200, "the first answer")
    until_blocking(
        lambda: (
            http("POST", url, body)[0] == 200
            and scraped(machine, "s1")["trough_gather_cache_hits_total",] > 0
        ),
        "an answer that was kept",
    )
    assert scraped(machine, "s1")["trough_gather_cache_misses_total",] >= 1
    assert "trough_result_cache_hits_total" in {name for name, *_ in scraped(machine, "w1")}


def test_no_label_names_a_segment(machine):
    """Nor anything else that a client can make up."""
    for path in ("nosuch", "schema/made-up", "segment/made-up"):
        http("GET", machine.url("s1", "SYNC_SERVER_PORT") + path)
    labels = {
        pair for name in ("s1", "w1") for _, *pairs in scraped(machine, name) for pair in pairs
    }
    assert not {value for _, value in labels} & {"counted", "nosuch", "made-up"}


def test_alerts_and_dashboard_use_what_there_is(machine):
    """Each alert links to a section of the operator's guide that exists."""
    names = {name for process in ("s1", "w1") for name, *_ in scraped(machine, process)}
    # Those of cold workers are there on cold workers.
    optional = {"trough_cold_hits_total", "trough_cold_fetches_total"}
    rules = yaml.safe_load((ROOT / "etc/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    dashboard = json.loads((ROOT / "etc/grafana/trough.json").read_text())
    used = [rule["expr"] for rule in rules]
    used += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in used:
        found = set(re.findall(r"\b(?:trough|process)_\w+", expression))
        assert found
        assert found <= names | optional, expression
    guide = (ROOT / "docs/operations.rst").read_text()
    headings = re.findall(r"^(\S.*)\n[=~\-\^]{4,}$", guide, re.MULTILINE)
    terms = re.findall(r"^(\S[^\n]*)\n {4}\S", guide, re.MULTILINE)
    slugs = {re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") for each in headings + terms}
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        path, _, section = rule["annotations"]["guide"].partition("#")
        assert path == "docs/operations.rst"
        assert section in slugs, section


def test_slow_queries_are_logged_with_their_plan(machine):
    """With the segment, the text, and how SQLite searches."""
    sql = "SELECT n FROM t WHERE n = 2 AND 'slow' = 'slow'"
    read(machine.url("w1", "READ_PORT") + "?segment=counted", sql)
    line = machine.processes["w1"].wait_for("'slow' = 'slow' (plan: ")
    assert "slow query" in line
    assert "counted" in line
    assert "SCAN t" in line


def test_a_sampled_trace_is_logged(machine):
    """By its number; one that is not sampled, or is none, is not."""
    url = machine.url("w1", "READ_PORT") + "?segment=counted"
    traces = {"a": "01", "b": "00", "c": "01"}
    for digit, flags in traces.items():
        trace = f"00-{digit * 32}-{'1' * 16}-{flags}"
        http("POST", url, SQL.encode(), {"traceparent": "nonsense" if digit == "b" else trace})
    line = machine.processes["w1"].wait_for(f"trace {'c' * 32}")
    assert f"trace {'a' * 32}, span {'1' * 16}: POST /, ok" in machine.processes["w1"].output
    assert "b" * 32 not in machine.processes["w1"].output
    assert "POST /" in line


def test_an_order_carries_its_trace(machine):
    """From the sync server to the worker that does it, and to no other order."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "provision"
    traced = {"traceparent": f"00-{'d' * 32}-{'2' * 16}-01", "Content-Type": "application/json"}
    assert http("POST", url, b'{"segment": "traced"}', traced)[0] == 200
    line = machine.processes["w1"].wait_for(f"trace {'d' * 32}")
    assert "POST /provision, ok" in line
    assert http("POST", url, b'{"segment": "untraced"}')[0] == 200
    assert machine.processes["w1"].output.count("d" * 32) == 1


def test_a_gather_carries_its_trace(machine):
    """To the workers that it asks, by the line protocol."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "gather?segments=counted&sql="
    sql = quote("SELECT count(*) AS traced FROM t")
    trace = {"traceparent": f"00-{'e' * 32}-{'3' * 16}-01"}
    assert http("GET", url + sql, headers=trace)[0] == 200
    line = machine.processes["w1"].wait_for(f"trace {'e' * 32}")
    assert f"span {'3' * 16}: QUERY of 1 segments" in line
    count = machine.processes["w1"].output.count("e" * 32)
    assert http("GET", url + sql.replace("traced", "untraced"))[0] == 200
    assert machine.processes["w1"].output.count("e" * 32) == count


def test_metrics_want_the_token(tmp_path):
    """As everything but ``/health``."""
    with Machine(tmp_path, AUTH_TOKEN="a-long-secret") as machine:
        machine.sync("s1").wait_ready()
        url = machine.url("s1", "SYNC_SERVER_PORT") + "metrics"
        until_blocking(lambda: http("GET", url)[0] == 401, "the server to want a token")
        assert http("GET", url, headers={"Authorization": "Bearer a-long-secret"})[0] == 200
