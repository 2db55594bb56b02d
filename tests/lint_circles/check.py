#!/usr/bin/python3
"""No circles: in each program, no two source files call each other, not even through others. Prints each
circle and each header that declares another file's functions; exits 1 if there is one.

    tests/lint_circles/check.py [--edges] [BUILD_DIR]

Reads the symbol tables of the objects in BUILD_DIR (default build/release), which `make build` has made.
A file uses another when its object has an undefined symbol that the other defines; a table of
functions counts as well as a call. --edges prints the calls that keep each circle closed.

tests/lint_circles/*.allow name the files that may still be in a circle ("circle FILE") and the headers that
may still declare another file's functions ("header FILE"); a name that ends in / is a folder. Entries that
are no longer needed fail, so that these lists only get shorter.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PRODUCT = ("common", "gateway", "lifecycle-worker", "reaper", "deploy")


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
                             *(f"{top}/*.c" for top in PRODUCT)], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if (ROOT / name).exists()]


def symbols(build: Path, files: list[str]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each file defines for others, and what it takes from others."""
    defined: dict[str, set[str]] = defaultdict(set)
    used: dict[str, set[str]] = defaultdict(set)
    objects = [str(build / name.replace(".c", ".o")) for name in files]
    missing = [name for name in objects if not Path(name).exists()]
    if missing:
        print(f"{missing[0]} is not built: run `make build` first")  # on stdout, where lint.sh looks for breaches
        sys.exit(1)
    table = subprocess.run(["nm", "-g", "-P", "-A", *objects], capture_output=True, text=True, check=True).stdout
    names = dict(zip(objects, files))
    for line in table.splitlines():
        path, symbol, kind = re.match(r"(.+): (\S+) (\S)", line).groups()
        (used if kind in "Uw" else defined)[names[path]].add(symbol)
    return defined, used


def program_of(name: str, programs: set[str]) -> str | None:
    """The folder of the program that a file belongs to; None for common."""
    folder = Path(name).parent
    while str(folder) != ".":
        if str(folder) in programs:
            return str(folder)
        folder = folder.parent
    return None


def graph(program: str, files: list[str], home: dict[str, str | None], defined: dict[str, set[str]],
          used: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """file -> file it uses -> the symbols: what the linker would resolve for this program."""
    owner: dict[str, str] = {}
    for other in files:  # an object shared with another program, then common, then the program's own
        owner.update((symbol, other) for symbol in defined[other] if symbol != "main")
    for wanted in (None, program):
        for name in files:
            if home[name] == wanted:
                owner.update((symbol, name) for symbol in defined[name])
    edges: dict[str, dict[str, set[str]]] = {}
    waiting = [name for name in files if home[name] == program]
    while waiting:
        name = waiting.pop()
        if name in edges:
            continue
        edges[name] = defaultdict(set)
        for symbol in used[name]:
            if symbol in owner and owner[symbol] != name:
                edges[name][owner[symbol]].add(symbol)
        waiting.extend(edges[name])
    return edges


def circles(edges: dict[str, dict[str, set[str]]]) -> list[list[str]]:
    """Strongly connected components of more than one file (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in edges[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            members = stack[at:]
            del stack[at:]
            if len(members) > 1:
                found.append(sorted(members))

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return found


def declared(header: str) -> set[str]:
    """Names before a parenthesis, and `extern` ones, outside comments, macros and bodies."""
    text = (ROOT / header).read_text()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", "", text, flags=re.M)
    text = re.sub(r"\)\s*\{.*?^\}", ");", text, flags=re.S | re.M)
    return set(re.findall(r"\b([a-z]\w+)\s*\(", text)) | set(re.findall(r"\bextern\b[^;]*?\b(\w+)(?:\[[^;]*)?;", text))


def foreign_headers(files: list[str], home: dict[str, str | None], defined: dict[str, set[str]]) -> dict[str, str]:
    """header -> what it declares of other files."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
                             *(f"{top}/*.h" for top in PRODUCT)], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    programs = {program for program in home.values() if program}
    for header in listed.stdout.split():
        if not (ROOT / header).exists():
            continue
        mine = program_of(header, programs)
        owners: dict[str, str] = {}
        for name in files:
            if home[name] == mine:
                owners.update((symbol, name) for symbol in defined[name])
        own = header.removesuffix(".h") + ".c"
        others = {name: owners[name] for name in declared(header) if name in owners and owners[name] != own}
        if others:
            found[header] = ", ".join(f"{name} ({path})" for name, path in sorted(others.items())[:3])
    return found


def allowed() -> dict[str, dict[str, Path]]:
    lists: dict[str, dict[str, Path]] = {"circle": {}, "header": {}}
    for path in sorted(HERE.glob("*.allow")):
        for line in path.read_text().splitlines():
            words = line.split("#")[0].split()
            if len(words) == 2:
                lists[words[0]][words[1]] = path
    return lists


def listed(name: str, entries: dict[str, Path]) -> bool:
    return any(name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in entries)


def main() -> int:
    arguments = [word for word in sys.argv[1:] if word != "--edges"]
    build = Path(arguments[0]) if arguments else ROOT / "build" / "release"
    files = sources()
    programs = {str(Path(name).parent) for name in files if Path(name).name == "main.c"}
    home = {name: program_of(name, programs) for name in files}
    defined, used = symbols(build, files)
    allow = allowed()
    seen_files: set[str] = set()
    reported: set[tuple[str, ...]] = set()
    breaches: list[str] = []
    for program in sorted(programs):
        edges = graph(program, files, home, defined, used)
        for members in circles(edges):
            seen_files.update(members)
            if tuple(members) in reported or all(listed(name, allow["circle"]) for name in members):
                continue
            reported.add(tuple(members))
            breaches.append(f"{program}: circle of {len(members)}: {' '.join(members)}")
            if "--edges" in sys.argv:
                for name in members:
                    for other in members:
                        if edges[name].get(other):
                            breaches.append(f"    {name} -> {other}: {' '.join(sorted(edges[name][other]))}")
    foreign = foreign_headers(files, home, defined)
    breaches += [f"{header} declares what other files define: {names}" for header, names in sorted(foreign.items())
                 if not listed(header, allow["header"])]
    for kind, seen in (("circle", seen_files), ("header", set(foreign))):
        for entry, path in sorted(allow[kind].items()):
            if not any(listed(name, {entry: path}) for name in seen):
                breaches.append(f"{path.relative_to(ROOT)}: {kind} {entry} is no longer needed: delete the line")
    print("\n".join(breaches), end="\n" if breaches else "")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
