// Builds the package into dist: the library as an ES module, its worker, the codec, and types.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";

import { build } from "esbuild";

process.chdir(import.meta.dirname);
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
const common = { absWorkingDir: import.meta.dirname, bundle: true, target: "es2022", logLevel: "warning", external: ["fs", "path"] };
await build({ ...common, entryPoints: ["src/index.ts"], format: "esm", outfile: "dist/index.js" });
await build({ ...common, entryPoints: ["src/decoder.ts"], format: "esm", outfile: "dist/decoder.js" });
await build({ ...common, entryPoints: ["src/worker.ts"], format: "iife", minify: true, outfile: "dist/worker.js" });
const codec = createRequire(import.meta.url).resolve("@cornerstonejs/codec-openjpeg/decodewasm");
copyFileSync(codec, "dist/openjpegwasm_decode.wasm");
if (!process.argv.includes("--no-types")) execFileSync("npx", ["tsc", "--project", "."], { stdio: "inherit" });
