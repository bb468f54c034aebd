"""A real Prometheus, and its promtool, where they are installed: rules, samples and a scrape."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from places import ROOT
from processes import Machine, free_ports, http, until_blocking
from waiting import GIVE_UP

RULES = ROOT / "etc/prometheus/alerts.yml"


def program(name: str) -> str:
    """Where a program of Prometheus is."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def test_the_alerts_are_valid() -> None:
    """For promtool, which parses each expression."""
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(RULES)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A sync server and a worker."""
    with Machine(tmp_path_factory.mktemp("scraped"), MINIMUM_ASSIGNMENTS="1") as machine:
        program("promtool")
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        yield machine


def addresses(machine: Machine) -> list[str]:
    """What is to be scraped."""
    ports = (("s1", "SYNC_SERVER_PORT"), ("w1", "SYNC_LOCAL_PORT"))
    return [machine.url(*each).removeprefix("http://").rstrip("/") for each in ports]


def test_promtool_has_no_complaint(machine: Machine) -> None:
    """About names, types or help of any metric."""
    for address in addresses(machine):
        status, text = http("GET", f"http://{address}/metrics")
        assert status == 200
        checker = [program("promtool"), "check", "metrics"]
        done = subprocess.run(checker, input=text, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_prometheus_scrapes_and_judges(machine: Machine, tmp_path: Path) -> None:
    """Both servers are up, and no alert is wrong about its own expression."""
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "trough", "static_configs": [{"targets": addresses(machine)}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def asked(path: str) -> dict:
            status, answer = http("GET", f"http://127.0.0.1:{port}/api/v1/{path}")
            return dict(json.loads(answer)["data"]) if status == 200 else {}

        def ready() -> list[str]:
            found = asked("query?query=trough_ready").get("result", [])
            return [each["value"][1] for each in found]

        until_blocking(lambda: ready() == ["1", "1"], "both to be scraped")

        def rules() -> list[dict]:
            groups = asked("rules").get("groups", [])
            return [rule for group in groups for rule in group["rules"]]

        until_blocking(
            lambda: rules() and all(rule["health"] == "ok" for rule in rules()),
            "each rule to be evaluated",
        )
    finally:
        server.terminate()
        server.wait(GIVE_UP)
