// The queue of files that are sent to the server. Nothing leaves it but what was stored, what cannot be stored, and what
// the user cancels.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { identity } from "./dicom-file.js";
import * as files from "./files.js";
import * as kept from "./kept-uploads.js";
import { t } from "./language.js";
import { failure } from "./refusals.js";
import * as signIn from "./sign-in.js";
import { Speed } from "./speed.js";
import { newInstances, references, stateOf } from "./store-answer.js";
import { message, size } from "./text.js";
import { addOfZip, newArrival } from "./upload-arrivals.js";

/**
 * @typedef {"waiting" | "sending" | "stored" | "present" | "failed"} State `present`: the server had the same instance.
 * @typedef {{ file: File, path: string, isZip: boolean, state: State, text: string, mayRetry: boolean, isCancelled: boolean, isConflict: boolean,
 *   keptId: number, arrival: Arrival, instance: string, wrap: import("./wrap.js").Kind | null }} Item `wrap`: the kind of a file that can
 *   be stored in a DICOM file; `isConflict`: the instance is stored with other data.
 * @typedef {import("./upload-arrivals.js").Arrival} Arrival
 * @typedef {{ reason: "" | "paused" | "connection" | "server" | "sign-in", text: string, retryAt: number }} Hold Why
 * nothing is sent; `retryAt` in milliseconds since 1970.
 */

/** Bytes of one request: enough that requests cost little, and little enough that a lost one does too. */
const batchBytes = 8 * 1024 * 1024;
const parallelRequests = 3;
/** The pauses before another attempt grow up to this, in seconds. */
const longestPause = 30;
/** Attempts after which a request that the server fails at (500 and the like) is given up. */
const attemptsAtFailure = 4;
/** Milliseconds before another attempt to count. */
const checkPause = 5000;
/** Files that are looked at, at the same time. */
const parallelLooks = 8;

class Cancelled extends Error {}

export class Uploads extends EventTarget {
  /** @type {Item[]} */ #waiting = [];
  /** @type {Set<Item>} */ #sending = new Set();
  /** @type {Item[]} */ #failed = [];
  /** By study. @type {Map<string, Arrival>} */ #arrivals = new Map();
  #counts = { all: 0, stored: 0, present: 0, bytes: 0, settledBytes: 0 };
  /** Bytes that each request under way has sent. @type {Map<object, number>} */ #progress = new Map();
  #speed = new Speed();
  #workers = 0;
  /** @type {Hold} */ #hold = { reason: "", text: "", retryAt: 0 };
  #stop = new AbortController();
  #release = () => {};
  /** @type {Promise<void>} */ #released = Promise.resolve();

