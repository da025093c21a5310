// Waits for what changes in a series: the server says so, or some time has passed.

import { wait } from "@cuspid/client";

import { changes } from "../../../src/http/web/console/dicomweb.js";
import { ChangeLine } from "../../../src/http/web/console/events.js";
import type { Target } from "./server.js";

/** The least time between two looks: changes of instances come by the thousand. */
const PAUSE_MS = 500;
/** The most time, without a line on which changes come, and with one: how many slices are encoded is no change. */
const POLL_MS = 1000;
const PATIENCE_MS = 5000;

export class SeriesChanges {
  private readonly line: ChangeLine;
  private isChanged = false;
  private wake = () => {};

  constructor({ study, series }: Target) {
    const note = () => {
      this.isChanged = true;
      this.wake();
    };
    this.line = new ChangeLine({ ...changes(study), onChange: (change) => change.series === series && note(), onOpen: (isFresh) => isFresh && note() });
  }

  /** Ends after a change since the last call, or when it is time to look without one. Fails when the signal aborts. */
  async next(signal: AbortSignal): Promise<void> {
    this.line.start();
    const start = performance.now();
    const left = () => start + (this.line.isOpen ? PATIENCE_MS : POLL_MS) - performance.now();
    await wait(PAUSE_MS, signal);
    while (!this.isChanged && left() > 0) {
      const woken = new Promise<void>((resolve) => (this.wake = resolve));
      // In small steps: the line may break meanwhile.
      await Promise.race([woken, wait(Math.min(POLL_MS, left()), signal)]);
    }
    this.isChanged = false;
  }

  close(): void {
    this.line.stop();
  }
}
