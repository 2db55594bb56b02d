// commands - runs commands in a sandbox and shows their output as it comes, also after a reload: it is kept in the sandbox.
import { SANDBOXES, call, follow, pages } from "./api.js";
import { act, button, bytes, h, notice, row, state, table, time } from "./dom.js";

const SHOWN_CHARACTERS = 200000; // of one output; older ones leave the page, not the sandbox

export async function commands_tab(place, box, signal, chosen) {
  const output = h("pre", { className: "output", tabIndex: 0, "aria-label": "Output", hidden: true });
  const title = h("h2", { hidden: true });
  const list = table("Commands", ["Command id", "State", "Exit code", "Output", "Began", ""], []);
  const body = list.querySelector("tbody");
  const line = h("input", { name: "command", required: true, size: 60, className: "mono", autocomplete: "off", "aria-label": "Command" });
  const run = h("button", { className: "main" }, "Run");
  let watched = new AbortController();

  async function refresh() {
    const lines = [];
    await pages(`${SANDBOXES}/${box.id}/commands`, (items) => lines.push(...items), signal);
    body.replaceChildren(...lines.map((one) => row(h("code", {}, one.command_id.slice(0, 13)), state(one.state),
      one.exit_code ?? one.signal ?? "–", bytes(one.stdout_bytes + one.stderr_bytes), time(one.created_at),
      h("div", { className: "inline" }, one.output_kept && button("Output", () => watch(one.command_id)),
        ["starting", "running", "paused"].includes(one.state) && button("Kill", async () => {
          await call("DELETE", `${SANDBOXES}/${box.id}/commands/${one.command_id}`);
          await refresh();
        }, "danger")))));
  }

  function show(type, text) {
    const at_end = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
    output.append(type === "stderr" ? h("span", { className: "stderr" }, text) : text);
    for (let length = output.textContent.length; length > SHOWN_CHARACTERS && output.childNodes.length > 1;) {
      length -= output.firstChild.textContent.length;
      output.firstChild.remove();
    }
    if (at_end) {
      output.scrollTop = output.scrollHeight;
    }
  }

  async function watch(command_id) {
    watched.abort();
    watched = new AbortController();
    signal.addEventListener("abort", () => watched.abort());
    output.replaceChildren();
    output.hidden = title.hidden = false;
    title.textContent = `Output of ${command_id}`;
    history.replaceState(null, "", `#/sandboxes/${box.id}/commands/${command_id}`); // a reload shows it again
    follow(`${SANDBOXES}/${box.id}/commands/${command_id}/output`, (type, data) => {
      if (type === "stdout" || type === "stderr") {
        show(type, data.text ?? new TextDecoder().decode(Uint8Array.from(atob(data.base64), (c) => c.charCodeAt(0))));
      } else if (data.omitted_bytes !== undefined) {
        show("stderr", `\n[${bytes(data.omitted_bytes)} are not kept]\n`);
      } else if (type === "exit") {
        show("stdout", `\n[${data.state}${data.exit_code === null ? "" : `, exit code ${data.exit_code}`}]\n`);
        refresh().catch((error) => notice(error.message, true));
        return "end";
      }
      return undefined;
    }, watched.signal).catch((error) => notice(error.message, true));
  }

  place.replaceChildren(h("form", { className: "bar", onsubmit: (event) => {
    event.preventDefault();
    act(run, async () => {
      const begun = await call("POST", `${SANDBOXES}/run-cmd`, { sandbox_id: box.id, command: line.value, background: true });
      line.value = "";
      await watch(begun.command_id);
      await refresh();
    });
  } }, line, run), title, output, h("h2", {}, "Commands"), list);
  await refresh();
  if (chosen !== undefined) {
    await watch(chosen);
  }
}
