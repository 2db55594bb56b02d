"""Files and directories through the API: the same answer to the same call on every provider, the
caller's mistakes as 4xx of one type, names and bytes as they are. tests/e2e/test_provider_conformance.py
has the plain calls; here is what differs between the providers' own file routes."""

import base64
import hashlib
import os
import socket
import threading
import time
import uuid

import httpx
import pytest

from tests.harness.providers import PROVIDER_VERSIONS
from tests.harness.services import wait_until
from tests.harness.stack import BASE, Stack

SMALL_DISK = 448 << 20  # with inodes for the longest listing
LARGE = int(os.environ.get("FILE_TEST_BYTES", 8 << 20))


@pytest.fixture(scope="module", params=list(PROVIDER_VERSIONS))
def provider(request, tmp_path_factory):
    more = {"SANDBOX_HOST_DISK_BYTES": str(SMALL_DISK)} if request.param == "e2b" and LARGE < SMALL_DISK // 2 else {}
    service = PROVIDER_VERSIONS[request.param](tmp_path_factory.mktemp(request.param), **more)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis, postgres, provider):
    with Stack(tmp_path_factory.mktemp("stack"), redis, postgres, provider) as running:
        yield running


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def sid(alice):
    data = alice.create()
    yield data["sandbox_id"]
    alice.remove(data["sandbox_id"])


@pytest.fixture
def folder(alice, sid, provider):
    """A new folder of the sandbox's user."""
    path = f"{provider.home}/{uuid.uuid4().hex[:12]}"
    assert alice.run(sid, f"mkdir {path}")["exit_code"] == 0
    return path


class Files:
    """The file calls, each to (status, what was answered)."""

    def __init__(self, alice, sid):
        self.alice, self.sid = alice, sid

    def call(self, name: str, **body):
        answer = self.alice.post(f"{BASE}/{name}", {"sandbox_id": self.sid} | body)
        return answer.status_code, (answer.json()["data"] if answer.status_code == 200 else answer.json()["error"]["type"])

    def read(self, path, **more):
        status, said = self.call("read-file", file_path=path, **more)
        return status, (said["content"] if status == 200 else said)

    def write(self, path, content="x", **more):
        status, said = self.call("write-file", file_path=path, content=content, **more)
        return status, (said["bytes"] if status == 200 else said)

    def upload(self, path, content=b"x", **fields):
        answer = self.alice.http.post(f"{BASE}/upload-file", headers=self.alice.headers(), files={"file": ("f", content)},
                                      data={"sandbox_id": self.sid, "file_path": path} | fields)
        return answer.status_code, (answer.json()["data"]["bytes"] if answer.status_code == 200 else answer.json()["error"]["type"])

    def download(self, path, **headers):
        answer = self.alice.post(f"{BASE}/download-file", {"sandbox_id": self.sid, "file_path": path}, **headers)
        return answer.status_code, (answer.content if answer.status_code in (200, 206) else answer.json()["error"]["type"])

    def make(self, path, **more):
        status, said = self.call("create-directory", directory_path=path, **more)
        return status, (said["success"] if status == 200 else said)

    def remove(self, path, **more):
        status, said = self.call("remove-file", path=path, **more)
        return status, (said["success"] if status == 200 else said)

    def list(self, path, **more):
        status, said = self.call("list-files", path=path, **more)
        return status, ({e["name"]: e for e in said["entries"]} if status == 200 else said)

    def names(self, path):
        status, said = self.list(path)
        return set(said) if status == 200 else said


@pytest.fixture
def files(alice, sid):
    return Files(alice, sid)


def shell(alice, sid, command: str) -> str:
    done = alice.run(sid, command)
    assert done["exit_code"] == 0, done
    return done["stdout"]


READS, WRITES = ("read", "download"), ("write", "upload")
NOT_DIRECTORY, IS_DIRECTORY = (400, "not_a_directory"), (400, "is_a_directory")
NOT_REGULAR, TOO_LONG, LOOP = (400, "not_a_regular_file"), (400, "name_too_long"), (400, "symlink_loop")
MISSING, EXISTS = (404, "file_not_found"), (409, "already_exists")