  constructor() {
    super();
    signIn.events.addEventListener("tokens", () => this.#unhold("sign-in"));
    addEventListener("online", () => this.#unhold("connection"));
  }

  /** Adds files to the queue. @param {files.Found[]} found @param {number[]} [keptIds] Those of files that are remembered already. */
  async add(found, keptIds) {
    const wanted = found.map((one, index) => ({ ...one, keptId: keptIds?.[index] ?? 0 })).filter(({ path, file }) => file.size > 0 && !files.isCompanion(path));
    if (!keptIds) {
      const ids = await kept.remember(wanted.map(({ path, file, handle }) => ({ path, size: file.size, handle })));
      wanted.forEach((one, index) => { one.keptId = ids[index]; });
      await kept.forgetChosen(wanted.map(({ path, file }) => ({ path, size: file.size })));
    }
    for (let at = 0; at < wanted.length; at += parallelLooks) {
      const some = wanted.slice(at, at + parallelLooks);
      const heads = await Promise.all(some.map(({ file }) => files.head(file)));
      some.forEach((one, index) => this.#enqueue(one, heads[index]));
      this.#start();
      this.#changed();
    }
  }

  /** @param {files.Found & { keptId: number }} found @param {Uint8Array | null} bytes */
  #enqueue({ file, path, keptId }, bytes) {
    const kind = bytes ? files.kind(bytes, file.size) : "gone";
    const about = bytes && ["dicom", "unknown"].includes(kind) ? identity(bytes) : null;
    const arrival = this.#arrivalOf(about, path, kind === "zip");
    /** @type {Item} */
    const item = { file, path, isZip: kind === "zip", state: "waiting", text: "", mayRetry: false, isCancelled: false, isConflict: false, keptId, arrival, instance: about?.instance ?? "",
      wrap: files.canWrap(kind) ? kind : null };
    for (const counts of [this.#counts, arrival]) {
      counts.all += 1;
      counts.bytes += file.size;
    }
    arrival.check = "";
    if (kind === "gone") {
      this.#fail(item, t("whyUnreadable"), true);
    } else if (!["dicom", "zip", "unknown"].includes(kind)) {
      this.#fail(item, t("whyFormat", { kind }), false);
    } else if (!item.isZip && file.size > dicomweb.maxInstanceBytes) {
      this.#fail(item, t("whyLarge", { size: size(dicomweb.maxInstanceBytes) }), false);
    } else {
      this.#waiting.push(item);
    }
  }

  /** The arrival that a file belongs to. @param {import("./dicom-file.js").Identity | null} about @param {string} path @param {boolean} isZip */
  #arrivalOf(about, path, isZip) {
    const key = about?.study ?? (isZip ? `zip ${path}` : "");
    let arrival = this.#arrivals.get(key);
    if (!arrival) {
      arrival = newArrival({ study: about?.study, patient: about?.patient ?? (isZip ? path : ""), date: about?.date });
      this.#arrivals.set(key, arrival);
    }
    if (about?.modality) arrival.modalities.add(about.modality);
    return arrival;
  }

  /** Stops sending until `resume`. */
  pause() {
    this.#setHold({ reason: "paused", text: t("paused"), retryAt: 0 });
    this.#abort();
  }

  /** Goes on, after a pause or before the end of one. */
  resume() {
    this.#unhold(this.#hold.reason);
  }

  /** Ends a wait for the connection or the server. */
  tryNow() {
    if (this.#hold.reason !== "paused") this.resume();
  }

  /** Forgets what was not sent yet, of all or of one study. @param {Arrival} [of] */
  cancel(of) {
    const isOf = (/** @type {Item} */ item) => !of || item.arrival === of;
    for (const item of this.#sending) if (isOf(item)) item.isCancelled = true;
    const dropped = this.#waiting.filter(isOf);
    this.#waiting = this.#waiting.filter((item) => !isOf(item));
    for (const item of dropped) {
      item.isCancelled = true;
      this.#fail(item, t("whyCancelled"), true);
    }
    this.#abort();
    if (!of) this.#unhold(this.#hold.reason);
    this.#changed();
  }

  /** Sends again what failed and may succeed. */
  retry() {
    const again = this.#failed.filter((item) => item.mayRetry);
    this.#failed = this.#failed.filter((item) => !item.mayRetry);
    for (const item of again) {
      Object.assign(item, { state: "waiting", text: "", isCancelled: false });
      this.#counts.settledBytes -= item.file.size;
      item.arrival.settledBytes -= item.file.size;
      item.arrival.failed -= 1;
    }
    this.#waiting.push(...again);
    this.#start();
    this.#changed();
  }

  /** Takes away files that failed, because they are stored in another form. @param {Item[]} items */
  drop(items) {
    this.#failed = this.#failed.filter((item) => !items.includes(item));
    for (const { file, arrival } of items) {
      for (const counts of [this.#counts, arrival]) {
        counts.all -= 1;
        counts.bytes -= file.size;
        counts.settledBytes -= file.size;
      }
      arrival.failed -= 1;
    }
    for (const [key, { all }] of this.#arrivals) if (all === 0) this.#arrivals.delete(key);
    this.#changed();
  }

  /** Takes away what is settled. */
  clear() {
    if (this.isActive) return;
    for (const item of this.#failed) kept.forget(item.keptId);
    this.#failed = [];
    this.#arrivals.clear();
    this.#counts = { all: 0, stored: 0, present: 0, bytes: 0, settledBytes: 0 };
    this.#speed = new Speed();
    this.#changed();
  }

  /** Counts at the server whether all of each study is there. */
  async #check() {
    for (const arrival of this.#arrivals.values()) {
      if (!arrival.study || arrival.check || arrival.failed > 0 || arrival.instances.size === 0) continue;
      const found = await dicomweb.instanceUids(arrival.study).catch(() => null);
      if (this.isActive) return;
      if (!found) {
        setTimeout(() => this.isActive || this.#check(), checkPause);
        return;
      }
      arrival.check = [...arrival.instances].every((instance) => found.has(instance)) ? "complete" : "missing";
      this.#changed();
    }
  }

  /** Whether there is anything that was not sent yet. */
  get isActive() {
    return this.#waiting.length > 0 || this.#sending.size > 0;
  }

  /** How things are. */
  summary() {
    const { all, stored, present, bytes, settledBytes } = this.#counts;
    const sent = settledBytes + [...this.#progress.values()].reduce((sum, part) => sum + part, 0);
    const failed = this.#failed.length;
    return {
      all, stored, present, failed, bytes, sent: Math.min(sent, bytes), speed: this.#speed.at(sent), hold: this.#hold,
      isActive: this.isActive, failures: this.#failed,
      mayRetry: this.#failed.some((item) => item.mayRetry), arrivals: [...this.#arrivals.values()],
    };
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #start() {
    while (this.#workers < parallelRequests && this.#waiting.length) {
      this.#workers += 1;
      this.#work().finally(() => {
        this.#workers -= 1;
        if (this.#workers === 0 && !this.isActive) {
          this.dispatchEvent(new Event("end"));
          this.#check();
        }
        this.#changed();
      });
    }
  }

  async #work() {
    // Lets `add` collect more files before the first batch is made.
    await new Promise((resolve) => setTimeout(resolve));
    while (this.#waiting.length) {
      await this.#mayGo();
      const batch = this.#nextBatch();
      if (batch.length) await this.#sendBatch(batch);
    }
  }

  #nextBatch() {
    /** @type {Item[]} */
    const batch = [];
    let bytes = 0;
    while (this.#waiting.length) {
      const [next] = this.#waiting;
      const isFull = batch.length > 0 && (bytes + next.file.size > batchBytes || next.isZip || batch[0].isZip);
      if (isFull) break;
      bytes += next.file.size;
      batch.push(next);
      this.#waiting.shift();
    }
    return batch;
  }

  /** Sends a batch until every file of it is settled. @param {Item[]} batch */
  async #sendBatch(batch) {
    for (const item of batch) {
      item.state = "sending";
      this.#sending.add(item);
    }
    this.#changed();
    try {
      const answer = await this.#answer(batch);
      await this.#report(batch, answer);
    } catch (error) {
      for (const item of batch.filter((item) => item.state === "sending")) {
        if (error instanceof Cancelled) this.#putBack(item);
        else this.#fail(item, message(error), true);
      }
    } finally {
      for (const item of batch) this.#sending.delete(item);
      this.#changed();
    }
  }

  /** After a pause a file waits again; after a cancellation it has failed. @param {Item} item */
  #putBack(item) {
    if (item.isCancelled) {
      this.#fail(item, t("whyCancelled"), true);
    } else {
      item.state = "waiting";
      this.#waiting.unshift(item);
    }
  }

  /**
   * The server's answer to a batch, however long that takes.
   * @param {Item[]} batch
   * @returns {Promise<dicomweb.StoreAnswer>}
   */
  async #answer(batch) {
    for (let attempt = 1; ; attempt++) {
      await this.#mayGo();
      // Cancelled while it waited.
      if (batch.some((item) => item.isCancelled)) throw new Cancelled();
      /** @type {dicomweb.StoreAnswer | null} */
      let answer = null;
      try {
        answer = await this.#request(batch);
      } catch (error) {
        if (error instanceof DOMException && error.name === "AbortError") throw new Cancelled();
        if (await files.areUnreadable(batch.map(({ file }) => file))) throw new Error(t("whyUnreadable"));
      }
      const pause = Math.min(longestPause, 2 ** Math.min(attempt, 8) / 2);
      if (!answer) {
        await this.#wait("connection", t("noServer"), pause);
      } else if (answer.status === 401) {
        this.#setHold({ reason: "sign-in", text: t("signInAgain"), retryAt: 0 });
      } else if ([429, 503].includes(answer.status)) {
        await this.#wait("server", t("serverBusy", { why: failure(answer).text }), Math.max(pause, answer.retryAfter));
      } else if (answer.status < 500 || attempt >= attemptsAtFailure) {
        return answer;
      } else {
        await this.#wait("server", t("serverFailed", { status: String(answer.status) }), pause);
      }
    }
  }

  /** @param {Item[]} batch */
  async #request(batch) {
    const total = batch.reduce((sum, { file }) => sum + file.size, 0);
    try {
      return await dicomweb.store(batch.map(({ file }) => file), {
        isZip: batch[0].isZip,
        signal: this.#stop.signal,
        onProgress: (bytes) => {
          this.#progress.set(batch, Math.min(bytes, total));
          this.#changed();
        },
      });
    } finally {
      this.#progress.delete(batch);
    }
  }

