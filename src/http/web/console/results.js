// The pages of a list that one search, or several searches together, give. Knows no page and no server.
// @ts-check

/**
 * @typedef {import("./dicomweb.js").DataSet} DataSet
 * @typedef {{ studies: DataSet[], next: string, previous: string }} Answer A page of one search, and the URLs of the pages
 * beside it; empty if there are none.
 * @typedef {(request: { url?: string, keys: Record<string, string>, offset: number, limit: number }, signal: AbortSignal) =>
 *   Promise<Answer>} Fetch Requests a URL if there is one, else the keys from an offset.
 * @typedef {{ studies: DataSet[], first: number, hasNext: boolean }} Page `first` counts from 0.
 */

/** A search may answer with no result and a link, when it has done much work: so many links are followed. */
const mostEmptyPages = 50;
const studyUid = "0020000D";

/** The pages of several searches as of one, each study once. */
export class Results {
  #branches;
  #merged = /** @type {DataSet[]} */ ([]);
  #seen = new Set();
  /** The URLs of pages of a single search that links have led to, by their numbers. @type {Map<number, string>} */
  #urls = new Map();

  /**
   * @param {Record<string, string>[]} searches
   * @param {{ order: string, pageSize: number, fetch: Fetch }} options `order` as in `orderby`; empty for the latest first.
   */
  constructor(searches, { order, pageSize, fetch }) {
    this.pageSize = pageSize;
    this.searches = searches;
    this.fetch = fetch;
    this.compare = comparison(order);
    this.#branches = searches.map((keys) => ({ keys, url: "", isStarted: false, held: /** @type {DataSet[]} */ ([]) }));
  }

  /** A page, counted from 0. @param {number} number @param {AbortSignal} signal @returns {Promise<Page>} */
  page(number, signal) {
    return this.searches.length === 1 ? this.#single(number, signal) : this.#together(number, signal);
  }

  /** @param {number} number @param {AbortSignal} signal */
  async #single(number, signal) {
    const limit = this.pageSize;
    const [keys] = this.searches;
    let answer = await this.fetch({ url: this.#urls.get(number), keys, offset: number * limit, limit }, signal);
    for (let empty = 0; answer.studies.length === 0 && answer.next && empty < mostEmptyPages; empty++) {
      answer = await this.fetch({ url: answer.next, keys, offset: 0, limit }, signal);
    }
    if (answer.next) this.#urls.set(number + 1, answer.next);
    if (answer.previous && !this.#urls.has(number - 1)) this.#urls.set(number - 1, answer.previous);
    return { studies: answer.studies, first: number * limit, hasNext: answer.next !== "" };
  }

  /** @param {number} number @param {AbortSignal} signal */
  async #together(number, signal) {
    const first = number * this.pageSize;
    const end = first + this.pageSize;
    // One more, to see whether there is a next page.
    while (this.#merged.length <= end) {
      await Promise.all(this.#branches.map((branch) => this.#load(branch, signal)));
      const filled = this.#branches.filter(({ held }) => held.length > 0);
      if (filled.length === 0) break;
      const best = filled.reduce((one, other) => (this.compare(one.held[0], other.held[0]) <= 0 ? one : other));
      const study = /** @type {DataSet} */ (best.held.shift());
      const uid = study[studyUid]?.Value?.[0];
      if (!this.#seen.has(uid)) this.#merged.push(study);
      this.#seen.add(uid);
    }
    return { studies: this.#merged.slice(first, end), first, hasNext: this.#merged.length > end };
  }

  /** @param {{ keys: Record<string, string>, url: string, isStarted: boolean, held: DataSet[] }} branch @param {AbortSignal} signal */
  async #load(branch, signal) {
    for (let empty = 0; branch.held.length === 0 && (branch.url || !branch.isStarted) && empty < mostEmptyPages; empty++) {
      const request = { url: branch.url || undefined, keys: branch.keys, offset: 0, limit: this.pageSize };
      const answer = await this.fetch(request, signal);
      Object.assign(branch, { isStarted: true, url: answer.next, held: answer.studies });
    }
  }
}

/** The attributes by which lists are sorted. @type {Record<string, string>} */
export const sortable = {
  PatientName: "00100010", PatientID: "00100020", PatientBirthDate: "00100030", StudyDate: "00080020", StudyTime: "00080030",
  ModalitiesInStudy: "00080061", StudyDescription: "00081030", NumberOfStudyRelatedSeries: "00201206",
  NumberOfStudyRelatedInstances: "00201208",
};

/** @param {string} order */
function comparison(order) {
  const keys = (order || "-StudyDate,-StudyTime").split(",").map((key) => (key.startsWith("-") ? { name: key.slice(1), sign: -1 } : { name: key, sign: 1 }));
  return (/** @type {DataSet} */ one, /** @type {DataSet} */ other) => {
    for (const { name, sign } of keys) {
      const [a, b] = [sortValue(one, name), sortValue(other, name)];
      if (a === b) continue;
      // Without a value last, whichever way.
      if (a === "" || b === "") return a === "" ? 1 : -1;
      return a < b ? -sign : sign;
    }
    return 0;
  };
}

/** @param {DataSet} study @param {string} name */
function sortValue(study, name) {
  const found = study[sortable[name]]?.Value?.[0] ?? "";
  return typeof found === "object" ? String(found.Alphabetic ?? "").toLowerCase() : found;
}