# what is asked of which path -> the one answer of all providers
MISTAKES = [
    *((call, "f/below", NOT_DIRECTORY) for call in (*READS, *WRITES, "make", "remove", "list")),
    *((call, "f/", NOT_DIRECTORY) for call in (*READS, *WRITES, "make", "remove", "list")),
    *((call, "n" * 256, TOO_LONG) for call in (*READS, *WRITES, "make", "remove", "list")),
    *((call, "loop", LOOP) for call in (*READS, *WRITES, "make", "list")),
    *((call, "loop/below", LOOP) for call in (*READS, *WRITES, "make", "remove", "list")),
    *((call, "sub", IS_DIRECTORY) for call in (*READS, *WRITES, "remove")),
    *((call, "sub/", IS_DIRECTORY) for call in (*READS, *WRITES, "remove")),
    *((call, "way", IS_DIRECTORY) for call in (*READS, *WRITES)),
    *((call, "new/", IS_DIRECTORY) for call in WRITES),
    *((call, kind, NOT_REGULAR) for call in (*READS, *WRITES) for kind in ("pipe", "socket", "/dev/null")),
    *((call, "none", MISSING) for call in (*READS, "remove", "list")),
    *((call, "none/below", MISSING) for call in (*READS, "remove", "list")),
    *((call, "dangling", MISSING) for call in (*READS, "list")),
    ("list", "f", NOT_DIRECTORY), ("make", "f", EXISTS), ("make", "dangling", EXISTS), ("make", "pipe", EXISTS),
]


def test_each_mistake_has_one_type_everywhere(alice, sid, folder, files):
    shell(alice, sid, f"""cd {folder} && printf old > f && mkdir sub && ln -s sub way && ln -s loop loop && ln -s nowhere dangling
        mkfifo pipe && python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('socket')" """)
    wrong = []
    for call, path, wanted in MISTAKES:
        began = time.monotonic()
        got = getattr(files, call)(path if path[0] == "/" else f"{folder}/{path}")
        if got != wanted or time.monotonic() - began > 8:
            wrong.append((call, path[:20], got, wanted, round(time.monotonic() - began, 1)))
    assert not wrong
    # nothing of it did anything
    assert shell(alice, sid, f"cd {folder} && cat f && ls -A | sort | tr '\\n' ' '") == "olddangling f loop pipe socket sub way "


def test_what_a_link_leads_to_is_read_written_and_kept(alice, sid, folder, files):
    content = os.urandom(70000)
    shell(alice, sid, f"cd {folder} && mkdir deep && ln -s deep/target link && ln -s link further && ln -s new dangling")
    assert files.upload(f"{folder}/further", content) == (200, len(content))
    for name in ("link", "further", "deep/target"):
        assert files.download(f"{folder}/{name}") == (200, content)
        assert files.read(f"{folder}/{name}") == (200, base64.b64encode(content).decode())
    assert files.write(f"{folder}/dangling", "made") == (200, 4)
    assert shell(alice, sid, f"cd {folder} && readlink link further dangling && cat new") == "deep/target\nlink\nnew\nmade"


def test_files_that_tell_no_size_are_read_to_their_end(alice, sid, files):
    for path in ("/proc/version", "/proc/self/mounts", "/proc/cpuinfo"):
        for call in READS:
            status, said = getattr(files, call)(path)
            text = said.decode() if isinstance(said, bytes) else said
            assert status == 200 and len(text) > 20, (call, path)
            if path == "/proc/version":
                assert text == shell(alice, sid, f"cat {path}")
    assert shell(alice, sid, "ls -A /tmp | grep -c '^.sandbox-read' || true").strip() == "0"


def test_blanks_tilde_and_relative_names_mean_the_same(alice, sid, provider, files):
    name = uuid.uuid4().hex[:8]
    for path, there in ((f" {name} ", f"{provider.home}/ {name} "), (f"~/{name}", f"{provider.home}/{name}"),
                        (f"./{name}.r", f"{provider.home}/{name}.r"), (f"{provider.home}/{name}d/ x /y ", f"{provider.home}/{name}d/ x /y "),
                        (f"~{name}", f"{provider.home}/~{name}")):
        assert files.write(path, path) == (200, len(path)), path
        assert shell(alice, sid, f"cat '{there}'") == path
        assert files.read(path) == (200, path)
        assert files.upload(path, b"two") == (200, 3) and files.download(path) == (200, b"two")
    assert files.make(f"~/{name}m/") == (200, True) and f"{name}m" in files.names("~") and files.names("~") == files.names(provider.home)
    for path in (f" {name} ", f"~/{name}", f"~{name}"):
        assert files.remove(path) == (200, True)


