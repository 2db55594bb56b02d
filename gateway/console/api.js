// api - calls of the server's own HTTP API with the token of this tab. The token stays in sessionStorage.

export const SANDBOXES = "/agent/sandboxes/sandboxes";
const RECONNECT_FIRST_MS = 500, RECONNECT_MOST_MS = 15000;

export class ApiError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

export function user() {
  return JSON.parse(sessionStorage.getItem("user") ?? "null");
}

export function forget() {
  sessionStorage.removeItem("token");
  sessionStorage.removeItem("user");
}

// crypto.randomUUID() exists in secure contexts only; a server of one's own may be reached by plain HTTP.
function request_id() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = (random[6] & 0x0f) | 0x40;
  random[8] = (random[8] & 0x3f) | 0x80;
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function headers(more = {}) {
  const token = sessionStorage.getItem("token");
  return { "X-Request-ID": request_id(), ...(token === null ? {} : { Authorization: `Bearer ${token}` }), ...more };
}

// Throws the error of an answer. A refused token ends the session: main.js shows the login.
export async function refuse(response) {
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && sessionStorage.getItem("token") !== null) {
    forget();
    window.dispatchEvent(new Event("logout"));
  }
  throw new ApiError(response.status, answer.error?.type, answer.error?.detail ?? answer.msg ?? `HTTP ${response.status}`);
}

// One call. Returns `data` of the answer.
export async function call(method, path, body = undefined, signal = undefined) {
  const response = await fetch(path, {
    method, signal, headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) {
    await refuse(response);
  }
  return response.status === 204 ? null : (await response.json()).data;
}

// Every page of a list, one at a time: on_page gets each page's items as it comes.
export async function pages(path, on_page, signal) {
  let cursor = null;
  do {
    const page = await call("GET", path + (path.includes("?") ? "&" : "?") + "limit=200" +
      (cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`), undefined, signal);
    on_page(page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
}

export async function login(username, password) {
  const data = await call("POST", "/api/v1/auth/login", { username, password });
  sessionStorage.setItem("token", data.access_token);
  sessionStorage.setItem("user", JSON.stringify(data.user));
}

export async function logout() {
  await call("POST", "/api/v1/auth/logout").catch(() => null);
  forget();
}

// Reads one response of server-sent events. Returns the last id.
async function read_events(response, on_event, last_id) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", event = { type: "message", data: [] };

  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return last_id;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "" && event.data.length > 0) {
        on_event(event.type, JSON.parse(event.data.join("\n")));
      }
      if (line === "") {
        event = { type: "message", data: [] };
      } else if (line.startsWith("id: ")) {
        last_id = line.slice(4);
      } else if (line.startsWith("event: ")) {
        event.type = line.slice(7);
      } else if (line.startsWith("data: ")) {
        event.data.push(line.slice(6));
      }
    }
  }
}

// Follows a stream until on_event returns "end" or the signal aborts; a broken one goes on behind its last id.
// EventSource cannot send the Authorization header.
export async function follow(path, on_event, signal) {
  let last_id = null, pause_ms = RECONNECT_FIRST_MS, ended = false;

  while (!signal.aborted && !ended) {
    try {
      const response = await fetch(path, { signal, headers: headers({ Accept: "text/event-stream",
        ...(last_id === null ? {} : { "Last-Event-ID": last_id }) }) });
      if (!response.ok) {
        await refuse(response);
      }
      pause_ms = RECONNECT_FIRST_MS;
      last_id = await read_events(response, (type, data) => { ended = on_event(type, data) === "end" || ended; }, last_id);
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
        throw error;
      }
    }
    if (!ended) {
      await new Promise((resolve) => { setTimeout(resolve, pause_ms * (0.5 + Math.random() / 2)); });
      pause_ms = Math.min(pause_ms * 2, RECONNECT_MOST_MS);
    }
  }
}
