"""The providers a suite is run against. One more is one more line here, and its class."""

from functools import partial

from tests.harness.services import wait_until
from tests.harness.stack import DaytonaDouble, FaultProvider, OldEnvd, SandboxHost

# name -> makes a running service of a folder. A service has, beside `env` and `stop()`:
#   home           where commands start
#   keeps_memory   a pause keeps processes, not only the disk
#   ids()          the provider's ids of what it has now
#   fetch(url)     GET of a URL that expose-port gave, without DNS
PROVIDERS = {
    "e2b": SandboxHost,
    "daytona": partial(DaytonaDouble, real=True),
}
# the same, and E2B with the versions of envd that differ (common/provider/e2b_versions.def)
PROVIDER_VERSIONS = {
    "e2b": SandboxHost,
    "e2b-0.5.6": partial(OldEnvd, version="0.5.6"),
    "e2b-0.2.11": partial(OldEnvd, version="0.2.11"),
    "daytona": PROVIDERS["daytona"],
}


# a second for everything that is many in production
FAILOVER_FAST = {"SANDBOX_FAILOVER_PATIENCE_MS": "1500", "SANDBOX_FAILOVER_UNSETTLED_MS": "3000",
                 "WORKER_BREAKER_OPEN_MS": "2000", "WORKER_HEARTBEAT_MS": "200", "WORKER_CAPACITY_BASE_MS": "300",
                 "E2B_REQUEST_TIMEOUT_MS": "1500", "DAYTONA_REQUEST_TIMEOUT_MS": "1500"}


class Pair:
    """An E2B and a Daytona, in this order."""

    order = "e2b,daytona"

    def __init__(self, folder):
        self.e2b, self.daytona = FaultProvider(folder), DaytonaDouble(folder)

    @property
    def env(self) -> dict[str, str]:
        return self.e2b.env | self.daytona.env | {"SANDBOX_PROVIDERS": self.order}

    def made(self) -> dict[str, list[str]]:
        """our sandbox id -> where it was ever created, by the ground-truth logs"""
        made: dict[str, list[str]] = {}
        for effect in self.e2b.effects():
            if effect["effect"] == "create":
                made.setdefault(effect["metadata"]["sandbox_id"], []).append("e2b")
        for effect in self.daytona.effects():
            if effect["effect"] == "create":
                made.setdefault(effect["labels"]["sandbox_id"], []).append("daytona")
        return made

    def reset(self) -> None:
        for provider in (self.e2b, self.daytona):
            if not provider.process.alive():
                provider.process.start()
                wait_until("provider", provider.state)
            provider.faults()

    def stop(self) -> None:
        self.e2b.stop()
        self.daytona.stop()