def test_a_replaced_file_keeps_its_mode_and_its_place(alice, sid, folder, files):
    shell(alice, sid, f"cd {folder} && echo old > run.sh && chmod 751 run.sh")
    for write in (lambda: files.write(f"{folder}/run.sh", "one"), lambda: files.upload(f"{folder}/run.sh", b"z" * 200000),
                  lambda: files.write(f"{folder}/run.sh", "y" * 200000)):
        assert write()[0] == 200
        assert shell(alice, sid, f"stat -c %a {folder}/run.sh").strip() == "751"
    assert files.write(f"{folder}/a/b/c", "") == (200, 0)
    assert shell(alice, sid, f"cd {folder} && stat -c '%a %U' a a/b a/b/c") == \
        "755 {0}\n755 {0}\n644 {0}\n".format(shell(alice, sid, "id -un").strip())
    assert shell(alice, sid, f"find {folder} -name '.sandbox*'") == ""


def test_a_missing_right_is_403(alice, sid, folder, files, provider):
    """E2B's envd acts as root, whatever the user: there nothing is refused."""
    shell(alice, sid, f"cd {folder} && echo secret > f && mkdir d && touch d/f && chmod 000 f d")
    refused = (403, "permission_denied")
    as_root = provider.home == "/home/user"
    assert files.read(f"{folder}/f") == ((200, "secret\n") if as_root else refused)
    assert files.download(f"{folder}/f") == ((200, b"secret\n") if as_root else refused)
    for call in ("list", "read", "write", "upload", "make", "remove"):
        got = getattr(files, call)(f"{folder}/d" if call == "list" else f"{folder}/d/x")
        assert (got == refused) is not as_root, (call, got)
    shell(alice, sid, f"chmod 755 {folder}/d {folder}/f")


def test_a_read_only_place_is_403(alice, sid, files):
    mounts = [line.split() for line in shell(alice, sid, "cat /proc/self/mounts").splitlines()]
    read_only = [m[1] for m in mounts if m[3].split(",")[0] == "ro" and m[1] not in ("/proc", "/sys") and not m[1].startswith("/proc/")]
    there = shell(alice, sid, "for d in " + " ".join(read_only) + "; do [ -d $d ] && echo $d; done; true").split()
    if not there:
        pytest.skip("nothing is mounted read-only here")
    for call in ("write", "upload", "make"):
        status, said = getattr(files, call)(f"{there[0]}/sandbox-test/x")
        assert status == 403 and said in ("read_only", "permission_denied"), (call, said)
    shell(alice, sid, "test -x /usr/bin/env")
    if "/usr" in there:
        assert files.remove("/usr/bin/env")[0] == 403
        assert files.remove("/usr/bin", recursive=True)[0] == 403


def test_a_full_disk_is_507_and_the_old_file_stays(alice, sid, files, provider):
    if LARGE > SMALL_DISK or provider.home == "/home/user" and (type(provider).__name__ != "SandboxHost" or os.geteuid() != 0):
        pytest.skip("its disk is not small here")
    place = "/small" if provider.home == "/home/daytona" else "/tmp/full"
    shell(alice, sid, f"mkdir -p {place} && echo old > {place}/f; cd {place}; "
                      # what a file system holds back for blocks it has not placed yet is free after a sync
                      "for i in 1 2 3 4; do cat /dev/zero >> fill; dd if=/dev/zero bs=512 >> fill; sync fill; done 2>/dev/null; true")
    try:
        for write in (lambda: files.write(f"{place}/f", "x" * 60000), lambda: files.write(f"{place}/f", "x" * 3_000_000),
                      lambda: files.upload(f"{place}/f", b"x" * 3_000_000)):
            assert write() == (507, "no_space")
            assert files.read(f"{place}/f") == (200, "old\n")
        assert shell(alice, sid, f"ls -A {place} | sort | tr '\\n' ' '") == "f fill "
    finally:
        shell(alice, sid, f"rm {place}/fill")
    assert files.upload(f"{place}/f", b"new") == (200, 3)


