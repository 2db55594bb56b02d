"""A real Prometheus over the deployment's own configuration, scraping gateways of this machine."""

import re
import shutil
from pathlib import Path

import httpx

from tests.harness.services import ROOT, Process, free_port, wait_until

METRICS = ROOT / "deploy/metrics"


class Prometheus:
    def __init__(self, folder: Path, gateway_urls: list[str], scrape_interval: str = "1s"):
        # the compose network's DNS finds the gateways; here there is no such name
        targets = [url.removeprefix("http://") for url in gateway_urls]
        text = re.sub(r"dns_sd_configs:.*", f"static_configs: [{{targets: {targets}}}]", (METRICS / "prometheus.yml").read_text(), flags=re.S)
        (folder / "prometheus.yml").write_text(text.replace("scrape_interval: 5s", f"scrape_interval: {scrape_interval}"))
        shutil.copy(METRICS / "alerts.yml", folder)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process("prometheus", ["/usr/bin/prometheus", f"--config.file={folder}/prometheus.yml",
                                              f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                               None, folder / "prometheus.log")
        wait_until("prometheus", lambda: httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200)

    def stop(self) -> None:
        self.process.stop(10)
