"""Templates of the local sandbox host: folders, archives, descriptions, what comes up with a sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.harness.host_client import HostClient
from tests.harness.services import build_dir
from tests.harness.stack import SandboxHost


def make_root(root: Path) -> None:
    """A userland of its own with bash, cat, id and ls: nothing of it is this machine's folder."""
    for name in ("usr/bin", "usr/lib", "etc", "home/user", "opt/own"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    needed = set()
    for program in ("bash", "cat", "id", "ls", "env"):
        path = Path(shutil.which(program)).resolve()
        shutil.copy(path, root / "usr/bin" / program)
        for line in subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=True).stdout.splitlines():
            needed |= {word for word in line.split() if word.startswith("/")}
    for library in needed:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), target)
    (root / "etc/os-release").write_text("NAME=Own\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nclash:x:1000:1000::/:/bin/false\n"
                                     "daemon:x:1:1::/:/bin/false\n")
    (root / "etc/shadow").write_text("root:secret:1::::::\n")
    (root / "etc/shadow").chmod(0o600)
    (root / "opt/own/file").write_text("from the template\n")
    (root / "home/user/.greeting").write_text("hello\n")


@pytest.fixture(scope="module")
def templates():
    # not pytest's own folder, which only its user enters
    folder = Path(tempfile.mkdtemp(prefix="sandbox-templates-", dir="/tmp"))
    folder.chmod(0o755)
    make_root(folder / "own")
    subprocess.run(["tar", "-czf", str(folder / "packed.tar.gz"), "-C", str(folder / "own"), "."], check=True)
    brought = folder / "brought"
    brought.mkdir()
    (brought / "tool").write_text("#!/bin/sh\necho tool\n")
    (brought / "tool").chmod(0o755)
    (folder / "base.json").write_text(json.dumps({"envs": {"FROM_TEMPLATE": "1", "OVER": "template"}}))
    (folder / "web.json").write_text(json.dumps({
        "aliases": ["www"], "readyPort": 8000, "readyCommand": "test -f /home/user/warm",
        "startCommand": "touch warm; exec python3 -m http.server 8000",
        "mounts": {"/brought": str(brought)}}))
    (folder / "failing.json").write_text(json.dumps({"startCommand": "echo no luck >&2; exit 3", "readyPort": 1}))
    (folder / "slow.json").write_text(json.dumps({"startCommand": "sleep 60", "readyPort": 1, "readyTimeoutMs": 300}))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client(tmp_path_factory, templates):
    host = SandboxHost(tmp_path_factory.mktemp("host"), SANDBOX_HOST_TEMPLATES=str(templates),
                       SANDBOX_HOST_ANY_TEMPLATE="0", SANDBOX_HOST_BASE_ALIASES="vg6mdf4wgu5qoijamwb5, Other")
    yield HostClient(host)
    host.stop()


def test_base_has_the_names_that_the_settings_give_it(client):
    """As `make start` does for E2B_TEMPLATE_ID; every other name is not found there."""
    for name in ("vg6mdf4wgu5qoijamwb5", "other", "OTHER:v1"):
        assert client.create(templateID=name).made["templateID"] == "base"
    assert client.try_create(templateID="vg6mdf4wgu5").status_code == 404


def test_base_is_this_machines_userland(client):
    box = client.create(envVars={"OVER": "sandbox"})
    assert box.made["templateID"] == "base"
    assert box.ok("echo $FROM_TEMPLATE $OVER; python3 -c 'print(6*7)'").split() == ["1", "sandbox", "42"]
    assert "Read-only file system" in box.run("touch /dev/x").out


layered = pytest.mark.skipif(os.geteuid() != 0, reason="only a host that runs as root can give a layer of its own")


def make_package(folder: Path) -> bytes:
    """A package that gives a file to another user, as many do."""
    for name in ("DEBIAN", "usr/bin", "etc/greeter", "var/lib/greeter"):
        (folder / name).mkdir(parents=True)
    (folder / "DEBIAN/control").write_text("Package: greeter\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b>\n"
                                           "Description: says hello\n")
    (folder / "DEBIAN/conffiles").write_text("/etc/greeter/conf\n")
    (folder / "DEBIAN/postinst").write_text("#!/bin/sh\nset -e\nadduser --system --group greeter >/dev/null\n"
                                            "chown greeter:greeter /var/lib/greeter\nldconfig\n")
    (folder / "DEBIAN/postinst").chmod(0o755)
    (folder / "usr/bin/greet").write_text("#!/bin/sh\ncat /etc/greeter/conf\n")
    (folder / "usr/bin/greet").chmod(0o755)
    (folder / "etc/greeter/conf").write_text("hello from a package\n")
    archive = folder.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(folder), str(archive)], check=True,
                   capture_output=True)
    return archive.read_bytes()


@layered
def test_sudo_installs_a_package_into_a_layer_of_its_own(client, tmp_path):
    box, other = client.create(), client.create()
    client.http.post("/files", params={"path": "/tmp/greeter.deb"}, headers=box.headers(),
                     files={"file": ("x", make_package(tmp_path / "greeter"))})
    box.ok("sudo dpkg -i /tmp/greeter.deb", timeout=120)
    assert box.ok("greet; dpkg-query -W -f '${Status}' greeter") == "hello from a package\ninstall ok installed"
    box.ok("echo changed | sudo tee /etc/greeter/conf /usr/local/share/x >/dev/null; sudo apt-get --version")
    assert box.ok("greet").strip() == "changed"
    assert other.run("greet").code == 127 and shutil.which("greet") is None
    box.ok("sudo dpkg --purge greeter", timeout=120)
    assert box.run("greet").code == 127


