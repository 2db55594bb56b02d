"""Every panel of the Grafana dashboard and every alert, asked of a real Prometheus that scrapes a real gateway."""

import json
import re
import subprocess

import httpx
import pytest

from tests.harness.prometheus import METRICS, Prometheus
from tests.harness.services import ROOT, wait_until
from tests.harness.stack import BASE

GRAFANA = METRICS / "grafana"


@pytest.fixture
def prometheus(tmp_path):
    """Starts Prometheus over the deployment's own configuration, with `gateway` at another place."""
    started = []

    def start(gateway_url: str) -> str:
        started.append(Prometheus(tmp_path, [gateway_url]))
        return started[0].url

    yield start
    for service in started:
        service.stop()


def dashboard() -> dict:
    return json.loads((GRAFANA / "dashboards/sandbox-server.json").read_text())


def expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", [])]


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
        wait_until("data in every panel", busy, 60, 0.3)
    except TimeoutError:
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


def test_the_dashboard_agrees_with_what_is_provisioned_beside_it():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    source = (GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
    [uid], [kind] = re.findall(r"^ *uid: (.+)$", source, re.M), re.findall(r"^ *type: (.+)$", source, re.M)
    for user in [user for panel in panels if panel["type"] != "row" for user in (panel, *panel["targets"])]:
        assert user["datasource"] == {"type": kind, "uid": uid}, user

    # no panel lies over another, or beside the grid
    taken = [(x, y) for place in (panel["gridPos"] for panel in panels)
             for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
    assert len(set(taken)) == len(taken) and max(x for x, _ in taken) < 24

    compose = (ROOT / "docker-compose.yml").read_text()
    [folder] = re.findall(r"path: (\S+) }", (GRAFANA / "provisioning/dashboards/sandbox-server.yml").read_text())
    assert f"./deploy/metrics/grafana/dashboards:{folder}:ro" in compose
    assert f"GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: {folder}/sandbox-server.json" in compose
    # the picture is drawn with the components of the Grafana that is deployed, and the schema is that one's
    [deployed] = re.findall(r"grafana/grafana:(\d+\.\d+)\.", compose)
    pinned = json.loads((ROOT / "tests/dashboard/package.json").read_text())["dependencies"]
    assert {version.rpartition(".")[0] for name, version in pinned.items() if name.startswith("@grafana/")} == {deployed}
