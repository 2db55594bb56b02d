// account - one's own limits, API keys, and how long one's sandboxes ran.
import { call, pages } from "./api.js";
import { act, button, confirmed, duration, facts, h, row, sections, table, time } from "./dom.js";
import { chart } from "./chart.js";

const SCOPES = ["sandboxes:read", "sandboxes:write", "exec", "admin"];

async function limits(place, signal) {
  const all = await call("GET", "/api/v1/limits", undefined, signal);
  place.replaceChildren(facts(Object.entries(all).filter(([, one]) => typeof one === "object" && one !== null)
    .map(([name, one]) => [name.replaceAll("_", " "), `${one.used} of ${one.limit ?? "any number"}`])));
}

async function keys(place, signal) {
  const list = table("API keys", ["Name", "Key", "Scopes", "Last used", "Expires", ""], []);
  const body = list.querySelector("tbody"), fresh = h("p", { role: "status" });
  const name = h("input", { required: true, name: "name", size: 16 });
  const boxes = SCOPES.map((scope) => h("input", { type: "checkbox", name: scope, checked: scope !== "admin" }));
  const make = h("button", { className: "main" }, "Create key");

  async function refresh() {
    const lines = [];
    await pages("/api/v1/keys", (items) => lines.push(...items), signal);
    body.replaceChildren(...lines.map((key) => row(key.name, h("code", {}, `${key.prefix}…`),
      h("td", { className: "wrap" }, key.scopes.join(", ")), time(key.last_used_at), time(key.expires_at),
      button("Revoke", async () => {
        if (await confirmed(`Revoke the key "${key.name}"? Programs that use it are refused within 5 seconds.`, "Revoke")) {
          await call("DELETE", `/api/v1/keys/${key.id}`);
          await refresh();
        }
      }, "danger"))));
  }

  place.replaceChildren(h("form", { className: "bar", onsubmit: (event) => {
    event.preventDefault();
    act(make, async () => {
      const made = await call("POST", "/api/v1/keys", { name: name.value,
        scopes: boxes.filter((one) => one.checked).map((one) => one.name) });
      fresh.replaceChildren("The key is shown this once: ", h("code", {}, made.key));
      await refresh();
    });
  } }, h("label", {}, "Name", name), SCOPES.map((scope, i) => h("label", { className: "row" }, boxes[i], scope)), make), fresh, list);
  await refresh();
}

async function usage(place, signal) {
  const { items, from, to } = await call("GET", "/api/v1/usage?group_by=day", undefined, signal);
  const total_s = items.reduce((sum, one) => sum + one.running_seconds, 0);
  place.replaceChildren(h("p", {}, `${duration(total_s)} running from ${from} to before ${to}.`),
    chart(items.map((one) => ({ name: one.day, value: one.running_seconds })), (value) => duration(value),
      "Seconds running by day"));
}

export async function account_view(content, signal) {
  const parts = [["Limits", limits], ["Usage by day", usage], ["API keys", keys]];
  await sections(content, "Account", parts, signal);
}
