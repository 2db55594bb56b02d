// files - browses a sandbox's files: upload with progress, download, edit of small text files, removal.
import { SANDBOXES, call, headers, refuse } from "./api.js";
import { act, button, bytes, confirmed, h, notice, row, table } from "./dom.js";

const EDIT_MOST_BYTES = 256 * 1024;

// What the server says of a failure, or its status when a proxy in between answered without JSON.
function error_text(request) {
  try {
    const answer = JSON.parse(request.responseText);
    return answer.error?.detail ?? answer.msg;
  } catch {
    return `HTTP ${request.status}`;
  }
}

function upload(box, path, file, on_progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(), form = new FormData();
    form.append("sandbox_id", box.id);
    form.append("file_path", path);
    form.append("file", file);
    request.open("POST", `${SANDBOXES}/upload-file`);
    for (const [name, value] of Object.entries(headers())) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => on_progress(event.loaded, event.total);
    request.onload = () => {
      if (request.status === 200) {
        resolve();
      } else {
        reject(new Error(error_text(request)));
      }
    };
    request.onerror = () => reject(new Error("the connection broke"));
    request.send(form);
  });
}

async function download(box, path, name) {
  const response = await fetch(`${SANDBOXES}/download-file`, { method: "POST",
    headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ sandbox_id: box.id, file_path: path }) });
  if (!response.ok) {
    await refuse(response);
  }
  const url = URL.createObjectURL(await response.blob());
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export async function files_tab(place, box, signal) {
  const where = h("input", { name: "path", value: "/home/user", size: 40, className: "mono" });
  const chosen = h("input", { type: "file", "aria-label": "File to upload" });
  const progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const editor = h("div"), list = table("Files", ["Name", "Type", "Size", ""], []);
  const body = list.querySelector("tbody");
  const join = (name) => `${where.value.replace(/\/+$/, "")}/${name}`;

  async function edit(path) {
    const file = await call("POST", `${SANDBOXES}/read-file`, { sandbox_id: box.id, file_path: path });
    if (file.encoding !== "utf-8") {
      notice("This file is not text; download it instead.", true);
      return;
    }
    const text = h("textarea", { value: file.content, spellcheck: false, "aria-label": path });
    editor.replaceChildren(h("h2", {}, path), text, h("div", { className: "bar" },
      button("Save", async () => {
        await call("POST", `${SANDBOXES}/write-file`, { sandbox_id: box.id, file_path: path, content: text.value });
        notice(`${path} is saved.`);
      }, "main"), button("Close", async () => editor.replaceChildren())));
    text.focus();
  }

  function line(entry) {
    const path = join(entry.name), folder = entry.type === "directory";
    return row(folder ? h("a", { href: "", onclick: (event) => {
      event.preventDefault();
      where.value = path;
      open().catch((error) => notice(error.message, true));
    } }, `${entry.name}/`) : entry.name, entry.is_link ? `link to ${entry.link_target}` : entry.type,
    folder ? "" : bytes(entry.size), h("div", { className: "inline" },
      !folder && button("Download", () => download(box, path, entry.name)),
      !folder && entry.size <= EDIT_MOST_BYTES && button("Edit", () => edit(path)),
      button("Remove", async () => {
        if (await confirmed(`Remove ${path}?`, "Remove")) {
          await call("POST", `${SANDBOXES}/remove-file`, { sandbox_id: box.id, path, recursive: folder });
          await open();
        }
      }, "danger")));
  }

  async function open() {
    const lines = [];
    let cursor = null;
    do {
      const page = await call("POST", `${SANDBOXES}/list-files`, { sandbox_id: box.id, path: where.value,
        ...(cursor === null ? {} : { cursor }) }, signal);
      lines.push(...page.entries.map(line));
      cursor = page.next_cursor;
    } while (cursor !== null);
    body.replaceChildren(...lines);
  }

  const go = h("button", {}, "Open");
  place.replaceChildren(h("form", { className: "bar", onsubmit: (event) => {
    event.preventDefault();
    act(go, open);
  } }, h("label", {}, "Folder", where), go, button("Up", async () => {
    where.value = where.value.replace(/\/+[^/]*\/*$/, "") || "/";
    await open();
  })), h("div", { className: "bar" }, chosen, button("Upload", async () => {
    const file = chosen.files[0];
    if (file === undefined) {
      throw new Error("Choose a file first.");
    }
    progress.hidden = false;
    try {
      await upload(box, join(file.name), file, (sent, all) => { progress.max = all; progress.value = sent; });
      notice(`${file.name} is uploaded, ${bytes(file.size)}.`);
    } finally {
      progress.hidden = true;
    }
    await open();
  }), progress), list, editor);
  await open();
}
