// main - the console's frame: login, menu, and which view the address after # names. It shows what the API gives, nothing else.
import { login, logout, user } from "./api.js";
import { act, h, notice } from "./dom.js";
import { account_view } from "./account.js";
import { sandbox_view } from "./sandbox.js";
import { sandboxes_view } from "./sandboxes.js";
import { system_view } from "./system.js";

const VIEWS = {
  sandboxes: { title: "Sandboxes", show: sandboxes_view },
  account: { title: "Account", show: account_view },
  system: { title: "System", show: system_view, admins: true },
};

let shown = new AbortController(); // aborted when its view is left: ends its calls and timers

function address() {
  return location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
}

function show_login() {
  const name = h("input", { name: "username", autocomplete: "username", required: true, id: "username" });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const enter = h("button", { className: "main" }, "Log in");
  const form = h("form", { className: "login", onsubmit: (event) => {
    event.preventDefault();
    act(enter, async () => {
      await login(name.value, password.value);
      show();
    });
  } }, h("h1", {}, "Log in"), h("label", {}, "User name", name), h("label", {}, "Password", password), enter);
  document.getElementById("content").replaceChildren(form);
  name.focus();
}

function show_frame(current) {
  const who = user();
  document.getElementById("menu").replaceChildren(...Object.entries(VIEWS)
    .filter(([, view]) => who !== null && (!view.admins || who.role === "admin"))
    .map(([name, view]) => h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, view.title)));
  document.getElementById("account").replaceChildren(...(who === null ? [] : [`${who.username} (${who.role}) `,
    h("button", { type: "button", onclick: async () => { await logout(); show(); } }, "Log out")]));
}

async function show() {
  const [name, ...rest] = address();
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : VIEWS.sandboxes;
  const content = document.getElementById("content");

  shown.abort();
  shown = new AbortController();
  show_frame(Object.hasOwn(VIEWS, name) ? name : "sandboxes");
  if (user() === null) {
    show_login();
    return;
  }
  try {
    if (view.show === sandboxes_view && rest.length > 0 && rest[0] !== "") {
      await sandbox_view(content, rest[0], rest[1] ?? "overview", rest[2], shown.signal);
    } else {
      await view.show(content, shown.signal);
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      notice(error.message, true);
    }
  }
}

window.addEventListener("hashchange", show);
window.addEventListener("logout", () => { notice("The session has ended: log in again.", true); show(); });
show();