@layered
def test_pip_installs_as_the_user(client, tmp_path):
    """The machine's mark that its Python is the distribution's (PEP 668) is not the sandbox's."""
    (tmp_path / "told").mkdir()
    (tmp_path / "setup.py").write_text("from setuptools import setup\nsetup(name='told', version='1', packages=['told'],"
                                       " entry_points={'console_scripts': ['told=told:main']})\n")
    (tmp_path / "told/__init__.py").write_text("def main():\n    print('told')\n")
    packed = tmp_path / "told.tar"
    subprocess.run(["tar", "-cf", str(packed), "-C", str(tmp_path), "setup.py", "told"], check=True)
    box = client.create()
    client.http.post("/files", params={"path": "told.tar"}, headers=box.headers(),
                     files={"file": ("x", packed.read_bytes())})
    box.ok("mkdir told && tar -xf told.tar -C told && pip install --no-index --no-build-isolation ./told", timeout=120)
    assert box.ok("told").strip() == "told"


@layered
@pytest.mark.parametrize("template", ["own", "packed"])
def test_the_root_of_a_template_is_writable_in_a_layer(client, templates, template):
    box, other = client.create(templateID=template), client.create(templateID=template)
    box.ok("echo mine >/opt/own/file; echo NAME=Mine >/etc/os-release; cat /opt/own/file")
    assert other.ok("cat /opt/own/file /etc/os-release") == "from the template\nNAME=Own\n"
    assert box.ok("sudo cat /opt/own/file").strip() == "mine"
    assert (templates / "own/opt/own/file").read_text() == "from the template\n"


@pytest.mark.parametrize("template", ["own", "packed"])
def test_a_root_of_its_own(client, template):
    box = client.create(templateID=template)
    assert box.made["templateID"] == template
    assert box.ok("cat /etc/os-release /opt/own/file ~/.greeting; ls -a ~") == (
        "NAME=Own\nfrom the template\nhello\n.\n..\n.greeting\n")
    assert box.ok("id -un; echo ok >~/new; cat ~/new").split() == ["user", "ok"]
    # the accounts of the template stay, but for the one in user's place; what root alone reads is left out
    assert "daemon:" in box.ok("cat /etc/passwd") and "clash" not in box.ok("cat /etc/passwd")
    assert box.run("cat /etc/shadow").code != 0
    assert box.run("python3 -c 1").code == 127
    assert box.ok("id -u", user="root").strip() == "0"


def test_start_command_and_readiness(client):
    for reference in ("web", "WWW", " team/www:v1 "):
        box = client.create(templateID=reference)
        assert box.made["templateID"] == "web" and box.made["alias"] == "www"
        # it answered before create did
        assert "warm" in box.port(8000).text
        assert box.ok("/brought/tool").strip() == "tool"
        assert box.run("touch /brought/tool").code != 0
        assert box.get().json()["alias"] == "www"
        box.kill()


def test_a_start_command_that_fails_says_why_and_leaves_nothing(client):
    before = client.ids()
    answer = client.try_create(templateID="failing")
    assert answer.status_code == 500 and "status 3: no luck" in answer.json()["message"]
    answer = client.try_create(templateID="slow")
    assert answer.status_code == 500 and "not ready within 300 ms" in answer.json()["message"]
    assert client.ids() == before
    assert client.try_create(templateID="absent").status_code == 404
    for bad in ("", "a b", "..", "a/../b", "é", "x" * 200):
        assert client.try_create(templateID=bad).status_code in (400, 404), bad


def test_a_new_or_changed_template_is_seen_without_a_restart(client, templates):
    assert client.try_create(templateID="late").status_code == 404
    (templates / "late.json").write_text(json.dumps({"envs": {"LATE": "one"}}))
    assert client.create(templateID="late").ok("echo $LATE").strip() == "one"
    (templates / "late.json").write_text(json.dumps({"envs": {"LATE": "second"}}))
    assert client.create(templateID="late").ok("echo $LATE").strip() == "second"
    (templates / "late.json").unlink()
    assert client.try_create(templateID="late").status_code == 404


def test_a_broken_description_is_named(client, tmp_path):
    for text, what in {"{": "JSON", '{"startCommnd":"x"}': "startCommnd", '{"readyPort":0}': "readyPort",
                       '{"aliases":["UP"]}': "aliases", '{"mounts":{"/a":"/not/there"}}': "mounts"}.items():
        (tmp_path / "bad.json").write_text(text)
        env = dict(os.environ) | client.host.own_env | {
            "SANDBOX_HOST_TEMPLATES": str(tmp_path), "SANDBOX_HOST_STATE_DIR": f"{client.host.state}-bad"}
        done = subprocess.run([str(build_dir() / "sandbox-host")], env=env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 78 and "bad.json" in done.stderr and what in done.stderr, (text, done.stderr)
    shutil.rmtree(f"{client.host.state}-bad")
