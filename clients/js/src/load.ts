// Loads a series: reads the stream, decodes each stage as it comes, and reports slices, stages and progress.

import type { Decoded, HalfFloats } from "./decoder.js";
import { HEADER_BYTES, type SeriesIndex, type Slice, type Stage, codestream, indexLength, parseIndex } from "./format.js";
import type { Pool } from "./pool.js";
import { Source, type SourceOptions } from "./source.js";

/** A slice that was decoded. */
export interface DecodedSlice extends Decoded {
  slice: Slice;
  level: number;
  stage: number;
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
  onSlice?: (slice: DecodedSlice) => void;
  /** All slices of a stage are decoded; stages can end in another order than they begin. */
  onStage?: (stage: Stage, number: number) => void;
  onProgress?: (progress: Progress) => void;
  /** A slice that cannot be decoded; the others go on. */
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
  private readonly progress: Progress = { bytes: 0, totalBytes: 0, decoded: 0, segments: 0 };
  private pieces: Uint8Array[][] = [];
  private left: number[] = [];
  private pending: Promise<void>[] = [];
  private next = 0;
  private active: Promise<SeriesIndex> | null = null;

  constructor(url: string, private readonly options: LoadOptions) {
    const signal = options.signal ? AbortSignal.any([options.signal, this.controller.signal]) : this.controller.signal;
    this.source = new Source(url, { ...options, signal }, (received) => {
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
    this.pieces = index.slices.map(() => []);
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
      this.pieces[segment.slice].push((await this.source.take(segment.length)).slice());
      this.pending.push(this.decode(index, this.next));
    }
    if (stages < index.stages.length) await this.source.pause();
    await Promise.all(this.pending);
    this.pending = [];
    this.controller.signal.throwIfAborted();
  }

  private async decode(index: SeriesIndex, number: number): Promise<void> {
    const { slice: place, level, stage } = index.segments[number];
    const slice = index.slices[place];
    const image = slice.image!;
    const pieces = this.pieces[place].slice();
    try {
      const decoded = await this.options.pool.decode(
        () => ({
          codestream: codestream(image.head, pieces),
          level,
          precision: image.precision,
          drop: image.drop,
          signed: image.signed,
          samples: image.samples,
          half: this.options.half?.(slice, index) ?? null,
        }),
        () => stage * 1e6 + Math.abs(place - this.focus),
      );
      if (this.controller.signal.aborted) return;
      this.options.onSlice?.({ ...decoded, slice, level, stage });
    } catch (error) {
      if (this.controller.signal.aborted) return;
      this.options.onFailure?.(slice, error);
    }
    if (level === 0) this.pieces[place] = [];
    this.progress.decoded++;
    this.options.onProgress?.(this.progress);
    if (--this.left[stage] === 0) this.options.onStage?.(index.stages[stage], stage);
  }
}

/** Begins to load a series. */
export function loadSeries(url: string, options: LoadOptions): SeriesLoad {
  const load = new SeriesLoad(url, options);
  load.run().catch(() => {});
  return load;
}
