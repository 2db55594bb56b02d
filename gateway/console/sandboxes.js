// sandboxes - the list of sandboxes: live through the event feed, and the forms that create and end one.
import { SANDBOXES, call, follow, pages, user } from "./api.js";
import { act, button, confirmed, duration, h, notice, row, state, table } from "./dom.js";

const REFRESH_MS = 150; // events of one moment lead to one read of each sandbox they name

export function deadline(box) {
  const end = box.expires_at ?? box.delete_at;
  if (end === null || box.status === "deleted" || box.status === "failed") {
    return "–";
  }
  const left_s = (new Date(end) - Date.now()) / 1000;
  const verb = box.expires_at === null || box.on_timeout === "delete" ? "deleted" : "paused";
  return left_s <= 0 ? `${verb} now` : `${verb} in ${duration(left_s)}`;
}

export function actions(box, after) {
  const change = (text, action) => button(text, async () => { await action(); await after?.(); });
  return h("div", { className: "inline" },
    box.status === "running" && change("Pause", () => call("POST", `${SANDBOXES}/${box.id}/pause`)),
    box.status === "paused" && change("Resume", () => call("POST", `${SANDBOXES}/connect`, { sandbox_id: box.id })),
    !["deleted", "deleting"].includes(box.status) && button("Delete", async () => {
      if (await confirmed(`Delete sandbox ${box.id}? Its files and processes end with it.`, "Delete")) {
        await call("DELETE", `${SANDBOXES}/${box.id}`);
        await after?.();
      }
    }, "danger"));
}

function create_form() {
  const label = h("input", { name: "label", required: true, value: "me", size: 12 });
  const template = h("input", { name: "template", placeholder: "default", size: 12 });
  const idle = h("input", { name: "idle", type: "number", min: 1, max: 86400, placeholder: "default", size: 8 });
  const go = h("button", { className: "main" }, "Create");
  return h("form", { className: "bar", onsubmit: (event) => {
    event.preventDefault();
    act(go, async () => {
      const made = await call("POST", `${SANDBOXES}/create`, { user_id: label.value,
        ...(template.value === "" ? {} : { sandbox_template_id: template.value }),
        ...(idle.value === "" ? {} : { timeout_seconds: Number(idle.value) }) });
      notice(`Sandbox ${made.sandbox_id} is ${made.status}.`);
    });
  } }, h("label", {}, "Label", label), h("label", {}, "Template", template), h("label", {}, "Idle seconds", idle), go);
}

function matches(box, words, status) {
  const text = `${box.id} ${box.user_id} ${box.provider} ${box.template} ${box.provider_sandbox_id ?? ""} ` +
    Object.entries(box.metadata).map(([key, value]) => `${key}=${value}`).join(" ");
  return (status === "" || box.status === status) && words.every((word) => text.toLowerCase().includes(word));
}

export async function sandboxes_view(content, signal) {
  const boxes = new Map(), rows = new Map(), due = new Set();
  const search = h("input", { type: "search", placeholder: "id, label, key=value", oninput: () => filter() });
  const status = h("select", { onchange: () => filter() }, h("option", { value: "" }, "all"),
    ["creating", "running", "pausing", "paused", "resuming", "deleting", "failed"].map((name) => h("option", {}, name)));
  const count = h("span", { className: "dim", role: "status" });
  const list = table("Sandboxes", ["Sandbox", "State", "Label", "Provider", "Template", "Age", "Deadline", "Metadata", ""], []);
  const body = list.querySelector("tbody");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    let seen = 0;
    for (const [id, line] of rows) {
      line.hidden = !matches(boxes.get(id), words, status.value);
      seen += !line.hidden;
    }
    count.textContent = `${seen} of ${rows.size}`;
  }

  function put(box, where) {
    const line = row(h("a", { href: `#/sandboxes/${box.id}`, className: "mono" }, box.id.slice(0, 13)),
      state(box.status), box.user_id, box.provider, box.template,
      h("td", { className: "age" }), h("td", { className: "deadline" }),
      h("td", { className: "wrap" }, Object.entries(box.metadata).map(([key, value]) => `${key}=${value}`).join(", ")),
      actions(box));
    boxes.set(box.id, box);
    if (rows.has(box.id)) {
      rows.get(box.id).replaceWith(line);
    } else {
      where(line);
    }
    rows.set(box.id, line);
    tick_row(box, line);
  }

  function tick_row(box, line) {
    line.querySelector(".age").textContent = duration((Date.now() - new Date(box.created_at)) / 1000);
    line.querySelector(".deadline").textContent = deadline(box);
  }

  function tick() {
    for (const [id, line] of rows) {
      if (!line.hidden) {
        tick_row(boxes.get(id), line);
      }
    }
  }

  function drop(id) {
    rows.get(id)?.remove();
    rows.delete(id);
    boxes.delete(id);
  }

  // The end of a sandbox shows in its events; what else changes is read.
  function happened(id, to) {
    if (to === "deleted") {
      due.delete(id);
      drop(id);
      filter();
    } else if (to === "deleting" && boxes.has(id)) {
      put({ ...boxes.get(id), status: to });
    } else {
      if (due.size === 0) {
        setTimeout(refresh, REFRESH_MS);
      }
      due.add(id);
    }
  }

  async function refresh() {
    const ids = [...due];
    due.clear();
    await Promise.all(ids.map(async (id) => {
      try {
        put(await call("GET", `${SANDBOXES}/${id}/info`, undefined, signal), (line) => body.prepend(line));
      } catch (error) {
        if (error.status === 404) { // deleted
          drop(id);
        } else if (error.name !== "AbortError") {
          notice(`Sandbox ${id} is shown as it was: ${error.message}`, true);
        }
      }
    }));
    filter();
  }

  content.replaceChildren(h("h1", {}, user().role === "admin" ? "Sandboxes of all users" : "Sandboxes"), create_form(),
    h("div", { className: "bar" }, h("label", {}, "Search", search), h("label", {}, "State", status), count), list);
  const timer = setInterval(tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  follow("/api/v1/events?after=now", (type, event) => happened(event.subject, event.data.to), signal)
    .catch((error) => notice(error.message, true));
  await pages(SANDBOXES, (items) => {
    for (const box of items) {
      put(box, (line) => body.append(line));
    }
    filter();
  }, signal);
}
