"""The providers a suite is run against. One more is one more line here, and its class."""

from functools import partial

from tests.harness.stack import DaytonaDouble, SandboxHost

# name -> makes a running service of a folder. A service has, beside `env` and `stop()`:
#   home           where commands start
#   keeps_memory   a pause keeps processes, not only the disk
#   ids()          the provider's ids of what it has now
#   fetch(url)     GET of a URL that expose-port gave, without DNS
PROVIDERS = {
    "e2b": SandboxHost,
    "daytona": partial(DaytonaDouble, real=True),
}
