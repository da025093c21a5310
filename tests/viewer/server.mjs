// A Cuspid server on a temporary directory, with the studies of make_studies.py in it; and a proxy before it.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const binary = resolve(root, process.env.CUSPID_BINARY ?? "target/debug/cuspid");
const viewer = join(root, "viewer");
const view = join(root, "view");
export const python = join(root, ".venv/bin/python");

/**
 * Starts a server. `url` is its base, without a final slash; `studies` holds the path and the patient of each study. `settings`
 * replace defaults. `tenants` holds for each tenant a function that chooses its files by their names.
 */
export async function start({ settings = {}, tenants = [] } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "cuspid-viewer-"));
  const made = execFileSync(python, [join(import.meta.dirname, "make_studies.py"), join(directory, "studies")]);
  const data = [...dataOf(directory), ...set(settings)];
  const stored = join(directory, "studies/stored");
  if (tenants.length === 0) {
    execFileSync(binary, ["import", ...data, stored], { stdio: "ignore" });
  }
  for (const { tenant, files } of tenants) {
    const paths = files(readdirSync(stored), JSON.parse(made)).map((name) => join(stored, name));
    execFileSync(binary, ["import", ...data, "--tenant", tenant, ...paths], { stdio: "ignore" });
  }
  const server = await serve(directory, settings);
  const uploaded = join(directory, "studies/uploaded");
  return {
    ...server,
    studies: JSON.parse(made),
    /** The directory of the files that are stored. */
    stored,
    /** The expected image of a frame or slice, as a URL. */
    picture: (name) => picture(join(directory, "studies", name)),
    /** A text of the installed viewer. */
    published: (name) => readFileSync(join(viewer, name), "utf8"),
    /** Files that are not stored. */
    files: readdirSync(uploaded).map((name) => join(uploaded, name)),
  };
}

/** Starts a server without any studies; `start` starts it again on the same data and port after `kill`. */
export async function startEmpty(settings = {}) {
  const directory = mkdtempSync(join(tmpdir(), "cuspid-viewer-"));
  const first = await serve(directory, settings);
  const listen = { "http.listen": first.url.slice("http://".length) };
  let now = first;
  return {
    url: first.url,
    async kill() {
      await now.kill();
    },
    async start() {
      now = await serve(directory, { ...settings, ...listen });
    },
    stop: () => now.stop(),
  };
}

function dataOf(directory) {
  return ["--data", join(directory, "data"), "--set", "log.filter=info"];
}

function set(settings) {
  return Object.entries(settings).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
}

/** A server process on a directory. */
async function serve(directory, settings) {
  const all = { "http.listen": "127.0.0.1:0", "viewer.directory": viewer, "view.directory": view, ...settings };
  const process = spawn(binary, ["serve", ...dataOf(directory), "--dimse", "", ...set(all)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const end = async (signal) => {
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await ended;
  };
  return {
    url: await ready(process),
    kill: () => end("SIGKILL"),
    async stop() {
      await end("SIGTERM");
      rmSync(directory, { recursive: true });
    },
  };
}

/** Starts a proxy that offers the server at `url` below the path `/pacs`. */
export async function startProxy(url) {
  const prefix = "/pacs";
  const proxy = createServer((request, response) => {
    const headers = { ...request.headers, "x-forwarded-prefix": prefix };
    const path = request.url.startsWith(`${prefix}/`) ? request.url.slice(prefix.length) : "/not-below-the-path";
    const asked = ask(url + path, { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    asked.on("error", () => response.destroy());
    request.pipe(asked);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address();
  return { url: `http://127.0.0.1:${port}${prefix}`, stop: () => proxy.closeAllConnections() ?? proxy.close() };
}

/** A file as a URL. */
export function picture(file) {
  return `data:image/png;base64,${readFileSync(file, "base64")}`;
}

/** The URL of a server, as soon as the server is ready. */
function ready(process) {
  return new Promise((resolve, reject) => {
    let log = "";
    process.stderr.on("data", (text) => {
      log += text;
      const found = /ready: HTTP on (http:\S+?)\/[,\s]/.exec(log);
      if (found) resolve(found[1]);
    });
    process.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log}`)));
  });
}
