// dom - makes elements, shows notices, formats times and sizes. Text goes in as text nodes: nothing a sandbox says becomes markup.

// Makes an element. A property that begins with "on" is a listener; null and false children are left out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (name in element && name !== "list" && name !== "form") {
      element[name] = value;
    } else if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function notice(text, bad = false) {
  const box = h("div", { className: bad ? "notice bad" : "notice", role: bad ? "alert" : null }, text);
  document.getElementById("notices").append(box);
  setTimeout(() => box.remove(), bad ? 12000 : 5000);
}

// Runs an action of a button: it is disabled meanwhile, and a failure is shown.
export async function act(button, action) {
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    notice(error.message, true);
  } finally {
    button.disabled = false;
  }
}

export function button(text, action, className = "") {
  return h("button", { type: "button", className, onclick: (event) => act(event.currentTarget, action) }, text);
}

// Asks before something that cannot be undone. Resolves to true or false.
export function confirmed(question, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question }, h("form", { method: "dialog" }, h("p", {}, question),
      h("div", { className: "bar" }, h("button", { value: "no" }, "Cancel"),
        h("button", { value: "yes", className: "danger" }, verb))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function table(caption, heads, rows) {
  return h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    h("table", { "aria-label": caption },
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows)));
}

export function row(...cells) {
  return h("tr", {}, cells.map((cell) => (cell instanceof Element && cell.tagName === "TD" ? cell : h("td", {}, cell))));
}

export function state(name) {
  return h("span", { className: `state state-${name}` }, name);
}

// Shows sections, each filled on its own: one that fails leaves the others. parts: [title, fill(place, signal)].
export async function sections(content, heading, parts, signal) {
  content.replaceChildren(h("h1", {}, heading));
  await Promise.all(parts.map(async ([title, fill]) => {
    const place = h("div");
    content.append(h("section", {}, h("h2", {}, title), place));
    await fill(place, signal).catch((error) => {
      if (error.name !== "AbortError") {
        notice(`${title}: ${error.message}`, true);
      }
    });
  }));
}

export function facts(pairs) {
  return h("dl", {}, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}

export function time(text) {
  return text === null || text === undefined ? "–" : h("time", { dateTime: text, title: text }, new Date(text).toLocaleString());
}

// A duration in its two largest units: "3 h 20 min".
export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) {
    return "0 s";
  }
  return units.slice(first, first + 2).map(([name, size], index) => {
    const count = Math.floor((index === 0 ? seconds : seconds % units[first][1]) / size);
    return count > 0 || index === 0 ? `${count} ${name}` : "";
  }).join(" ").trim();
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) {
    count /= 1024;
  }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}
