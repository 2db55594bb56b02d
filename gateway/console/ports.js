// ports - URLs of a sandbox's ports: made, shown with their end, revoked.
import { SANDBOXES, call } from "./api.js";
import { act, button, h, row, table, time } from "./dom.js";

export async function ports_tab(place, box, signal) {
  const port = h("input", { type: "number", min: 1, max: 65535, required: true, value: 8000, name: "port" });
  const expires = h("input", { type: "number", min: 1, placeholder: "never", name: "expires" });
  const sight = h("select", { name: "visibility" }, h("option", {}, "private"), h("option", {}, "public"));
  const made = h("p", { role: "status" });
  const list = table("Ports", ["Port", "URL", "Visibility", "Expires", ""], []);
  const body = list.querySelector("tbody");
  const expose = h("button", { className: "main" }, "Expose");

  async function refresh() {
    const { items } = await call("GET", `${SANDBOXES}/${box.id}/ports`, undefined, signal);
    body.replaceChildren(...items.map((one) => row(one.port === 0 ? "all" : one.port,
      h("td", { className: "wrap" }, h("a", { href: one.url, target: "_blank", rel: "noreferrer" }, one.url)),
      one.visibility, time(one.expires_at), button("Revoke", async () => {
        await call("DELETE", `${SANDBOXES}/${box.id}/ports/${one.port}`);
        await refresh();
      }, "danger"))));
  }

  place.replaceChildren(h("form", { className: "bar", onsubmit: (event) => {
    event.preventDefault();
    act(expose, async () => {
      const answer = await call("POST", `${SANDBOXES}/expose-port`, { sandbox_id: box.id, port: Number(port.value),
        ...(expires.value === "" ? {} : { expires_in_seconds: Number(expires.value) }),
        ...(sight.value === "private" ? {} : { visibility: sight.value }) });
      made.replaceChildren("URL: ", h("a", { href: answer.url, target: "_blank", rel: "noreferrer" }, answer.url));
      await refresh();
    });
  } }, h("label", {}, "Port", port), h("label", {}, "Seconds until it expires", expires), h("label", {}, "Visibility", sight),
  expose), made, list);
  await refresh();
}