def test_list_shows_links_and_what_they_lead_to(alice, sid, folder, files):
    shell(alice, sid, f"""cd {folder} && printf 12345 > five && mkdir sub && ln -s five to-file && ln -s sub to-dir && ln -s nowhere dangling
        ln -s self self && ln -s . up && mkfifo pipe && ln -s /dev/null to-null && touch .hidden ..two""")
    status, found = files.list(folder)
    assert status == 200
    assert {n: (e["type"], e["is_link"], e.get("link_target")) for n, e in found.items()} == {
        "five": ("file", False, None), "sub": ("directory", False, None), "to-file": ("file", True, "five"),
        "to-dir": ("directory", True, "sub"), "dangling": ("other", True, "nowhere"), "self": ("other", True, "self"),
        "up": ("directory", True, "."), "pipe": ("other", False, None), "to-null": ("other", True, "/dev/null"),
        ".hidden": ("file", False, None), "..two": ("file", False, None)}
    assert (found["five"]["size"], found["to-file"]["size"], found["dangling"]["size"]) == (5, 5, 0)
    assert list(found) == sorted(found)
    # a link goes, never what it leads to
    for name in ("dangling", "self", "up", "to-dir", "to-file"):
        assert files.remove(f"{folder}/{name}") == (200, True), name
    assert files.names(folder) == {"five", "sub", "pipe", "to-null", ".hidden", "..two"}


def test_names_that_are_not_utf8_are_kept(alice, sid, folder, files):
    odd = b"a\xff\n b'\\"
    encoded = base64.b64encode(f"{folder}/".encode() + odd).decode()
    shell(alice, sid, f"cd {folder} && printf body > $'a\\xff\\n b\\'\\\\' && ln -s $'to\\xfe' link && printf 1 > plain")
    status, found = files.list(folder)
    assert status == 200 and len(found) == 3 and found["plain"]["size"] == 1
    entry = next(e for e in found.values() if "name_base64" in e)
    assert base64.b64decode(entry["name_base64"]) == odd and entry["size"] == 4 and "\ufffd" in entry["name"]
    assert base64.b64decode(found["link"]["link_target_base64"]) == b"to\xfe"
    assert files.read(encoded, path_encoding="base64") == (200, "body")
    assert files.write(encoded, "b" * 100000, path_encoding="base64") == (200, 100000)
    answer = alice.post(f"{BASE}/download-file", {"sandbox_id": sid, "file_path": encoded, "path_encoding": "base64"})
    assert answer.content == b"b" * 100000
    assert files.remove(encoded, path_encoding="base64") == (200, True)
    assert files.names(folder) == {"link", "plain"}
    for bad in ("***", base64.b64encode(b"/a\0b").decode(), ""):
        assert files.read(bad, path_encoding="base64") == (400, "invalid_request")
    assert files.read("/x", path_encoding="latin-1") == (400, "invalid_request")


def test_a_listing_of_any_length_comes_in_pages(alice, sid, folder, files):
    shell(alice, sid, f"cd {folder} && seq -f %06g 12000 | xargs touch")
    seen, cursor, pages = [], None, 0
    while True:
        status, said = files.call("list-files", path=folder, limit=1000, **({"cursor": cursor} if cursor else {}))
        assert status == 200 and said["truncated"] is (said["next_cursor"] is not None)
        seen += [e["name"] for e in said["entries"]]
        cursor, pages = said["next_cursor"], pages + 1
        if cursor is None:
            break
        if pages == 1:  # what changes meanwhile moves no page
            shell(alice, sid, f"cd {folder} && rm 000500 001500 && touch 000000")
    assert seen == sorted(set(seen)) and len(seen) == 12000 - 1 and pages == 12
    assert files.call("list-files", path=folder, limit=0)[1] == "invalid_request"
    for bad in ("xyz", "abc", "A1"):
        assert files.call("list-files", path=folder, cursor=bad) == (400, "invalid_request")
    shell(alice, sid, f"rm -r {folder}")


