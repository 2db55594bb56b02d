// Logs in to code-server with a real browser and waits until VS Code's workbench is there, with a file of the sandbox.
//
//   node browser.mjs CHROMIUM PROFILE URL PASSWORD PICTURE
//
// Speaks Chromium's DevTools protocol over the WebSocket that Node.js 22 and later have.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [chromium, profile, url, password, picture] = process.argv.slice(2);
const browser = spawn(chromium, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", `--user-data-dir=${profile}`, "--window-size=1280,800", "about:blank"],
    { stdio: ["ignore", "ignore", "pipe"] });
process.on("exit", () => browser.kill("SIGKILL"));

let port;
for await (const line of createInterface({ input: browser.stderr })) {
    port = line.match(/DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)/)?.[1];
    if (port) break;
}
browser.stderr.resume();
const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
const socket = new WebSocket(pages.find((page) => page.type === "page").webSocketDebuggerUrl);
await once(socket, "open");
const waiting = new Map();
let last = 0;
socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    waiting.get(message.id)?.(message.result ?? {});
});
const call = (method, params = {}) => new Promise((resolve) => {
    waiting.set(++last, resolve);
    socket.send(JSON.stringify({ id: last, method, params }));
});
const evaluate = async (expression) => (await call("Runtime.evaluate", { expression, returnByValue: true })).result?.value;
async function until(what, expression, seconds) {
    const end = Date.now() + seconds * 1000;
    while (!(await evaluate(expression))) {
        if (Date.now() > end) {
            writeFileSync(picture, Buffer.from((await call("Page.captureScreenshot")).data, "base64"));
            throw new Error(`${what}: not within ${seconds} s; the page says: ${await evaluate("document.body.innerText")}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
    }
}

await call("Page.navigate", { url });
await until("the login page", "!!document.querySelector('input[type=password]')", 60);
await evaluate(`document.querySelector("input[type=password]").value = ${JSON.stringify(password)};
                document.querySelector("input[type=password]").form.requestSubmit?.() ?? document.querySelector("form").submit()`);
await until("the workbench", "!!document.querySelector('.monaco-workbench .explorer-folders-view')", 180);
await until("the file", "document.body.innerText.includes('hello.py')", 60);
writeFileSync(picture, Buffer.from((await call("Page.captureScreenshot")).data, "base64"));
console.log("hello.py is in the explorer");
process.exit(0);
