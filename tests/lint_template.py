#!/usr/bin/python3
"""Rules of deploy/template that can be checked without building the image. Prints each breach; exits 1
if there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "template"
DOCKERFILE = FOLDER / "e2b.Dockerfile"
SCRIPTS = [FOLDER / "sandbox-services"]
# what E2B's builder understands of a Dockerfile
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
breaches: list[str] = []


def breach(where: str, what: str) -> None:
    breaches.append(f"{where}: {what}")


def instructions(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def check_run(where: str, command: str, pinned: set[str]) -> None:
    if subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True).returncode != 0:
        breach(where, f"not a shell command: {command[:80]}")
    if "apt-get install" in command:
        if "--no-install-recommends" not in command:
            breach(where, "apt-get install without --no-install-recommends")
        if "/var/lib/apt/lists" not in command:
            breach(where, "apt-get update in a layer that keeps its lists")
    for package in re.findall(r"pip install (.*?)(?:&&|$)", command):
        for word in package.split():
            if not word.startswith("-") and not re.search(r"==\$\{(\w+)\}", word):
                breach(where, f"pip installs {word} without a pinned version")
    for package in re.findall(r"npm install -g (.*?)(?:&&|$)", command):
        for word in package.split():
            if not word.startswith("-") and not re.search(r"@\$\{(\w+)\}", word):
                breach(where, f"npm installs {word} without a pinned version")
    for url in re.findall(r"https?://\S+", command):
        if not url.startswith("https://") or not re.search(r"\$\{\w+_VERSION\}", url):
            breach(where, f"fetches {url}, which names no pinned version")
    for curl in re.findall(r"curl\s+(-\w+)", command):
        if "f" not in curl:
            breach(where, "curl without -f takes an error page for a file")
    for name in re.findall(r"\$\{([A-Z_]+)\}", command):
        if name not in pinned:
            breach(where, f"{name} is not an ARG of this file")


def check_dockerfile() -> None:
    where = str(DOCKERFILE.relative_to(ROOT))
    found = instructions(DOCKERFILE.read_text())
    pinned = set()
    for name, rest in found:
        if name not in INSTRUCTIONS:
            breach(where, f"{name} is not understood by E2B's builder")
        elif name == "FROM" and (not re.fullmatch(r"\S+:\d+\.\d+\.\d+-bookworm(@sha256:\w{64})?", rest) or pinned):
            breach(where, f"FROM {rest}: one stage, of a Debian image whose version is pinned")
        elif name == "ARG":
            pinned.add(rest.split("=")[0])
            if not re.fullmatch(r"\w+_VERSION=\d+\.\d+\.\d+|VERSION=unknown", rest):
                breach(where, f"ARG {rest}: a full version")
        elif name == "RUN":
            check_run(where, rest, pinned)
        elif name == "COPY":
            *sources, _ = rest.split()
            for source in sources:
                if not (ROOT / source).exists():
                    breach(where, f"COPY {source}: there is no such file")
    if [rest for name, rest in found if name == "USER"][-1:] != ["user"]:
        breach(where, "the last USER must be user")


def check_toml() -> None:
    where = "deploy/template/e2b.toml"
    config = tomllib.loads((ROOT / where).read_text())
    if not (ROOT / config["dockerfile"]).is_file():
        breach(where, f"dockerfile {config['dockerfile']}: there is no such file")
    if config["memory_mb"] % 2 != 0:
        breach(where, "memory_mb must be even")
    for name in ("start_cmd", "ready_cmd"):
        program = Path(config[name].split()[0])
        if not (FOLDER / program.name).is_file() or f"/opt/sandbox/bin/{program.name}" not in DOCKERFILE.read_text():
            breach(where, f"{name}: the image has no {program}")


def check_scripts() -> None:
    for script in SCRIPTS:
        if shutil.which("shellcheck"):
            done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
            if done.returncode != 0:
                breach(str(script.relative_to(ROOT)), done.stdout)
        elif subprocess.run(["bash", "-n", str(script)]).returncode != 0:
            breach(str(script.relative_to(ROOT)), "not a shell script")


check_dockerfile()
check_toml()
check_scripts()
print("\n".join(breaches), end="\n" if breaches else "")
sys.exit(1 if breaches else 0)