def cut_upload(alice, stack, sid: str, path: str, content: bytes, sent: int, **fields: str) -> None:
    """An upload whose client goes away after `sent` bytes."""
    mark = "cut-here"
    fields = {"sandbox_id": sid, "file_path": path} | fields
    body = b"".join(f'--{mark}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items())
    body += f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode() + content + f"\r\n--{mark}--\r\n".encode()
    host, port = stack.url.removeprefix("http://").split(":")
    head = "".join(f"{k}: {v}\r\n" for k, v in alice.headers(**{"Content-Type": f"multipart/form-data; boundary={mark}"}).items())
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"POST {BASE}/upload-file HTTP/1.1\r\nHost: t\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:sent])
        time.sleep(0.2)
    time.sleep(1.2)  # the gauge of requests being served is set once a second


def test_an_upload_that_breaks_off_leaves_the_old_file(alice, sid, stack, folder, files):
    assert files.write(f"{folder}/f", "old content") == (200, 11)
    cut_upload(alice, stack, sid, f"{folder}/f", b"n" * 3_000_000, 2_000_000)
    wait_until("the temporary file is gone", lambda: files.names(folder) == {"f"}, 20, 0.2)
    assert files.read(f"{folder}/f") == (200, "old content")
    cut_upload(alice, stack, sid, f"{folder}/none", b"n" * 3_000_000, 2_000_000)
    wait_until("the temporary file is gone", lambda: files.names(folder) == {"f"}, 20, 0.2)


def test_an_upload_goes_on_where_it_broke(alice, sid, stack, folder, files):
    content = os.urandom(3_000_000)
    path, key = f"{folder}/f", {"resume_key": "Upload-1_a"}
    assert files.write(path, "old content") == (200, 11)

    def have() -> int:
        """What is there of it: an offset that is too large tells."""
        answer = alice.http.post(f"{BASE}/upload-file", headers=alice.headers(), files={"file": ("f", b"")},
                                 data={"sandbox_id": sid, "file_path": path, "offset": "9" * 18} | key)
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict"), answer.text
        return answer.json()["error"]["offset"]

    def idle() -> bool:
        return "sandbox_gateway_working_requests 0" in httpx.get(stack.url + "/metrics", trust_env=False).text

    assert have() == 0
    cut_upload(alice, stack, sid, path, content, 1_000_000, **key)
    wait_until("the cut upload has ended", idle, 20, 0.1)
    first = have()
    assert 500_000 < first < 1_000_000 and files.read(path) == (200, "old content")
    cut_upload(alice, stack, sid, path, content[first:], 900_000, offset=str(first), **key)
    wait_until("the cut upload has ended", idle, 20, 0.1)
    second = have()
    assert first + 400_000 < second < first + 900_000 and files.read(path) == (200, "old content")
    # some of it again is no harm
    again = second - 1000
    assert files.upload(path, content[again:], offset=str(again), **key) == (200, len(content))
    assert files.download(path) == (200, content) and files.names(folder) == {"f"}
    # whole at once, and what is no offset or no key
    assert files.upload(path, b"whole", **key) == (200, 5) and files.read(path) == (200, "whole")
    for wrong in ({"resume_key": "a/b"}, {"resume_key": ""}, {"offset": "1"}, key | {"offset": "-1"}, key | {"offset": "x"}):
        assert files.upload(path, b"x", **wrong) == (400, "invalid_request"), wrong
    assert files.read(path) == (200, "whole")


def test_a_reader_sees_the_old_file_or_the_new_one(alice, sid, folder, files):
    """Never a part: every write replaces the whole at its end."""
    size = 300_000
    assert files.write(f"{folder}/f", "a" * size)[0] == 200
    alice.run(sid, f"cd {folder} && while [ ! -e stop ]; do wc -c < f; cksum < f; done > seen 2>&1", background=True)
    for letter in "bcd":
        assert files.upload(f"{folder}/f", letter.encode() * size) == (200, size)
    shell(alice, sid, f"touch {folder}/stop")
    seen = shell(alice, sid, f"cd {folder} && sleep 0.3; sort -u seen").splitlines()
    assert str(size) in seen and all(line.split()[-1] == str(size) for line in seen), seen


def test_a_download_goes_on_where_it_broke(alice, sid, folder, files):
    content = os.urandom(300_000)
    body = {"sandbox_id": sid, "file_path": f"{folder}/f"}
    assert files.upload(f"{folder}/f", content)[0] == 200

    def get(**headers):
        return alice.post(f"{BASE}/download-file", body, **headers)

    whole = get()
    tag = whole.headers["ETag"]
    assert whole.content == content and whole.headers["Accept-Ranges"] == "bytes" and tag[0] == tag[-1] == '"'
    rest = get(Range="bytes=100000-", **{"If-Range": tag})
    assert (rest.status_code, rest.content) == (206, content[100000:])
    assert rest.headers["Content-Range"] == "bytes 100000-299999/300000" and rest.headers["ETag"] == tag
    for asked, got in (("bytes=0-0", content[:1]), ("bytes=-10", content[-10:]), ("bytes=299999-999999", content[-1:])):
        part = get(Range=asked)
        assert (part.status_code, part.content, part.headers["Content-Length"]) == (206, got, str(len(got))), asked
    beyond = get(Range="bytes=300000-")
    assert (beyond.status_code, beyond.json()["error"]["type"]) == (416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == "bytes */300000"
    assert get(Range="lines=1-2").status_code == 200 and get(Range="bytes=0-1,5-6").status_code == 200
    # of another file than the one that was begun, the whole is sent
    assert files.upload(f"{folder}/f", content[::-1])[0] == 200
    other = get(Range="bytes=100000-", **{"If-Range": tag})
    assert (other.status_code, other.content) == (200, content[::-1]) and other.headers["ETag"] != tag
    assert get(Range="bytes=5-", **{"If-Range": "Sat, 28 Nov 2026 00:00:00 GMT"}).status_code == 200
    # what tells no size has no ranges
    version = alice.post(f"{BASE}/download-file", {"sandbox_id": sid, "file_path": "/proc/version"}, Range="bytes=5-")
    assert version.status_code == 200 and version.headers["Accept-Ranges"] == "none" and "ETag" not in version.headers
    empty = files.write(f"{folder}/empty", "")
    assert empty == (200, 0) and files.download(f"{folder}/empty") == (200, b"")


def test_a_large_file_there_and_back(alice, sid, stack, files, provider):
    """FILE_TEST_BYTES=1073741824 (make test-large-files) for a gibibyte; the gateway keeps little of any size."""
    size = LARGE
    path, block = f"{provider.home}/large", os.urandom(1 << 20)
    digest, stop = hashlib.sha256(), threading.Event()
    for _ in range(size >> 20):
        digest.update(block)
    before = peak = stack.gateways[0].rss_bytes()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, stack.gateways[0].rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        mark = "large-file"
        head = b"".join(f'--{mark}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
                        for n, v in (("sandbox_id", sid), ("file_path", path)))
        head += f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()

        def body():
            yield head
            for _ in range(size >> 20):
                yield block
            yield f"\r\n--{mark}--\r\n".encode()

        answer = alice.http.post(f"{BASE}/upload-file", content=body(), timeout=600,
                                 headers=alice.headers(**{"Content-Type": f"multipart/form-data; boundary={mark}"}))
        assert alice.ok(answer)["bytes"] == size
        back = hashlib.sha256()
        with alice.http.stream("POST", f"{BASE}/download-file", json={"sandbox_id": sid, "file_path": path},
                               headers=alice.headers(), timeout=600) as answer:
            assert answer.status_code == 200 and int(answer.headers["Content-Length"]) == size
            for piece in answer.iter_bytes():
                back.update(piece)
    finally:
        stop.set()
        watcher.join()
    assert back.digest() == digest.digest()
    assert shell(alice, sid, f"sha256sum < {path}; rm {path}").split()[0] == digest.hexdigest()
    print(f"{size >> 20} MiB, gateway's memory: {(peak - before) >> 20} MiB more at the peak")
    if "san-" not in str(stack.gateways[0].argv[0]):
        assert peak - before <= 16 << 20, f"{(peak - before) >> 20} MiB more at the peak"
