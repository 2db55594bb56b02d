// sandbox - one sandbox: its facts and history, commands, files and ports.
import { SANDBOXES, call, follow } from "./api.js";
import { facts, h, notice, state, time } from "./dom.js";
import { commands_tab } from "./commands.js";
import { files_tab } from "./files.js";
import { ports_tab } from "./ports.js";
import { actions, deadline } from "./sandboxes.js";

const TABS = { overview: ["Overview", overview_tab], commands: ["Commands", commands_tab], files: ["Files", files_tab],
  ports: ["Ports", ports_tab] };

async function overview_tab(place, box, signal) {
  const history = h("ol", { className: "history" });
  let after = "";

  async function more() {
    const page = await call("GET", `${SANDBOXES}/${box.id}/events?limit=200&after=${after}`, undefined, signal);
    for (const event of page.items) {
      history.prepend(h("li", {}, h("strong", {}, event.type), " ", time(event.time), h("br"),
        h("span", { className: "dim" }, `${event.from ?? "–"} → ${event.to ?? "–"}, ${event.reason}, by ${event.actor_kind}`)));
    }
    after = page.next_cursor;
  }

  place.replaceChildren(h("div", { className: "grid" },
    h("section", {}, h("h2", {}, "Facts"), facts([["Id", h("code", {}, box.id)], ["Provider", box.provider],
      ["Id at the provider", h("code", {}, box.provider_sandbox_id ?? "–")], ["Template", box.template], ["Label", box.user_id],
      ["Reason", box.status_reason], ["Created", time(box.created_at)], ["Last activity", time(box.last_activity_at)],
      ["Deadline", deadline(box)], ["On timeout", box.on_timeout]]),
      h("h2", {}, "Metadata"), Object.keys(box.metadata).length === 0 ? h("p", { className: "dim" }, "None.")
        : facts(Object.entries(box.metadata))),
    h("section", {}, h("h2", {}, "History"), history)));
  place.refresh = more;
  await more();
}

// `chosen`: what the address names within the tab, or undefined.
export async function sandbox_view(content, id, tab, chosen, signal) {
  const name = Object.hasOwn(TABS, tab) ? tab : "overview";
  const head = h("div", { className: "bar" }), place = h("div");

  async function load() {
    const box = await call("GET", `${SANDBOXES}/${id}/info`, undefined, signal);
    head.replaceChildren(h("span", {}, state(box.status)), h("span", { className: "dim" }, deadline(box)), actions(box));
    return box;
  }

  content.replaceChildren(h("h1", {}, "Sandbox ", h("code", {}, id)), head,
    h("nav", { className: "tabs", "aria-label": "Sandbox" }, Object.entries(TABS).map(([key, [title]]) =>
      h("a", { href: `#/sandboxes/${id}/${key}`, "aria-current": key === name ? "page" : null }, title))), place);
  const box = await load();
  follow("/api/v1/events?after=now", (type, event) => {
    if (event.subject === id && event.data.to === "deleted") {
      head.replaceChildren(state("deleted"));
    } else if (event.subject === id) {
      load().catch((error) => notice(error.message, true));
      place.refresh?.();
    }
  }, signal).catch((error) => notice(error.message, true));
  await TABS[name][1](place, box, signal, chosen);
}
