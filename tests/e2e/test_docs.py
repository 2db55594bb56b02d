"""What the pages say, against what is there: settings and their defaults, files, targets, links, calls."""

import re
import subprocess

from tests.harness.services import ROOT, build_dir

PROGRAMS = ["sandbox-gateway", "sandbox-worker", "sandbox-reaper", "sandbox-host", "sandbox-tool-server"]
PAGES = sorted(p for p in ROOT.glob("**/*.md") if not {"build", "var", "node_modules", ".venv"} & set(p.relative_to(ROOT).parts))
PREFIXES = "GATEWAY|WORKER|REAPER|SANDBOX|E2B|DAYTONA|JWT|LOGIN|REDIS|DATABASE|ADMISSION|RUN_CMD|COMMANDS?|MCP"
NAME = re.compile(rf"`((?:{PREFIXES})_[A-Z0-9_]+)`")
# no settings of a program: of compose and make run, of E2B's own machines, of what the template starts
OTHERS = {"GATEWAY_PUBLISH", "GATEWAY_SANDBOX_PUBLISH", "SANDBOX_NAMES", "SANDBOX_TLS", "E2B_SANDBOX_ID", "SANDBOX_SERVER_NAME",
          "SANDBOX_HOST_PORT", "MCP_COMMAND_ID", "MCP_URL", "SANDBOX_VSCODE_PASSWORD", "SANDBOX_ID_FILE"}
# named by the CHANGELOG because they are no more
GONE = {"WORKER_RECONCILE_MAX_SANDBOXES"}
UNITS = {"ms": 1, "s": 1000, "minutes": 60_000, "days": 86_400_000}
SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def settings() -> dict[str, str | None]:
    """name -> default ("required" when there must be a value, None when none is shown), of every program."""
    found: dict[str, str | None] = {}
    for program in PROGRAMS:
        text = subprocess.run([build_dir() / program, "--help"], capture_output=True, text=True, check=True).stdout
        assert "(default )" not in text, program
        for name, rest in re.findall(r"^  ([A-Z][A-Z0-9_]+)\s+(.*)$", text, re.M):
            default = re.search(r"\((?:default (.*?)|(required))\)(?: \[.*\])?$", rest)
            value = (default[1] or default[2]) if default else None
            assert found.setdefault(name, value) == value or name == "LOG_LEVEL", f"{name} has several defaults"
    return found


SETTINGS = settings()


def as_default(name: str, text: str) -> str:
    """A value as a page writes it, as --help would: `512 MiB`, `30 s`, `7 days`."""
    number, _, unit = text.replace("`", "").partition(" ")
    if unit in SIZES:
        return str(int(number) * SIZES[unit])
    if unit in UNITS:
        per = 60_000 if name.endswith("_MINUTES") else 1000 if name.endswith("_SECONDS") else 1
        return str(int(number) * UNITS[unit] // per)
    return number


def names_in(cell: str) -> list[str]:
    """`A_B_C` `_D` stands for A_B_C and the setting that ends with _D and begins as A_B does."""
    names: list[str] = []
    for short in re.findall(r"`([A-Z0-9_]+)`", cell):
        if short.startswith("_"):
            stem = names[0]
            while stem and stem + short not in SETTINGS:
                stem = stem.rpartition("_")[0]
            short = stem + short
        names.append(short)
    return names


def claims() -> list[tuple[str, str, str]]:
    """(where, setting, value) wherever a page gives a default: `NAME` (value …), and tables with a column for it."""
    found = []
    for page in PAGES:
        column = None
        for number, line in enumerate(page.read_text().splitlines(), 1):
            where = f"{page.relative_to(ROOT)}:{number}"
            for name, value in re.findall(rf"`((?:{PREFIXES})_[A-Z0-9_]+)` \((\d+(?: (?:{'|'.join((*UNITS, *SIZES))}))?)(?=[;),])", line):
                found.append((where, name, value))
            cells = [cell.strip() for cell in line.strip("| ").split("|")] if line.startswith("|") else []
            if not cells:
                column = None
            elif column is None:
                column = cells.index("Default") if "Default" in cells else -1
            elif column > 0 and len(cells) > column and (names := names_in(cells[0])):
                values = re.sub(r"(\d) (?=[A-Za-z])", "\\1\0", cells[column])
                values = [v.replace("\0", " ") for v in re.split(r", |;? ", values)]
                # a default in words is for people; more names than values: the rest has none
                if len(values) <= len(names) and all(re.fullmatch(r"[\w.:/`-]+( \w+)?", v) for v in values):
                    found += [(where, name, value) for name, value in zip(names, values) if value != "none"]
    return found


def test_every_default_is_the_programs_own():
    wrong = [f"{where}: {name} is {SETTINGS.get(name)}, not {value}" for where, name, value in claims()
             if as_default(name, value) != SETTINGS.get(name) and (value, SETTINGS.get(name, "")) != ("required", None)]
    assert not wrong, "\n".join(wrong)
    assert len(claims()) > 40


def test_every_setting_that_is_named_exists():
    unknown = [f"{page.relative_to(ROOT)}: {name}" for page in PAGES for name in NAME.findall(page.read_text())
               if name not in SETTINGS and name not in OTHERS and name.removesuffix("_FILE") not in SETTINGS
               and not (page.name == "CHANGELOG.md" and name in GONE)]
    assert not unknown, "\n".join(unknown)


def test_settings_of_env_example_and_compose_exist_with_their_defaults():
    """What is left out of .env gets the program's default, whether compose passes it on or not."""
    compose = (ROOT / "docker-compose.yml").read_text()
    passed = re.findall(r"^\s+([A-Z][A-Z0-9_]+): \$\{\1:-([^}]*)\}", compose, re.M)
    known = [(name, value) for name, value in passed if name in SETTINGS and value]
    assert len(known) > 8
    wrong = [f"{name}: {value}, the programs have {SETTINGS[name]}" for name, value in known if value != SETTINGS[name]]
    offered = re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M)
    wrong += [f".env.example: {name}" for name in offered if name not in SETTINGS and f"${{{name}:-" not in compose]
    assert offered and not wrong, "\n".join(wrong)


def test_every_file_that_is_named_is_there():
    tops = "common|deploy|gateway|lifecycle-worker|reaper|tests"
    missing = []
    for page in PAGES:
        for name in re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text()):
            if not (ROOT / name).exists() and not (name.startswith("deploy/secrets/") and (ROOT / "deploy/secrets/README.md").exists()):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing, "\n".join(missing)


def anchors(page) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere():
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            there = (page.parent / file).resolve() if file else page
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def test_every_make_target_that_is_named_is_one():
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text().replace(".PHONY: ", ".PHONY "), re.M))
    targets = {word for line in targets for word in line.split()}
    named = {word for page in PAGES for word in re.findall(r"`make ([a-z][a-z-]*)", page.read_text())}
    assert len(named) > 8 and not named - targets, named - targets


def test_the_table_of_calls_has_every_route():
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| Call |"):text.index("Success is")]
    routes = re.findall(r'^X\("\w+", (?:BASE )?"?([^",]*)"?', (ROOT / "gateway/http/routes.def").read_text(), re.M)
    assert len(routes) > 20
    missing = [route for route in routes if route not in table and route.replace("/{id}/", "/") not in table
               and route not in ("BASE", "/")]
    assert not missing, missing
