// Original frames as samples for textures.

import { type Slice, halfFloat } from "@cuspid/client";

import * as server from "./server.js";

/** Samples as a texture takes them: half floats, or bytes of red, green and blue. */
export interface FrameSamples {
  columns: number;
  rows: number;
  data: Uint16Array | Uint8Array;
  isColour: boolean;
}

export class Originals {
  private all: Promise<Map<string, server.DataSet>> | null = null;
  private table: { key: string; halves: Uint16Array } | null = null;

  constructor(private readonly target: server.Target, private readonly offset: number, private readonly signal: AbortSignal) {}

  async frame(slice: Slice): Promise<FrameSamples> {
    if ((slice.image?.samples ?? 1) > 1 || slice.image?.photometric === "RGB") return this.colour(slice);
    this.all ??= server.metadata(this.target, this.signal);
    this.all.catch(() => (this.all = null));
    const described = (await this.all).get(slice.instance);
    if (!described) throw new Error(`no metadata of instance ${slice.instance}`);
    const number = (tag: string, otherwise: number): number => server.value(described, tag) ?? otherwise;
    if (number("00280002", 1) > 1 || !String(server.value(described, "00280004")).startsWith("MONOCHROME")) return this.colour(slice);
    const bytes = await server.frame(this.target, slice.instance, slice.frame, this.signal);
    const [rows, columns, allocated] = [number("00280010", 0), number("00280011", 0), number("00280100", 16)];
    if ((allocated !== 8 && allocated !== 16) || bytes.length < (rows * columns * allocated) / 8) throw new Error("the frame is not as its metadata say");
    const stored = number("00280101", allocated);
    const isSigned = number("00280103", 0) === 1;
    const shift = number("00280102", stored - 1) + 1 - stored;
    return { rows, columns, isColour: false, data: this.halves(bytes, rows * columns, { allocated, stored, shift, isSigned }, slice) };
  }

  private halves(bytes: Uint8Array, count: number, form: { allocated: number; stored: number; shift: number; isSigned: boolean }, slice: Slice): Uint16Array {
    const [slope, intercept] = slice.rescale ?? [1, 0];
    const key = JSON.stringify([form, slope, intercept]);
    if (this.table?.key !== key) {
      const halves = new Uint16Array(2 ** form.allocated);
      const sign = 2 ** (form.stored - 1);
      for (let bits = 0; bits < halves.length; bits++) {
        const plain = (bits >> form.shift) & (2 ** form.stored - 1);
        const stored = form.isSigned && plain >= sign ? plain - 2 * sign : plain;
        halves[bits] = halfFloat(stored * slope + intercept - this.offset);
      }
      this.table = { key, halves };
    }
    const { halves } = this.table;
    const out = new Uint16Array(count);
    if (form.allocated === 8) for (let at = 0; at < count; at++) out[at] = halves[bytes[at]];
    else for (let at = 0; at < count; at++) out[at] = halves[bytes[2 * at] | (bytes[2 * at + 1] << 8)];
    return out;
  }

  private async colour(slice: Slice): Promise<FrameSamples> {
    const bitmap = await server.colourFrame(this.target, slice.instance, slice.frame, this.signal);
    const { width: columns, height: rows } = bitmap;
    const context = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true })!;
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, columns, rows).data;
    const data = new Uint8Array(columns * rows * 3);
    for (let at = 0, from = 0; at < data.length; from += 4) {
      data[at++] = pixels[from];
      data[at++] = pixels[from + 1];
      data[at++] = pixels[from + 2];
    }
    return { columns, rows, data, isColour: true };
  }
}
