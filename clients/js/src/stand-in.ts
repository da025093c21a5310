// What stands in for a slice that cannot be decoded: a coarser level of the slice, a slice near it, or nothing but black.

import type { DecodeJob, Decoded, Samples } from "./decoder.js";
import { type SeriesIndex, levelSize } from "./format.js";
import { halfFloat } from "./half.js";
import { type Layer, planesOf } from "./layers.js";

/** The origin of the samples that stand in for a slice. */
export interface StandIn {
  /** The slice that was decoded; `null` if none could be, and the samples are black. */
  slice: number | null;
  /** The level in which it was decoded. */
  level: number;
}

/** Other slices that are tried for one that cannot be decoded at all. */
const MOST_NEIGHBOURS = 4;

/** Samples of a coarser level, repeated to the size of a finer one. */
export function enlarged(decoded: Decoded, from: number, to: number, width: number, height: number): Decoded {
  const { samples, data } = decoded;
  const out = new (data.constructor as new (length: number) => Samples)(width * height * samples);
  const factor = 2 ** (from - to);
  let at = 0;
  for (let y = 0; y < height; y++) {
    const row = Math.min(decoded.height - 1, Math.round(y / factor)) * decoded.width;
    for (let x = 0; x < width; x++) {
      const place = (row + Math.min(decoded.width - 1, Math.round(x / factor))) * samples;
      for (let sample = 0; sample < samples; sample++) out[at++] = data[place + sample];
    }
  }
  return { ...decoded, width, height, data: out };
}

/** Samples of the least value, in the form that the job wants. */
export function black({ half, samples, signed, precision }: Omit<DecodeJob, "codestream" | "level">, width: number, height: number): Decoded {
  const count = width * height * samples;
  const least = signed ? -(2 ** (precision - 1)) : 0;
  let data: Samples;
  if (half && samples === 1) data = new Uint16Array(count).fill(halfFloat(least * half.slope + half.intercept - half.offset));
  else if (signed) data = new Int16Array(count).fill(least);
  else data = precision <= 8 ? new Uint8Array(count) : new Uint16Array(count);
  return { width, height, samples, data, milliseconds: 0 };
}

/** The slices that look most like one, the nearest first: those of its size, of which something is there. */
export function neighbours(index: SeriesIndex, place: number, isThere: (slice: number) => boolean): number[] {
  const { image } = index.slices[place];
  const found: number[] = [];
  for (let apart = 1; apart < index.slices.length && found.length < MOST_NEIGHBOURS; apart++) {
    for (const slice of [place - apart, place + apart]) {
      const other = index.slices[slice]?.image;
      if (other && other.rows === image!.rows && other.columns === image!.columns && isThere(slice)) found.push(slice);
    }
  }
  return found;
}

/** The number of columns and rows of a slice in a level. */
export function sizeOf(index: SeriesIndex, place: number, level: number): [number, number] {
  const { columns, rows } = index.slices[place].image!;
  return [levelSize(columns, level), levelSize(rows, level)];
}

/** The planes of a layer that a slice fills, which may be a stand-in. @param hasOwn Marked for a plane that has its own slice. */
export function planesFor(index: SeriesIndex, layer: Layer, slice: number, standIn: StandIn | null, hasOwn: Uint8Array): number[] {
  const planes = planesOf(layer, slice, hasOwn, (number) => !index.slices[number].image);
  // A nearer slice may still come.
  if (planes.length && standIn && standIn.slice !== slice) hasOwn[planes[0]] = 0;
  return planes;
}

/** The slices whose finest samples so far are not their own. */
export class StandIns {
  private readonly found = new Map<number, { level: number; standIn: StandIn }>();

  /** Takes note of a slice in a level; coarser levels can come after finer ones. */
  note(slice: number, level: number, standIn: StandIn | null): void {
    const known = this.found.get(slice);
    if (known && known.level < level) return;
    if (standIn) this.found.set(slice, { level, standIn });
    else this.found.delete(slice);
  }

  of(slice: number): StandIn | null {
    return this.found.get(slice)?.standIn ?? null;
  }

  get count(): number {
    return this.found.size;
  }
}