  /**
   * Settles each file of a batch. If something of a batch failed, the files that the answer does not name are sent again one
   * by one, so that each has its own answer; the server stores nothing twice.
   * @param {Item[]} batch
   * @param {dicomweb.StoreAnswer} answer
   * @param {Set<string>} [fresh] Instances that an earlier request for these files stored.
   */
  async #report(batch, answer, fresh = new Set()) {
    const stored = dicomweb.items(answer.module, "00081199");
    const isAll = [200, 202].includes(answer.status) && dicomweb.failures(answer).length === 0;
    if (batch[0].isZip) {
      this.#reportZip(batch[0], answer, stored);
    } else if (isAll && stored.length === batch.length) {
      // The answer has the instances in the order in which they were sent.
      batch.forEach((item, index) => this.#settle(item, stateOf(stored[index], fresh)));
    } else if (batch.length === 1) {
      const { text, mayRetry, isConflict } = failure(answer);
      batch[0].isConflict = isConflict && batch[0].instance !== "";
      this.#fail(batch[0], text, mayRetry);
    } else {
      const found = references(batch.map(({ instance }) => instance), stored);
      found.forEach((reference, index) => reference && this.#settle(batch[index], stateOf(reference)));
      const unclaimed = newInstances(stored.filter((reference) => !found.includes(reference)));
      for (const item of batch.filter(({ state }) => state === "sending")) await this.#report([item], await this.#answer([item]), unclaimed);
    }
  }

  /** @param {Item} item @param {dicomweb.StoreAnswer} answer @param {dicomweb.DataSet[]} stored */
  #reportZip(item, answer, stored) {
    const failed = dicomweb.failures(answer).length;
    if (stored.length === 0 || failed > 0) {
      const { text, mayRetry } = failure(answer);
      const some = stored.length > 0 && t("zipPartly", { stored: stored.length, failed, why: text });
      this.#fail(item, some || text, mayRetry);
    } else {
      this.#settle(item, stored.every(dicomweb.isPresent) ? "present" : "stored");
    }
    item.arrival.held = stored.length;
    addOfZip(this.#arrivals, item.path, { stored, failed }, () => this.#changed());
  }

  /** @param {Item} item @param {"stored" | "present"} state */
  #settle(item, state) {
    item.state = state;
    for (const counts of [this.#counts, item.arrival]) {
      counts[state] += 1;
      counts.settledBytes += item.file.size;
    }
    if (item.instance) item.arrival.instances.add(item.instance);
    kept.forget(item.keptId);
    this.#sending.delete(item);
  }

  /** @param {Item} item @param {string} text @param {boolean} mayRetry */
  #fail(item, text, mayRetry) {
    Object.assign(item, { state: "failed", text, mayRetry });
    this.#counts.settledBytes += item.file.size;
    item.arrival.settledBytes += item.file.size;
    item.arrival.failed += 1;
    // A reload of the page need not remember what can never be stored, or what the user gave up.
    if (!mayRetry || item.isCancelled) kept.forget(item.keptId);
    this.#failed.push(item);
    this.#sending.delete(item);
  }

  #abort() {
    this.#stop.abort();
    this.#stop = new AbortController();
  }

  /** @param {Hold} hold */
  #setHold(hold) {
    if (!this.#hold.reason) {
      this.#released = new Promise((resolve) => { this.#release = resolve; });
    }
    this.#hold = hold;
    this.#changed();
  }

  /** Goes on, if the reason of the pause is this one. @param {string} reason */
  #unhold(reason) {
    if (reason !== this.#hold.reason) return;
    this.#hold = { reason: "", text: "", retryAt: 0 };
    this.#release();
    this.#start();
    this.#changed();
  }

  async #mayGo() {
    while (this.#hold.reason) await this.#released;
  }

  /** Sends nothing for some seconds. @param {"connection" | "server"} reason @param {string} text @param {number} seconds */
  async #wait(reason, text, seconds) {
    if (!this.#hold.reason) {
      this.#setHold({ reason, text, retryAt: Date.now() + 1000 * seconds });
      setTimeout(() => this.#unhold(reason), 1000 * seconds);
    }
    await this.#mayGo();
  }
}
