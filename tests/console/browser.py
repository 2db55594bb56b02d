"""Uses the console as a person does, in Chromium, and checks each view for accessibility, for errors of its scripts and
for what its Content-Security-Policy refuses. Prints what it did, a line each.

usage: browser.py CHROMIUM URL USER ADMIN PASSWORD PICTURES (a folder for screenshots)
"""

import sys
import tempfile
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM, URL, USER, ADMIN, PASSWORD, PICTURES = sys.argv[1:]
PHONE, DESK = {"width": 390, "height": 800}, {"width": 1280, "height": 860}
UPLOAD_BYTES = 50 << 20


class Console:
    def __init__(self, page: Page):
        self.page, self.faults = page, []
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)

    def look(self, name: str) -> None:
        """Pictures of a view in light and dark and on a phone; axe-core finds nothing serious in it."""
        for scheme, size, suffix in (("light", DESK, ""), ("dark", DESK, "-dark"), ("light", PHONE, "-phone")):
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size(size)
            self.page.screenshot(path=f"{PICTURES}/{name}{suffix}.png", full_page=True)
            wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}{suffix} is {wide} pixels wider than its window"
            found = [v for v in Axe().run(self.page).response["violations"] if v["impact"] in ("serious", "critical")]
            assert not found, [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size(DESK)

    def login(self, user: str) -> None:
        self.page.goto(URL + "/")
        self.page.get_by_label("User name").fill(user)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Sandboxes")).to_be_visible()

    def tab(self, name: str) -> None:
        self.page.get_by_label("Sandbox", exact=True).get_by_role("link", name=name).click()


def log_in(console: Console) -> None:
    page = console.page
    page.goto(URL + "/")
    console.look("login")
    page.get_by_label("User name").fill(USER)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    console.faults.clear()  # the browser itself reports the 401 that this asked for
    console.login(USER)


def live_list(console: Console) -> None:
    page = console.page
    page.get_by_label("Label").fill("from the console")
    page.get_by_role("button", name="Create").click()
    line = page.locator("tbody tr", has_text="from the console")
    expect(line.locator(".state")).to_have_text("running", timeout=30000)
    line.get_by_role("button", name="Pause").click()
    expect(line.locator(".state")).to_have_text("paused", timeout=30000)
    line.get_by_role("button", name="Resume").click()
    expect(line.locator(".state")).to_have_text("running", timeout=30000)
    page.get_by_label("Search").fill("no such label")
    expect(line).to_be_hidden()
    page.get_by_label("Search").fill("from the")
    expect(line).to_be_visible()
    console.look("sandboxes")
    print("the list is live")
    line.get_by_role("link").click()
    expect(page.locator("ol.history li", has_text="sandbox.resumed")).to_be_visible()
    console.look("overview")


def commands(console: Console) -> None:
    page = console.page
    console.tab("Commands")
    page.get_by_label("Command", exact=True).fill("echo '<b>hi</b>'; echo wrong >&2; exit 3")
    page.get_by_role("button", name="Run").click()
    output = page.get_by_label("Output", exact=True)
    expect(output).to_contain_text("exit code 3", timeout=30000)
    expect(output).to_contain_text("<b>hi</b>")
    expect(output.locator(".stderr").first).to_have_text("wrong\n")
    console.look("commands")
    page.reload()
    expect(page.get_by_label("Output", exact=True)).to_contain_text("<b>hi</b>", timeout=30000)
    print("output is there again after a reload")


def files(console: Console) -> None:
    page = console.page
    console.tab("Files")
    with tempfile.NamedTemporaryFile(suffix=".bin") as big:
        big.truncate(UPLOAD_BYTES)
        page.evaluate("""() => { window.progress = []; new MutationObserver(() => window.progress.push(
            document.querySelector('progress').value)).observe(document.querySelector('progress'), { attributes: true }); }""")
        page.get_by_label("File to upload").set_input_files(big.name)
        page.get_by_role("button", name="Upload").click()
        line = page.locator("tbody tr", has_text=Path(big.name).name)
        expect(line).to_contain_text("50.0 MiB", timeout=120000)
        assert page.evaluate("window.progress.length") >= 3, "the bar moves"
    print("50 MB are uploaded")
    note = Path(PICTURES) / "note.txt"
    note.write_text("first\n")
    page.get_by_label("File to upload").set_input_files(note)
    page.get_by_role("button", name="Upload").click()
    line = page.locator("tbody tr", has_text="note.txt")
    line.get_by_role("button", name="Edit").click()
    page.locator("textarea").fill("second\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("note.txt is saved.")).to_be_visible(timeout=20000)
    console.look("files")
    with page.expect_download() as download:
        line.get_by_role("button", name="Download").click()
    assert Path(download.value.path()).read_text() == "second\n"
    print("a file is edited and downloaded")


def ports(console: Console) -> None:
    page = console.page
    console.tab("Ports")
    page.get_by_label("Port", exact=True).fill("8000")
    page.get_by_label("Seconds until it expires").fill("600")
    page.get_by_role("button", name="Expose").click()
    line = page.locator("tbody tr", has_text="8000")
    expect(line).to_be_visible(timeout=20000)
    console.look("ports")
    line.get_by_role("button", name="Revoke").click()
    expect(line).to_have_count(0, timeout=20000)
    print("a port's URL is revoked")


def account(console: Console) -> None:
    page = console.page
    page.get_by_role("link", name="Account").click()
    page.get_by_label("Name").fill("from the console")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("The key is shown this once")).to_be_visible(timeout=20000)
    console.look("account")
    page.locator("tbody tr", has_text="from the console").get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator("tbody tr", has_text="from the console")).to_have_count(0, timeout=20000)
    print("a key is created and revoked")


def end(console: Console) -> None:
    page = console.page
    page.get_by_role("link", name="Sandboxes").click()
    line = page.locator("tbody tr", has_text="from the console")
    line.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(line).to_have_count(0, timeout=30000)
    expect(page.get_by_role("link", name="System")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    print("nothing is kept after the end")


def administrator(console: Console) -> None:
    page = console.page
    console.login(ADMIN)
    page.get_by_role("link", name="System").click()
    expect(page.get_by_label("Workers").locator("tbody tr").first).to_be_visible(timeout=20000)
    expect(page.get_by_label("Audit log").locator("tbody tr").first).to_be_visible(timeout=20000)
    expect(page.get_by_label("Users").locator("tbody tr", has_text=USER)).to_be_visible()
    console.look("system")
    print("an administrator sees the system")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
    shown = Console(browser.new_page(viewport=DESK))
    for step in (log_in, live_list, commands, files, ports, account, end, administrator):
        step(shown)
    assert not shown.faults, shown.faults
    browser.close()
