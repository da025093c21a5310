// A worker of the pool: decodes, and converts for the reader.

import { type DecodeJob, Decoder } from "./decoder.js";

/** The part of a dedicated worker's global scope that is used here. */
const scope = self as unknown as { onmessage: (event: MessageEvent) => void; postMessage(message: unknown, transfer?: Transferable[]): void };
let module: WebAssembly.Module;
let decoder: Promise<Decoder>;

/** Starts the codec; the pool hears of it if that fails. */
function start(): void {
  decoder = Decoder.create(module);
  decoder.catch((error) => scope.postMessage({ failed: `the codec does not start: ${error}` }));
}

scope.onmessage = async ({ data }: MessageEvent) => {
  if (data.module) {
    ({ module } = data);
    return start();
  }
  const { id, job } = data as { id: number; job: DecodeJob };
  try {
    const decoded = (await decoder).decode(job);
    scope.postMessage({ id, decoded }, [decoded.data.buffer]);
  } catch (error) {
    // A codec that has run out of its memory, or was aborted, decodes nothing afterwards.
    if (error instanceof WebAssembly.RuntimeError) start();
    scope.postMessage({ id, error: String(error) });
  }
};
