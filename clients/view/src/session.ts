// Loads a series: the preview at once, waiting for it where it is not there yet, then the originals.

import { ChangedError, FormatError, HttpError, type Pool, SeriesLoad, type Slice, wait } from "@cuspid/client";

import type { Painter } from "./gl.js";
import { Originals } from "./originals.js";
import { Scene } from "./scene.js";
import * as server from "./server.js";
import type { Viewer } from "./viewer.js";

/** Why there is nothing to see. */
export type Problem =
  | { kind: "pending"; encoded: number; slices: number }
  | { kind: "missing" | "nothing" | "failed" | "error" | "offline" | "version"; detail: string }
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

const POLL_MS = 1000;
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

  constructor(private readonly target: server.Target, private readonly viewer: Viewer, private readonly painter: Painter, private readonly pool: Pool,
    private readonly report: Report) {}

  close(): void {
    this.controller.abort();
    clearTimeout(this.lookTimer);
  }

  /** Loads, and goes on until the preview is complete or cannot be had. */
  async run(): Promise<void> {
    const { signal } = this.controller;
    for (let keep = false; !signal.aborted; ) {
      try {
        const isComplete = await this.loadOnce(keep);
        keep = true;
        if (isComplete) break;
        await this.untilMore();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ChangedError) continue;
        if (!(error instanceof HttpError && error.status === 503 && (await this.becomesReady()))) {
          this.report.problem(await this.problemOf(error));
          return;
        }
      }
    }
    if (signal.aborted) return;
    this.isLoaded = true;
    this.lookAt(this.viewer.slice);
    if (this.rawBytes <= AUTOMATIC_BYTES && !isSmall && !(navigator as any).connection?.saveData) void this.loadOriginals();
    this.report.originals();
  }

  private async loadOnce(keep: boolean): Promise<boolean> {
    const { painter, pool, report } = this;
    let scene: Scene | null = null;
    let failures = 0;
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
      onFailure: (_, error) => {
        console.warn("cannot decode", error);
        report.decodeFailures(++failures);
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
      await wait(POLL_MS, this.controller.signal);
      const state = await server.previewState(this.target, this.controller.signal);
      if (state.state === "failed" || state.state === "none") return;
      this.report.partial({ encoded: state.encoded, slices: state.slices });
      if (state.state === "ready" || state.encoded >= had * 1.25 + 8) return;
    }
  }

  /** Waits for the first slices; false if there will be none. */
  private async becomesReady(): Promise<boolean> {
    for (;;) {
      const state = await server.previewState(this.target, this.controller.signal);
      if (state.state === "ready" || state.state === "partial") return true;
      if (state.state === "failed" || state.state === "none") return false;
      this.report.problem({ kind: "pending", encoded: state.encoded, slices: state.slices });
      await wait(POLL_MS, this.controller.signal);
    }
  }

  private async problemOf(error: unknown): Promise<Problem> {
    if (error instanceof FormatError) return { kind: "version", detail: error.message };
    if (!(error instanceof HttpError)) {
      console.error(error);
      return error instanceof TypeError ? { kind: "offline", detail: error.message } : { kind: "error", detail: String(error) };
    }
    if (error.status === 401) return { kind: "sign-in" };
    if (error.status === 403) return { kind: "forbidden", detail: error.detail };
    if (error.status !== 404 && error.status !== 503) return { kind: "error", detail: error.detail };
    const state = await server.previewState(this.target).catch(() => null);
    if (!state) return { kind: "missing", detail: error.detail };
    return { kind: state.state === "failed" ? "failed" : "nothing", detail: state.reason ?? error.detail };
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
