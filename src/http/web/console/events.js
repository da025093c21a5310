// Follows the changes of the archive, `GET /events` (docs/changes.md), over broken lines. Knows no page.
// @ts-check
//
// `EventSource` cannot send an access token, so the response of `fetch` is read.

/**
 * @typedef {{ event: string, time: string, study: string, series: string, instances?: string[], gone?: string, state?: string }} Change
 * @typedef {object} Options
 * @property {string} url
 * @property {() => Promise<Record<string, string>>} headers Header fields of each request.
 * @property {(sent: Record<string, string>) => void} [refused] Called with the fields of a request that was answered by 401.
 * @property {(change: Change) => void} onChange
 * @property {(isFresh: boolean) => void} [onOpen] The line is open. `isFresh`: changes before this moment may be missing, so
 *   that what is shown has to be read again.
 * @property {() => void} [onBreak] The line is broken: until `onOpen`, changes come late.
 * @property {{ first: number, longest: number, silence: number }} [pauses] The first and the longest pause before another attempt,
 *   and the silence after which a line is taken for broken, in milliseconds. The server says something every 15 seconds.
 */

const usualPauses = { first: 1000, longest: 30_000, silence: 60_000 };
/** With these answers, another attempt has no other outcome: no right, or no such resource. */
const final = [400, 403, 404, 405, 406];
/** More than any change has: 46 instances of 64 characters. */
const longestEvent = 1 << 20;

/** A line to the server that is opened again when it breaks, and goes on where it was. */
export class ChangeLine {
  #options;
  #pauses;
  /** The place after the last change. */
  #id = "";
  #stop = /** @type {AbortController | null} */ (null);
  /** Whether changes come when they happen. */
  isOpen = false;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#pauses = options.pauses ?? usualPauses;
  }

  /** Opens the line, unless that was done. */
  start() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    this.#follow(this.#stop.signal);
  }

  /** Closes the line; `start` goes on where it was. */
  stop() {
    this.#stop?.abort();
    this.#stop = null;
    this.#broken();
  }

  #broken() {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#options.onBreak?.();
  }

  /** @param {AbortSignal} signal */
  async #follow(signal) {
    for (let attempt = 0; !signal.aborted; attempt++) {
      let pause = Math.min(this.#pauses.longest, this.#pauses.first * 2 ** Math.min(attempt, 10));
      try {
        const response = await this.#request(signal);
        if (final.includes(response.status)) return;
        // The changes after this place are not kept any more.
        if (response.status === 410) this.#id = "";
        if (response.ok) {
          attempt = 0;
          pause = this.#pauses.first;
          await this.#read(response, signal);
        } else {
          pause = Math.max(pause, 1000 * (Number(response.headers.get("Retry-After")) || 0));
          await response.body?.cancel();
        }
      } catch {
        // The next attempt may have another outcome.
      }
      if (signal.aborted) return;
      this.#broken();
      await rest(pause, signal);
    }
  }

  /** @param {AbortSignal} signal */
  async #request(signal) {
    const { url, headers, refused } = this.#options;
    const sent = await headers();
    const fields = { Accept: "text/event-stream", ...(this.#id && { "Last-Event-ID": this.#id }), ...sent };
    const response = await fetch(url, { headers: fields, cache: "no-store", signal });
    if (response.status === 401) refused?.(sent);
    return response;
  }

  /** @param {Response} response @param {AbortSignal} signal */
  async #read(response, signal) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const parser = new EventParser();
    const decoder = new TextDecoder();
    let timer = 0;
    const listen = () => {
      clearTimeout(timer);
      timer = /** @type {any} */ (setTimeout(() => reader.cancel().catch(() => {}), this.#pauses.silence));
    };
    try {
      const isFresh = this.#id === "";
      this.isOpen = true;
      this.#options.onOpen?.(isFresh);
      for (;;) {
        listen();
        const { done, value } = await reader.read();
        if (done || signal.aborted) return;
        for (const { id, data } of parser.take(decoder.decode(value, { stream: true }))) {
          if (data) this.#options.onChange(JSON.parse(data));
          // After the change, so that one which could not be taken comes again.
          this.#id = id ?? this.#id;
        }
      }
    } finally {
      clearTimeout(timer);
      reader.cancel().catch(() => {});
    }
  }
}

/** Reads the lines of server-sent events (HTML Living Standard §9.2.6), in any pieces. */
export class EventParser {
  #rest = "";
  #data = /** @type {string[]} */ ([]);
  #id = /** @type {string | null} */ (null);

  /**
   * The events, and the places alone, that end in a piece of text. Fails if an event has no end.
   * @param {string} text
   */
  take(text) {
    /** @type {{ id: string | null, data: string }[]} */
    const found = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length + this.#data.reduce((sum, { length }) => sum + length, 0) > longestEvent) throw new RangeError("the event is too long");
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length || this.#id !== null) found.push({ id: this.#id, data: this.#data.join("\n") });
        this.#data = [];
        this.#id = null;
        continue;
      }
      const [, name, value] = /^([^:]*)(?:: ?)?([^]*)$/.exec(line) ?? [];
      if (name === "data") this.#data.push(value);
      if (name === "id" && !value.includes("\0")) this.#id = value;
    }
    return found;
  }
}

/** Waits; ends early when the signal aborts. @param {number} milliseconds @param {AbortSignal} signal @returns {Promise<void>} */
function rest(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
