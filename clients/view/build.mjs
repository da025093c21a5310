// Builds the viewer: files with hashes in their names, compressed copies, and the page that names them.
// Usage: build.mjs [DIRECTORY]

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { constants, brotliCompressSync, gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = import.meta.dirname;
const target = resolve(process.argv[2] ?? join(here, "dist"));
const common = {
  absWorkingDir: here, bundle: true, minify: true, write: false, target: "es2022", legalComments: "none", logLevel: "warning", external: ["fs", "path"],
  alias: { "@cuspid/client": join(here, "../js/src/index.ts") },
};
const bundle = async (entry, format) => (await build({ ...common, format, entryPoints: [entry] })).outputFiles[0].contents;

const codec = createRequire(join(here, "../js/package.json")).resolve("@cornerstonejs/codec-openjpeg/decodewasm");
const files = {
  script: ["view", "js", await bundle("src/main.ts", "esm")],
  worker: ["worker", "js", await bundle("../js/src/worker.ts", "iife")],
  style: ["view", "css", await bundle("src/style.css")],
  codec: ["openjpeg", "wasm", readFileSync(codec)],
};

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
let page = readFileSync(join(here, "src/index.html"), "utf8");
for (const [key, [name, extension, contents]] of Object.entries(files)) {
  // 16 hexadecimal digits: the server takes such a file for one that never changes.
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
  const file = `${name}.${hash}.${extension}`;
  writeFileSync(join(target, file), contents);
  writeFileSync(join(target, `${file}.gz`), gzipSync(contents, { level: 9 }));
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  writeFileSync(join(target, `${file}.br`), brotliCompressSync(contents, { params: quality }));
  page = page.replaceAll(`{${key}}`, `view/${file}`);
}
writeFileSync(join(target, "index.html"), page);
