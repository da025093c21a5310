// Loads a series: the preview at once, waiting for it where it is not there yet, then the originals.

import { ChangedError, FormatError, HttpError, type Pool, PoolError, SeriesLoad, type Slice, wait } from "@cuspid/client";

import { SeriesChanges } from "./changes.js";
import type { Painter } from "./gl.js";
import { Originals } from "./originals.js";
import { Scene } from "./scene.js";
import * as server from "./server.js";
import type { Viewer } from "./viewer.js";

/** Why there is nothing to see. */
export type Problem =
  | { kind: "pending"; encoded: number; slices: number }
  | { kind: "missing" | "nothing" | "failed" | "error" | "offline" | "version" | "codec"; detail: string }
  | { kind: "sign-in" }
  | { kind: "forbidden"; detail: string };

export interface Report {
  problem(problem: Problem | null): void;
  /** Slices that are there of those that are known, while more are encoded; `null` when all are there. */
  partial(state: { encoded: number; slices: number } | null): void;
  progress(part: number): void;
  /** The first picture is there. `keep`: it replaces an earlier stream of the same series. */
  started(scene: Scene, keep: boolean): void;
  originals(): void;
  decodeFailures(count: number): void;
}

/** Attempts at the stream that end in the same way, without a slice between them. */
const MOST_ATTEMPTS = 6;
/** Attempts to get the state of a preview, while the server does not answer. */
const MOST_STATE_ATTEMPTS = 6;
/** The pauses between attempts, which double. */
const PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;
const ORIGINALS_AT_ONCE = 4;
/** Originals of up to so many bytes are loaded without being asked for, where there is room for them. */
const AUTOMATIC_BYTES = 320e6;
/** Bytes of textures, on a device with little memory and on others. */
const SMALL_BUDGET = 96e6;
const BUDGET = 1e9;
/** A slice that is looked at so long is loaded as its original. */
const LOOK_MS = 120;

const memory = (navigator as { deviceMemory?: number }).deviceMemory;
/** Phones and old tablets. */
const isSmall = memory === undefined ? matchMedia("(pointer: coarse)").matches : memory <= 2;

export class Session {
  scene: Scene | null = null;
  isLoaded = false;
  originalFailures = 0;
  isLoadingOriginals = false;
  private controller = new AbortController();
  private load: SeriesLoad | null = null;
  private originals: Originals | null = null;
  private lookTimer = 0;
  private looked = -1;
  private pending = new Set<number>();
  private readonly changes: SeriesChanges;

  constructor(private readonly target: server.Target, private readonly viewer: Viewer, private readonly painter: Painter, private readonly pool: Pool,
    private readonly report: Report) {
    this.changes = new SeriesChanges(target);
  }

  close(): void {
    this.controller.abort();
    this.changes.close();
    clearTimeout(this.lookTimer);
  }

