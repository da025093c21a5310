// A pool of workers that decode; what is nearest to what is looked at comes first.

import type { Decoded, DecodeJob } from "./decoder.js";

/** What a pool needs of a `Worker`. */
export interface WorkerLike {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent) => void) | null;
  onerror: ((event: any) => void) | null;
}

interface Waiting {
  job: () => DecodeJob;
  rank: () => number;
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

  /** @param workers Each gets the compiled codec. */
  constructor(private readonly workers: WorkerLike[], module: WebAssembly.Module | Promise<WebAssembly.Module>) {
    this.load = workers.map(() => Infinity);
    workers.forEach((worker, number) => {
      worker.onmessage = ({ data }) => this.receive(number, data);
      worker.onerror = (event) => this.fail(new Error(event?.message ?? "a worker failed"));
    });
    Promise.resolve(module).then(
      (compiled) => {
        workers.forEach((worker) => worker.postMessage({ module: compiled }));
        this.load.fill(0);
        this.pump();
      },
      (error) => this.fail(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /**
   * Decodes. @param job Made when a worker is free, so that bytes are joined once. @param rank Of all waiting jobs, the one with the
   * lowest rank at that moment is next.
   */
  decode(job: () => DecodeJob, rank: () => number): Promise<Decoded> {
    if (this.failed) return Promise.reject(this.failed);
    return new Promise((resolve, reject) => {
      this.waiting.push({ job, rank, resolve, reject });
      this.pump();
    });
  }

  /** Forgets all jobs and ends the workers. */
  close(): void {
    this.fail(new DOMException("the pool was closed", "AbortError"));
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

  private receive(worker: number, { id, decoded, error }: { id: number; decoded?: Decoded; error?: string }): void {
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
