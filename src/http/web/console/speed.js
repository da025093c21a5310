// How fast bytes go. Knows no page.
// @ts-check

/** The time over which the speed is measured, in milliseconds. */
const span = 6000;

export class Speed {
  /** Times, and the bytes that were sent by then. @type {[number, number][]} */ #samples = [];

  /** Bytes a second, now that so many were sent. @param {number} sent */
  at(sent) {
    const now = performance.now();
    this.#samples.push([now, sent]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > span) this.#samples.shift();
    const [then, before] = this.#samples[0];
    return now - then > 500 ? Math.max(0, (1000 * (sent - before)) / (now - then)) : 0;
  }
}
