// Loads a series: reads the stream, decodes each stage as it comes, and reports slices, stages and progress.

import type { DecodeJob, Decoded, HalfFloats } from "./decoder.js";
import { HEADER_BYTES, type SeriesIndex, type Slice, type Stage, codestream, indexLength, parseIndex } from "./format.js";
import { isVolume } from "./layers.js";
import { type Pool, PoolError } from "./pool.js";
import { Source, type SourceOptions } from "./source.js";
import { type StandIn, black, enlarged, neighbours, sizeOf } from "./stand-in.js";

/** A slice in a level: decoded, or with the samples that stand in for it. */
export interface DecodedSlice extends Decoded {
  slice: Slice;
  level: number;
  stage: number;
  /** `null` if the samples are those of the slice and the level. */
  standIn: StandIn | null;
}

/** The bytes of a slice up to the end of a level. */
interface Part {
  bytes: Uint8Array;
  level: number;
}

export interface Progress {
  /** Bytes received, and bytes of what is to be loaded; 0 before the index is there. */
  bytes: number;
  totalBytes: number;
  decoded: number;
  segments: number;
}

export interface LoadOptions extends SourceOptions {
  pool: Pool;
  onIndex?: (index: SeriesIndex) => void;
  /** Called once for each segment of the stream, so that each stage has all of its slices. */
  onSlice?: (slice: DecodedSlice) => void;
  /** All slices of a stage are there; stages can end in another order than they begin. */
  onStage?: (stage: Stage, number: number) => void;
  onProgress?: (progress: Progress) => void;
  /** A segment with which its slice cannot be decoded. Before `onSlice` is called with what stands in for the slice. */
  onFailure?: (slice: Slice, error: unknown) => void;
  /** Stages to load, by the index: devices with little memory take fewer. All by default. */
  stages?: (index: SeriesIndex) => number;
  /** Half floats instead of stored values, for textures. */
  half?: (slice: Slice, index: SeriesIndex) => HalfFloats | null;
}

/** A series that is being loaded. */
export class SeriesLoad {
  /** The slice that is looked at; slices near it are decoded first. */
  focus = 0;
  index: SeriesIndex | null = null;
  private readonly source: Source;
  private readonly controller = new AbortController();
  private readonly signal: AbortSignal;
  private readonly progress: Progress = { bytes: 0, totalBytes: 0, decoded: 0, segments: 0 };
  private parts: Part[][] = [];
  private left: number[] = [];
  private pending: Promise<void>[] = [];
  private next = 0;
  private active: Promise<SeriesIndex> | null = null;

  constructor(url: string, private readonly options: LoadOptions) {
    this.signal = options.signal ? AbortSignal.any([options.signal, this.controller.signal]) : this.controller.signal;
    this.source = new Source(url, { ...options, signal: this.signal }, (received) => {
      this.progress.bytes = received;
      options.onProgress?.(this.progress);
    });
  }

  /** Loads the chosen stages. @returns The index, when all of them are decoded. */
  run(): Promise<SeriesIndex> {
    this.active ??= this.start();
    return this.active;
  }

  /** Loads further stages after `run` has ended: the rest of the stream is requested by Range. @param stages How many in all. */
  async extend(stages: number): Promise<void> {
    const index = await this.run();
    await this.read(index, Math.min(stages, index.stages.length));
  }

  /** Stops: `run` fails with an `AbortError`. */
  abort(): void {
    this.controller.abort();
    void this.source.pause();
  }

  private async start(): Promise<SeriesIndex> {
    const header = await this.source.take(HEADER_BYTES);
    const index = parseIndex(await this.source.take(indexLength(header)));
    this.index = index;
    this.parts = index.slices.map(() => []);
    this.left = index.stages.map(({ segments }) => segments);
    this.options.onIndex?.(index);
    const stages = Math.min(this.options.stages?.(index) ?? index.stages.length, index.stages.length);
    await this.read(index, stages);
    return index;
  }

