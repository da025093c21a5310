// The studies that have just arrived, or are arriving: by the server's events, or by comparing two lists. Knows no page.
// @ts-check

/**
 * @typedef {{ uid: string, images: number }} Listed A study in a list, with the number of its instances.
 * @typedef {{ arrived: number, changed: number, open: Set<string> }} Arrival When the first and the last instances came, in milliseconds; `open`: series
 *   that are not complete yet.
 */

/**
 * @typedef {{ number: number, line: number | null }} Look A look for the list: its place among the looks, counted from 1, and the line that was open
 *   when it began.
 */

/** Milliseconds for which a study is marked as just arrived. */
const newFor = 60_000;
/** Milliseconds without an instance after which a study is not arriving any more. Its server says so earlier, for images. */
const quietAfter = 10_000;

export class Arrivals {
  /** By study. @type {Map<string, Arrival>} */ #arrivals = new Map();

  /** @param {string} study @param {number} now */
  #of(study, now) {
    for (const [uid, { arrived }] of this.#arrivals) if (now - arrived >= newFor) this.#arrivals.delete(uid);
    const found = this.#arrivals.get(study);
    if (found) return found;
    const made = { arrived: now, changed: -Infinity, open: new Set() };
    this.#arrivals.set(study, made);
    return made;
  }

  /** A study has arrived, whole. @param {string} study @param {number} now */
  mark(study, now) {
    this.#of(study, now).arrived = now;
  }

  /** Takes a change of the server. @param {import("./events.js").Change} change @param {number} now */
  take({ event, study, series, gone }, now) {
    if (event === "stored") {
      const arrival = this.#of(study, now);
      arrival.arrived = arrival.changed = now;
      arrival.open.add(series);
    } else if (event === "complete") {
      this.#arrivals.get(study)?.open.delete(series);
    } else if (event === "deleted") {
      if (gone === "study") this.#arrivals.delete(study);
      else if (gone === "series") this.#arrivals.get(study)?.open.delete(series);
    }
  }

  /**
   * Marks the studies of a list that were not in it before, or have more instances now. What was on the next page before,
   * and moved up, has not arrived.
   * @param {Listed[]} before @param {Listed[]} after @param {boolean} hadNext Whether there was a next page. @param {number} now
   */
  compare(before, after, hadNext, now) {
    const known = new Map(before.map(({ uid, images }) => [uid, images]));
    const lastKnown = after.findLastIndex(({ uid }) => known.has(uid));
    after.forEach(({ uid, images }, place) => {
      const had = known.get(uid);
      const isMore = had === undefined ? !hadNext || place < lastKnown : images > had;
      if (isMore) this.mark(uid, now);
    });
  }

  /** @param {string} study @param {number} now @returns {"" | "new" | "arriving"} */
  state(study, now) {
    const found = this.#arrivals.get(study);
    if (!found) return "";
    if (found.open.size > 0 && now - found.changed < quietAfter) return "arriving";
    return now - found.arrived < newFor ? "new" : "";
  }

  /** When a mark changes by itself; `Infinity` if none does. @param {number} now */
  nextEnd(now) {
    const ends = [...this.#arrivals.values()].flatMap(({ arrived, changed }) => [arrived + newFor, changed + quietAfter]);
    return Math.min(...ends.filter((end) => end > now));
  }
}

/** The order of the looks for a list, whose answers may come in another one, and whether a line has said what came between two of them. */
export class Looks {
  #last = 0;
  #openings = 0;
  /** @type {Look} */ #shown = { number: 0, line: null };

  /** A line to the server was opened. */
  opened() {
    this.#openings += 1;
  }

  /** @param {boolean} isOpen Whether the line is open now. @returns {Look} */
  begin(isOpen) {
    this.#last += 1;
    return { number: this.#last, line: isOpen ? this.#openings : null };
  }

  /** Whether a later look is shown already. @param {Look} look */
  isPast(look) {
    return look.number < this.#shown.number;
  }

  /** Whether one line was open since the look that is shown began, and so has said all that came. @param {boolean} isOpen Whether the line is open now. */
  isAllSaid(isOpen) {
    return isOpen && this.#shown.line === this.#openings;
  }

  /** @param {Look} look */
  show(look) {
    this.#shown = look;
  }
}
