"""Every panel of the Grafana dashboard and every alert, asked of a real Prometheus that scrapes a real gateway."""

import json
import re
import shutil
import subprocess

import httpx
import pytest

from tests.harness.services import ROOT, Process, free_port, wait_until
from tests.harness.stack import BASE

METRICS = ROOT / "deploy/metrics"


@pytest.fixture
def prometheus(tmp_path):
    """Starts Prometheus over the deployment's own configuration, with `gateway` at another place."""
    started = []

    def start(gateway_url: str) -> str:
        text = (METRICS / "prometheus.yml").read_text()
        # the compose network's DNS finds the gateways; here there is one, and no such name
        text = re.sub(r"dns_sd_configs:.*", f"static_configs: [{{targets: ['{gateway_url.removeprefix('http://')}']}}]", text, flags=re.S)
        (tmp_path / "prometheus.yml").write_text(text.replace("scrape_interval: 5s", "scrape_interval: 1s"))
        shutil.copy(METRICS / "alerts.yml", tmp_path)
        port = free_port()
        started.append(Process("prometheus", ["/usr/bin/prometheus", f"--config.file={tmp_path}/prometheus.yml",
                                              f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"],
                               None, tmp_path / "prometheus.log"))
        url = f"http://127.0.0.1:{port}"
        wait_until("prometheus", lambda: httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200)
        return url

    yield start
    for process in started:
        process.stop(10)


def expressions() -> list[tuple[str, str]]:
    panels = json.loads((METRICS / "grafana/dashboards/sandbox-server.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]


@pytest.mark.release_only
def test_every_panel_has_data_and_no_alert_fires_on_a_good_system(fault_stack, prometheus):
    stack = fault_stack()
    url = prometheus(stack.url)
    client = stack.client()

    def ask(expression: str) -> list:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expression.replace("$__rate_interval", "10s")}, trust_env=False).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def busy() -> bool:
        client.delete(f"{BASE}/{client.create()['sandbox_id']}")
        return all(ask(expression) for _, expression in expressions())

    try:
        wait_until("data in every panel", busy, 25, 0.3)
    except AssertionError:
        pytest.fail(f"no data: {[(title, e) for title, e in expressions() if not ask(e)]}")
    alerts = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()["data"]["groups"][0]["rules"]
    assert len(alerts) >= 8
    for alert in alerts:
        assert not ask(alert["query"]), f"{alert['name']} fires"
        for name in re.findall(r"\bsandbox_[a-z_]+", alert["query"]):
            assert ask(name), f"{alert['name']}: there is no {name}"


def test_the_configuration_is_what_promtool_takes():
    for kind, file in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        done = subprocess.run(["promtool", "check", kind, str(METRICS / file)], capture_output=True, text=True)
        # a rule that stands twice is no error to it
        assert done.returncode == 0 and "FAILED" not in done.stdout + done.stderr, done.stdout + done.stderr
