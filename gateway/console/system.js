// system - for admins: readiness, the queue's figures, users, the audit log.
import { call, pages } from "./api.js";
import { button, duration, facts, h, row, sections, state, table, time } from "./dom.js";

const AUDIT_SHOWN = 100;

// The figures of /metrics as name{labels} -> number.
async function figures(signal) {
  const text = await (await fetch("/metrics", { signal })).text();
  return new Map(text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

function labels(series) {
  return Object.fromEntries([...series.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
}

async function readiness(place, signal) {
  const answer = await (await fetch("/readyz", { signal })).json();
  const ready = answer.data ?? answer.error;
  place.replaceChildren(facts([["PostgreSQL", ready.postgresql], ["Redis", ready.redis], ["Workers", ready.workers],
    ...Object.entries(ready.providers ?? {}).map(([name, text]) => [`Provider ${name}`,
      h("span", { className: `state state-${text === "ok" ? "ok" : "bad"}` }, text)])]));
}

async function queue(place, signal) {
  const all = await figures(signal);
  const jobs = [...all].filter(([name]) => name.startsWith("sandbox_jobs{"));
  const workers = [...all].filter(([name]) => name.startsWith("sandbox_worker_in_flight{"));
  place.replaceChildren(facts([...jobs.map(([name, count]) => [`Jobs ${labels(name).state}`, String(count)]),
    ["Oldest queued job waits for", duration((all.get("sandbox_queue_oldest_ms") ?? 0) / 1000)]]),
  table("Workers", ["Worker", "Jobs in flight", "Capacity", "Done", "Dead"], workers.map(([name, count]) => {
    const worker = labels(name).worker, of = (figure) => all.get(`sandbox_worker_${figure}{worker="${worker}"}`) ?? 0;
    return row(h("code", {}, worker), String(count), String(of("capacity")), String(of("done_total")), String(of("dead_total")));
  })));
}

async function users(place, signal) {
  const lines = [], list = table("Users", ["Name", "Role", "State", "Created", ""], []);
  async function refresh() {
    lines.length = 0;
    await pages("/api/v1/users", (items) => lines.push(...items), signal);
    list.querySelector("tbody").replaceChildren(...lines.map((one) => row(one.username, one.role,
      state(one.disabled ? "disabled" : "ok"), time(one.created_at),
      button(one.disabled ? "Enable" : "Disable", async () => {
        await call("POST", "/api/v1/users/change", { username: one.username, disabled: !one.disabled });
        await refresh();
      }))));
  }
  place.replaceChildren(list);
  await refresh();
}

async function audit(place, signal) {
  const { items } = await call("GET", `/api/v1/audit?limit=${AUDIT_SHOWN}`, undefined, signal);
  place.replaceChildren(table("Audit log", ["Time", "Actor", "From", "Action", "Target", "Status"],
    items.map((one) => row(time(one.at), one.actor_name ?? one.actor ?? "–", one.address ?? "–", one.action,
      h("code", {}, one.target ?? "–"), String(one.status)))));
}

export async function system_view(content, signal) {
  const parts = [["Readiness", readiness], ["Queue", queue], ["Users", users], [`Audit log, the newest ${AUDIT_SHOWN}`, audit]];
  await sections(content, "System", parts, signal);
}