  private async read(index: SeriesIndex, stages: number): Promise<void> {
    const segments = index.stages.slice(0, stages).reduce((sum, stage) => sum + stage.segments, 0);
    this.progress.segments = segments;
    this.progress.totalBytes = stages > 0 ? index.stages[stages - 1].end : this.source.position;
    for (; this.next < segments; this.next++) {
      const segment = index.segments[this.next];
      // A copy: chunks of the network are larger than segments, and would stay in memory.
      this.parts[segment.slice].push({ bytes: (await this.source.take(segment.length)).slice(), level: segment.level });
      const decoding = this.decode(index, this.next);
      // Without the codec, the other bytes are of no use.
      decoding.catch((error) => this.controller.abort(error));
      this.pending.push(decoding);
    }
    if (stages < index.stages.length) await this.source.pause();
    await Promise.all(this.pending);
    this.pending = [];
    this.signal.throwIfAborted();
  }

  private async decode(index: SeriesIndex, number: number): Promise<void> {
    const { slice: place, level, stage } = index.segments[number];
    const slice = index.slices[place];
    const parts = this.parts[place].slice();
    let decoded: Decoded;
    let standIn: StandIn | null = null;
    try {
      decoded = await this.decodeParts(index, place, parts, level, stage);
    } catch (error) {
      if (this.signal.aborted) return;
      if (error instanceof PoolError) throw error;
      this.options.onFailure?.(slice, error);
      [decoded, standIn] = await this.standIn(index, place, parts, level, stage);
    }
    if (this.signal.aborted) return;
    // Coarser levels stay: another slice may need them in place of its own.
    if (level === 0) this.parts[place] = this.parts[place].filter((part) => part.level > 0);
    this.options.onSlice?.({ ...decoded, slice, level, stage, standIn });
    this.progress.decoded++;
    this.options.onProgress?.(this.progress);
    if (--this.left[stage] === 0) this.options.onStage?.(index.stages[stage], stage);
  }

  private async decodeParts(index: SeriesIndex, place: number, parts: Part[], level: number, stage: number): Promise<Decoded> {
    const { image } = index.slices[place];
    const pieces = parts.map(({ bytes }) => bytes);
    const job = () => ({ codestream: codestream(image!.head, pieces), level, ...this.form(index, place) });
    const decoded = await this.options.pool.decode(job, () => stage * 1e6 + Math.abs(place - this.focus), this.signal);
    const [width, height] = sizeOf(index, place, level);
    if (decoded.width !== width || decoded.height !== height) throw new Error("the codestream has another size than its description says");
    return decoded;
  }

  private form(index: SeriesIndex, place: number): Omit<DecodeJob, "codestream" | "level"> {
    const slice = index.slices[place];
    const { precision, drop, signed, samples } = slice.image!;
    return { precision, drop, signed, samples, half: this.options.half?.(slice, index) ?? null };
  }

  /** The best samples for a slice that cannot be decoded. In series that are no volume, another slice is another picture. */
  private async standIn(index: SeriesIndex, place: number, parts: Part[], level: number, stage: number): Promise<[Decoded, StandIn]> {
    const [width, height] = sizeOf(index, place, level);
    const own = parts.slice(1).map((_, dropped) => ({ slice: place, parts: parts.slice(0, parts.length - 1 - dropped) }));
    const others = isVolume(index) ? neighbours(index, place, (slice) => this.parts[slice].length > 0) : [];
    for (const { slice, parts } of [...own, ...others.map((slice) => ({ slice, parts: this.parts[slice].slice() }))]) {
      const coarse = Math.max(level, parts.at(-1)!.level);
      try {
        const decoded = await this.decodeParts(index, slice, parts, coarse, stage);
        return [enlarged(decoded, coarse, level, width, height), { slice, level: coarse }];
      } catch (error) {
        if (error instanceof PoolError) throw error;
        if (this.signal.aborted) break;
      }
    }
    return [black(this.form(index, place), width, height), { slice: null, level }];
  }
}

/** Begins to load a series. */
export function loadSeries(url: string, options: LoadOptions): SeriesLoad {
  const load = new SeriesLoad(url, options);
  load.run().catch(() => {});
  return load;
}
