// A worker of the pool: decodes, and converts for the reader.

import { type DecodeJob, Decoder } from "./decoder.js";

/** The part of a dedicated worker's global scope that is used here. */
const scope = self as unknown as { onmessage: (event: MessageEvent) => void; postMessage(message: unknown, transfer?: Transferable[]): void };
let decoder: Promise<Decoder>;

scope.onmessage = async ({ data }: MessageEvent) => {
  if (data.module) {
    decoder = Decoder.create(data.module);
    return;
  }
  const { id, job } = data as { id: number; job: DecodeJob };
  try {
    const decoded = (await decoder).decode(job);
    scope.postMessage({ id, decoded }, [decoded.data.buffer]);
  } catch (error) {
    scope.postMessage({ id, error: String(error) });
  }
};
