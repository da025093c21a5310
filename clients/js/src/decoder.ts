// Decodes codestreams: the work of a worker, without the worker.

import openjpeg from "@cornerstonejs/codec-openjpeg/decodewasmjs";

import { halfFloat } from "./half.js";

/** Values as half floats: half(value × slope + intercept − offset). For textures of R16F. */
export interface HalfFloats {
  slope: number;
  intercept: number;
  /** Half floats are finest near 0, so this is the value that matters most: the middle of the window. */
  offset: number;
}

export interface DecodeJob {
  codestream: Uint8Array;
  /** Resolutions to leave out. */
  level: number;
  precision: number;
  drop: number;
  signed: boolean;
  samples: number;
  half: HalfFloats | null;
}

export type Samples = Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Int16Array<ArrayBuffer>;

export interface Decoded {
  width: number;
  height: number;
  samples: number;
  data: Samples;
  /** The time that decoding took. */
  milliseconds: number;
}

export class Decoder {
  private tables = new Map<string, Uint16Array>();

  private constructor(private readonly codec: any, private readonly messages: string[]) {}

  /** Fails if the codec does not start. @param module The compiled `openjpegwasm_decode.wasm`. */
  static async create(module: WebAssembly.Module): Promise<Decoder> {
    // The codec says so, and does no more than that, when it cannot decode; its buffer then still holds the image before.
    const messages: string[] = [];
    const listen = (text: string) => {
      if (text.includes("[ERROR]")) messages.push(text);
    };
    // The codec's own promise stays pending if there is no instance.
    let fail: (error: unknown) => void;
    const failure = new Promise<never>((_, reject) => (fail = reject));
    const starting = openjpeg({
      print: listen,
      printErr: listen,
      instantiateWasm(imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void) {
        WebAssembly.instantiate(module, imports).then((instance) => done(instance, module)).catch(fail);
        return {};
      },
    });
    const runtime = await Promise.race([starting, failure]);
    return new Decoder(new runtime.J2KDecoder(), messages);
  }

  decode(job: DecodeJob): Decoded {
    const start = performance.now();
    const { codec } = this;
    this.messages.length = 0;
    codec.getEncodedBuffer(job.codestream.length).set(job.codestream);
    codec.decodeSubResolution(job.level, 0);
    if (this.messages.length) throw new Error(this.messages.join(" "));
    const info = codec.getFrameInfo();
    const size = codec.calculateSizeAtDecompositionLevel(job.level);
    const bytes: Uint8Array = codec.getDecodedBuffer();
    const stored = job.precision - job.drop;
    const count = size.width * size.height * job.samples;
    if (info.componentCount !== job.samples || bytes.length < count * (stored > 8 ? 2 : 1)) {
      throw new Error("the codestream is not as its description says");
    }
    const data = this.convert(job, view(bytes, count, stored > 8, job.signed));
    return { width: size.width, height: size.height, samples: job.samples, data, milliseconds: performance.now() - start };
  }

  private convert(job: DecodeJob, decoded: ArrayLike<number>): Samples {
    const { drop, precision, signed, half } = job;
    const count = decoded.length;
    const max = 2 ** (signed ? precision - 1 : precision) - 1;
    if (half && job.samples === 1) {
      const table = this.table(half, signed);
      const out = new Uint16Array(count);
      for (let index = 0; index < count; index++) out[index] = table[Math.min(decoded[index] << drop, max) & 0xffff];
      return out;
    }
    const out: Samples = precision <= 8 && !signed ? new Uint8Array(count) : signed ? new Int16Array(count) : new Uint16Array(count);
    for (let index = 0; index < count; index++) out[index] = Math.min(decoded[index] << drop, max);
    return out;
  }

  /** The half float of each value of 16 bits. */
  private table({ slope, intercept, offset }: HalfFloats, signed: boolean): Uint16Array {
    const key = `${slope} ${intercept} ${offset} ${signed}`;
    let table = this.tables.get(key);
    if (!table) {
      table = new Uint16Array(65536);
      const values = signed ? new Int16Array(65536) : new Uint16Array(65536);
      for (let index = 0; index < 65536; index++) {
        values[index] = index;
        table[index] = halfFloat(values[index] * slope + intercept - offset);
      }
      // A series has a few rescales; one with very many does not fill the memory.
      if (this.tables.size > 16) this.tables.clear();
      this.tables.set(key, table);
    }
    return table;
  }
}

/** The decoded values; the codec gives bytes for up to 8 bits, else 16 bits in this machine's order. */
function view(bytes: Uint8Array, count: number, isWide: boolean, signed: boolean): ArrayLike<number> {
  const { buffer, byteOffset } = bytes;
  if (isWide) return signed ? new Int16Array(buffer, byteOffset, count) : new Uint16Array(buffer, byteOffset, count);
  return signed ? new Int8Array(buffer, byteOffset, count) : new Uint8Array(buffer, byteOffset, count);
}
