"""HTTPS at the local sandbox host: its own names and those of sandboxes, on the port that takes HTTP too."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.harness.host_client import HostClient
from tests.harness.node import node_for
from tests.harness.services import ROOT, build_dir, wait_until
from tests.harness.stack import SandboxHost


SDK = ROOT / "tests" / "sdk"


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_certificate(folder: Path, name: str = "served") -> None:
    """A certificate for localhost and *.box.test (OpenSSL takes no *.localhost), of an authority that is made at the first call."""
    ca, key, request = folder / "ca.pem", folder / f"{name}.key", folder / f"{name}.csr"
    if not ca.exists():
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                "/CN=Test authority", "-keyout", str(folder / "ca.key"), "-out", str(ca))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", str(key), "-out", str(request))
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:*.box.test,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(folder / "ca.key"), "-days", "2",
            "-extfile", str(folder / "names"), "-out", str(folder / f"{name}.pem"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    make_certificate(made)
    return made


@pytest.fixture(scope="module")
def host(tmp_path_factory, folder):
    service = SandboxHost(tmp_path_factory.mktemp("host"), SANDBOX_HOST_TLS_CERTIFICATE=str(folder / "served.pem"),
                          SANDBOX_HOST_TLS_KEY=str(folder / "served.key"), SANDBOX_HOST_HEAD_TIMEOUT_MS="1000")
    yield service
    service.stop()


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


def connect(host: SandboxHost, folder: Path, name: str, alpn: list[str] | None = None) -> ssl.SSLSocket:
    context = trusting(folder)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", host.port), timeout=10), server_hostname=name)


def test_the_api_and_sandboxes_over_tls_and_without(host, folder):
    plain = HostClient(host)
    box = plain.create()
    with httpx.Client(base_url=f"https://localhost:{host.port}", headers={"X-API-Key": host.key}, trust_env=False,
                      verify=trusting(folder)) as client:
        assert [b["sandboxID"] for b in client.get("/v2/sandboxes").json()] == [box.id]
        # a body of 8 MiB up and down, and several requests on one connection
        body = os.urandom(8 << 20)
        assert client.post("/files", params={"path": "big"}, headers=box.headers(), files={"file": ("big", body)}).status_code == 200
        assert client.get("/files", params={"path": "big"}, headers=box.headers()).content == body
    assert box.file("/home/user/big").content == body
    box.run("echo inside >page; python3 -m http.server 8000 >/dev/null 2>&1 & disown")
    wait_until("the server inside", lambda: box.port(8000).status_code == 200)
    name = f"8000-{box.id}.box.test"
    with connect(host, folder, name, ["h2", "http/1.1"]) as served:
        assert served.selected_alpn_protocol() == "http/1.1"
        served.sendall(f"GET /page HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := served.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.0 200") or answer.startswith(b"HTTP/1.1 200"), answer
    assert answer.endswith(b"inside\n")
    box.kill()


def test_a_new_certificate_is_served_without_a_restart(host, folder):
    def served_name() -> str:
        with connect(host, folder, "localhost") as served:
            return dict(pair[0] for pair in served.getpeercert()["subject"])["commonName"]

    assert served_name() == "served"
    make_certificate(folder, "renewed")
    (folder / "renewed.key").rename(folder / "served.key")
    (folder / "renewed.pem").rename(folder / "served.pem")
    assert served_name() == "renewed"
    # one that cannot be read does not take away the one that could
    (folder / "served.pem").write_text("broken")
    assert served_name() == "renewed" and "tls.certificate_not_read" in host.process.log()


def test_a_handshake_that_stops_is_ended(host):
    with socket.create_connection(("127.0.0.1", host.port), timeout=10) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        start = time.monotonic()
        assert half.recv(100) == b"" and time.monotonic() - start < 5
    assert HostClient(host).request("GET", "/v2/sandboxes").status_code == 200


def test_a_hello_to_a_host_without_a_certificate_is_refused_at_once(tmp_path):
    plain = SandboxHost(tmp_path)
    try:
        start = time.monotonic()
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", plain.port), timeout=10) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
        assert time.monotonic() - start < 2
    finally:
        plain.stop()


def test_half_a_setting_or_a_wrong_key_stops_the_start(tmp_path):
    make_certificate(tmp_path)
    make_certificate(tmp_path, "other")
    state = f"/tmp/sbxhost-tls-{os.getpid()}"
    for settings, word in (({"SANDBOX_HOST_TLS_CERTIFICATE": str(tmp_path / "served.pem")}, "SANDBOX_HOST_TLS_KEY"),
                           ({"SANDBOX_HOST_TLS_CERTIFICATE": str(tmp_path / "served.pem"),
                             "SANDBOX_HOST_TLS_KEY": str(tmp_path / "other.key")}, "other.key"),
                           ({"SANDBOX_HOST_TLS_CERTIFICATE": "/not/there", "SANDBOX_HOST_TLS_KEY": "/not/there"}, "/not/there")):
        env = dict(os.environ) | {"SANDBOX_HOST_API_KEY": "e2b_0123456789", "SANDBOX_HOST_STATE_DIR": state} | settings
        done = subprocess.run([str(build_dir() / "sandbox-host")], env=env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 78 and word in done.stderr, done.stderr


def test_e2bs_sdk_over_tls(tmp_path_factory, tmp_path):
    """Only its documented settings, with the certificate's authority trusted as every program has it."""
    make_certificate(tmp_path)
    service = SandboxHost(tmp_path_factory.mktemp("sdk"), SANDBOX_HOST_TLS_CERTIFICATE=str(tmp_path / "served.pem"),
                          SANDBOX_HOST_TLS_KEY=str(tmp_path / "served.key"))
    try:
        url = f"https://localhost:{service.port}"
        env = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | service.env | {
            "E2B_API_URL": url, "E2B_SANDBOX_URL": url, "NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem")}
        done = subprocess.run([node_for(SDK), "pty.mjs"], cwd=SDK, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0 and "\nok 1 " in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
    finally:
        service.stop()
