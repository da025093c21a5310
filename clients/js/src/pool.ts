// A pool of workers that decode; what is nearest to what is looked at comes first.

import type { Decoded, DecodeJob } from "./decoder.js";

/** What a pool needs of a `Worker`. */
export interface WorkerLike {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent) => void) | null;
  onerror: ((event: any) => void) | null;
}

/** Nothing can be decoded: the workers or the codec are missing. */
export class PoolError extends Error {}

interface Waiting {
  job: () => DecodeJob;
  rank: () => number;
  signal: AbortSignal | undefined;
  resolve: (decoded: Decoded) => void;
  reject: (error: unknown) => void;
}

/** So many jobs are with a worker, so that the worker never waits for the page. */
const JOBS_PER_WORKER = 2;

export class Pool {
  private waiting: Waiting[] = [];
  private running = new Map<number, { waiting: Waiting; worker: number }>();
  private load: number[];
  private next = 0;
  private failed: Error | null = null;
  private watched = new WeakSet<AbortSignal>();

  /** @param workers Each gets the compiled codec. */
  constructor(private readonly workers: WorkerLike[], module: WebAssembly.Module | Promise<WebAssembly.Module>) {
    this.load = workers.map(() => Infinity);
    workers.forEach((worker, number) => {
      worker.onmessage = ({ data }) => this.receive(number, data);
      worker.onerror = (event) => this.fail(new PoolError(event?.message ?? "a worker failed"));
    });
    Promise.resolve(module).then(
      (compiled) => {
        workers.forEach((worker) => worker.postMessage({ module: compiled }));
        this.load.fill(0);
        this.pump();
      },
      (error) => this.fail(new PoolError(`the codec cannot be loaded: ${error instanceof Error ? error.message : error}`)),
    );
  }

  /**
   * Decodes. @param job Made when a worker is free, so that bytes are joined once. @param rank Of all waiting jobs, the one with the
   * lowest rank at that moment is next. @param signal When it aborts, a job that waits is dropped. Fails with a `PoolError` if
   * nothing can be decoded at all.
   */
  decode(job: () => DecodeJob, rank: () => number, signal?: AbortSignal): Promise<Decoded> {
    if (this.failed) return Promise.reject(this.failed);
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (signal) this.watch(signal);
    return new Promise((resolve, reject) => {
      this.waiting.push({ job, rank, signal, resolve, reject });
      this.pump();
    });
  }

  /** Drops the jobs of a signal when it aborts: one listener for thousands of jobs. */
  private watch(signal: AbortSignal): void {
    if (this.watched.has(signal)) return;
    this.watched.add(signal);
    const drop = () => {
      const dropped = [...this.waiting, ...[...this.running.values()].map(({ waiting }) => waiting)].filter((one) => one.signal === signal);
      this.waiting = this.waiting.filter((one) => one.signal !== signal);
      for (const { reject } of dropped) reject(signal.reason);
    };
    signal.addEventListener("abort", drop, { once: true });
  }

  /** Forgets all jobs and ends the workers. */
  close(): void {
    this.fail(Object.assign(new PoolError("the pool was closed"), { name: "AbortError" }));
    for (const worker of this.workers) worker.terminate();
  }

  private pump(): void {
    while (this.waiting.length) {
      const least = Math.min(...this.load);
      if (least >= JOBS_PER_WORKER) return;
      const worker = this.load.indexOf(least);
      const waiting = this.takeNext();
      const id = this.next++;
      this.running.set(id, { waiting, worker });
      this.load[worker]++;
      const job = waiting.job();
      this.workers[worker].postMessage({ id, job }, [job.codestream.buffer as ArrayBuffer]);
    }
  }

  private takeNext(): Waiting {
    let best = 0;
    let least = Infinity;
    this.waiting.forEach((waiting, index) => {
      const rank = waiting.rank();
      if (rank < least) [best, least] = [index, rank];
    });
    return this.waiting.splice(best, 1)[0];
  }

  private receive(worker: number, { id, decoded, error, failed }: { id: number; decoded?: Decoded; error?: string; failed?: string }): void {
    if (failed) return this.fail(new PoolError(failed));
    const found = this.running.get(id);
    if (!found) return;
    this.running.delete(id);
    this.load[worker]--;
    this.pump();
    if (decoded) found.waiting.resolve(decoded);
    else found.waiting.reject(new Error(error));
  }

  private fail(error: Error): void {
    this.failed = error;
    const all = [...this.waiting, ...[...this.running.values()].map(({ waiting }) => waiting)];
    this.waiting = [];
    this.running.clear();
    for (const { reject } of all) reject(error);
  }
}

/** As many workers as the device has cores to spare, at most 4. */
export function defaultWorkers(): number {
  return Math.max(1, Math.min(4, (globalThis.navigator?.hardwareConcurrency ?? 2)));
}