  /** Loads, and goes on until the preview is complete or cannot be had. */
  async run(): Promise<void> {
    const { signal } = this.controller;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        if (await this.loadOnce(this.scene !== null)) break;
        attempt = 0;
        await this.untilMore();
      } catch (error) {
        const remaining = await this.recover(error, attempt);
        if (signal.aborted) return;
        if (remaining === null) continue;
        this.changes.close();
        this.report.problem(await this.problemOf(remaining));
        return;
      }
    }
    this.changes.close();
    if (signal.aborted) return;
    this.isLoaded = true;
    this.lookAt(this.viewer.slice);
    if (this.rawBytes <= AUTOMATIC_BYTES && !isSmall && !(navigator as any).connection?.saveData) void this.loadOriginals();
    this.report.originals();
  }

  /** Waits until another attempt makes sense after an error. @returns `null` then, else the error that remains. */
  private async recover(error: unknown, attempt: number): Promise<unknown> {
    const { signal } = this.controller;
    const isEarly = error instanceof HttpError && error.status === 503;
    if (attempt >= MOST_ATTEMPTS || !(isEarly || error instanceof ChangedError)) return error;
    try {
      if (isEarly && !(await this.becomesReady())) return error;
      await wait(pause(attempt), signal);
      return null;
    } catch (later) {
      return later;
    }
  }

  private async loadOnce(keep: boolean): Promise<boolean> {
    const { painter, pool, report } = this;
    let scene: Scene | null = null;
    const failures = new Set<number>();
    report.decodeFailures(0);
    const load = new SeriesLoad(server.streamUrl(this.target), {
      pool,
      signal: this.controller.signal,
      headers: server.headers,
      fetch: server.fetchStream,
      onUnauthorized: (fields) => server.signIn.refused(fields),
      onIndex: (index) => {
        performance.mark("index");
        scene = new Scene(index, painter);
        load.focus = index.slices.length >> 1;
      },
      stages: () => scene!.stagesWithin(isSmall ? SMALL_BUDGET : BUDGET),
      half: (slice) => scene!.half(slice),
      onSlice: (decoded) => {
        scene!.put(decoded);
        if (this.scene === scene && !scene!.isVolume && decoded.slice.number === this.viewer.slice) this.viewer.invalidate();
      },
      onStage: (_, number) => {
        if (number === 0) this.start(scene!, keep);
        else if (this.scene === scene) this.viewer.invalidate();
      },
      onFailure: ({ number }, error) => {
        console.warn("cannot decode", error);
        report.decodeFailures(failures.add(number).size);
      },
      onProgress: ({ bytes, totalBytes, decoded, segments }) => {
        const part = Math.min(bytes / (totalBytes || 1), segments ? decoded / segments : 0);
        report.progress(part);
      },
    });
    this.load = load;
    const index = await load.run();
    if (index.segments.length === 0 && index.isComplete) throw new HttpError(404, index.failures[0]?.reason ?? "", 0);
    report.partial(index.isComplete ? null : { encoded: index.slices.length, slices: index.numberOfSlices });
    return index.isComplete;
  }

  private start(scene: Scene, keep: boolean): void {
    this.scene = scene;
    this.originals = new Originals(this.target, scene.offset, this.controller.signal);
    this.looked = -1;
    this.report.problem(null);
    this.report.started(scene, keep);
  }

  /** Waits until the server has more slices than were loaded. */
  private async untilMore(): Promise<void> {
    const had = this.load?.index?.slices.length ?? 0;
    for (;;) {
      await this.changes.next(this.controller.signal);
      const state = await this.state();
      if (state.state === "failed" || state.state === "none") return;
      this.report.partial({ encoded: state.encoded, slices: state.slices });
      if (state.state === "ready" || state.encoded >= had * 1.25 + 8) return;
    }
  }

  /** Waits for the first slices; false if there will be none. */
  private async becomesReady(): Promise<boolean> {
    for (;;) {
      const state = await this.state();
      if (state.state === "ready" || state.state === "partial") return true;
      if (state.state === "failed" || state.state === "none") return false;
      this.report.problem({ kind: "pending", encoded: state.encoded, slices: state.slices });
      await this.changes.next(this.controller.signal);
    }
  }

  /** The state of the preview, with further attempts while the server does not answer. */
  private async state(): Promise<server.PreviewState> {
    const { signal } = this.controller;
    for (let attempt = 1; ; attempt++) {
      try {
        return await server.previewState(this.target, signal);
      } catch (error) {
        const isPassing = error instanceof TypeError || (error instanceof HttpError && (error.status >= 500 || error.status === 429));
        if (signal.aborted || !isPassing || attempt >= MOST_STATE_ATTEMPTS) throw error;
        await wait(pause(attempt), signal);
      }
    }
  }

  private async problemOf(error: unknown): Promise<Problem> {
    if (error instanceof FormatError) return { kind: "version", detail: error.message };
    if (error instanceof PoolError) return { kind: "codec", detail: error.message };
    if (error instanceof ChangedError) return { kind: "error", detail: error.message };
    if (!(error instanceof HttpError)) {
      console.error(error);
      return error instanceof TypeError ? { kind: "offline", detail: error.message } : { kind: "error", detail: String(error) };
    }
    if (error.status === 401) return { kind: "sign-in" };
    if (error.status === 403) return { kind: "forbidden", detail: error.detail };
    const state = [404, 503].includes(error.status) ? await server.previewState(this.target).catch(() => null) : null;
    if (state?.state === "failed") return { kind: "failed", detail: state.reason ?? error.detail };
    if (state?.state === "none") return { kind: "nothing", detail: error.detail };
    if (error.status !== 404) return { kind: "error", detail: error.detail };
    return { kind: state ? "nothing" : "missing", detail: state?.reason ?? error.detail };
  }

  get rawBytes(): number {
    return (this.scene?.index.slices ?? []).reduce((sum, { image }) => sum + (image ? image.rows * image.columns * image.samples * (image.precision > 8 ? 2 : 1) * image.binning ** 2 : 0), 0);
  }

  /** Loads the original of a slice that is looked at for a moment. */
  lookAt(slice: number): void {
    if (this.load) this.load.focus = slice;
    if (!this.isLoaded || slice === this.looked) return;
    this.looked = slice;
    clearTimeout(this.lookTimer);
    this.lookTimer = window.setTimeout(() => this.original(this.scene!.index.slices[slice], true), LOOK_MS);
  }

  /** Loads the originals of all slices, those near the one that is looked at first. */
  async loadOriginals(): Promise<void> {
    const scene = this.scene;
    if (!scene?.canBeOriginal || this.isLoadingOriginals) return;
    this.isLoadingOriginals = true;
    this.originalFailures = 0;
    const left = scene.index.slices.filter(({ number, image }) => image && !scene.isSliceOriginal(number));
    const next = () => {
      if (!left.length || this.controller.signal.aborted || scene !== this.scene) return undefined;
      const { slice } = this.viewer;
      let best = 0;
      left.forEach(({ number }, at) => {
        if (Math.abs(number - slice) < Math.abs(left[best].number - slice)) best = at;
      });
      return left.splice(best, 1)[0];
    };
    const work = async () => {
      for (let slice = next(); slice; slice = next()) await this.original(slice, false);
    };
    await Promise.all(Array.from({ length: ORIGINALS_AT_ONCE }, work));
    this.isLoadingOriginals = false;
    this.report.originals();
  }

  private async original(slice: Slice, isLookedAt: boolean): Promise<void> {
    const scene = this.scene;
    if (!scene || !this.originals || scene.isSliceOriginal(slice.number) || this.pending.has(slice.number)) return;
    this.pending.add(slice.number);
    try {
      const frame = await this.originals.frame(slice);
      if (scene !== this.scene || this.controller.signal.aborted) return;
      scene.putOriginal(slice, frame, isLookedAt);
      if (slice.number === this.viewer.slice || scene.isWholeOriginal) this.viewer.invalidate();
    } catch (error) {
      if (this.controller.signal.aborted) return;
      this.originalFailures++;
      console.warn("cannot load an original", error);
    } finally {
      this.pending.delete(slice.number);
    }
    this.report.originals();
  }
}

/** The pause after a number of attempts. */
function pause(attempt: number): number {
  return Math.min(LONGEST_PAUSE_MS, PAUSE_MS * 2 ** (attempt - 1));
}
