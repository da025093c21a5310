// A pool of workers in a browser.

import { Pool, defaultWorkers } from "./pool.js";

export interface PoolOptions {
  /** The URL of `worker.js`; by default beside this module. */
  workerUrl?: string | URL;
  /** The URL of `openjpegwasm_decode.wasm`; by default beside this module. */
  codecUrl?: string | URL;
  workers?: number;
}

/** Starts the workers. The codec is compiled once for all of them, and kept by the browser's code cache. */
export function createPool(options: PoolOptions = {}): Pool {
  const workerUrl = options.workerUrl ?? new URL("./worker.js", import.meta.url);
  const codecUrl = options.codecUrl ?? new URL("./openjpegwasm_decode.wasm", import.meta.url);
  const module = WebAssembly.compileStreaming(fetch(codecUrl));
  const workers = Array.from({ length: options.workers ?? defaultWorkers() }, () => new Worker(workerUrl));
  return new Pool(workers, module);
}
