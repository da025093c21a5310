// A series to look at: one picture at a time, by a slider, the wheel, the keyboard, or a finger on the picture. Documents,
// videos and reports are shown as they are.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { fill, h } from "./html.js";
import { t } from "./language.js";
import { message } from "./text.js";

/** @typedef {import("./study.js").Picture} Picture */

/** Rendered pictures that are kept. */
const mostKept = 200;
/** Milliseconds without another picture before a small one is replaced by a large one. */
const rest = 120;
/** Pixels of a finger's or the mouse's way for one picture, at most. */
const longestStep = 12;
/** Elements in which arrow keys have a meaning of their own. */
const ownKeys = "input, select, textarea, video, iframe, #uploads, [contenteditable]";

export class Stage {
  /** @type {Picture[]} */ #pictures = [];
  #index = 0;
  #stop = new AbortController();
  /** @type {Map<string, { url: string, type: string }>} Object URLs by picture, with the media types of what they lead to. */ #kept = new Map();
  #isLoading = false;
  #timer = 0;
  #box;
  #view = h("div", { class: "view", tabindex: "0", role: "group" });
  #slider = h("input", { type: "range", min: 1, max: 1, value: 1 });
  #place = h("output", {});
  #pixels = Math.min(1024, Math.round(768 * Math.min(2, devicePixelRatio)));

  /**
   * @param {Element} box
   * @param {string} study
   * @param {dicomweb.DataSet} series
   * @param {(import("./html.js").Child | ((current: () => Picture | null) => Node))[]} extras What stands below; functions get the picture.
   */
  constructor(box, study, series, extras) {
    this.#box = box;
    this.study = study;
    this.series = dicomweb.value(series, "0020000E");
    const current = () => this.#pictures[this.#index] ?? null;
    this.#slider.ariaLabel = t("slice");
    this.#view.ariaLabel = t("pictureHelp");
    this.bar = h("div", { class: "scrub" }, this.#slider, this.#place);
    fill(box, this.#view, this.bar, h("div", { class: "below" }, extras.map((extra) => (typeof extra === "function" ? extra(current) : extra))));
    this.bar.hidden = true;
    this.#slider.addEventListener("input", () => this.#go(Number(this.#slider.value) - 1));
    this.#listen();
    this.#load();
  }

  /** Ends all requests. */
  close() {
    this.#stop.abort();
    clearTimeout(this.#timer);
    for (const { url } of this.#kept.values()) URL.revokeObjectURL(url);
    this.#kept.clear();
  }

  #listen() {
    const view = this.#view;
    const { signal } = this.#stop;
    let from = { y: 0, index: 0 };
    view.addEventListener("wheel", (event) => {
      if (this.#pictures.length < 2 || event.ctrlKey) return;
      event.preventDefault();
      this.#go(this.#index + Math.sign(event.deltaY));
    }, { signal, passive: false });
    view.addEventListener("pointerdown", (event) => {
      if (this.#pictures.length < 2 || event.button !== 0) return;
      from = { y: event.clientY, index: this.#index };
      view.setPointerCapture(event.pointerId);
    }, { signal });
    view.addEventListener("pointermove", (event) => {
      if (!view.hasPointerCapture(event.pointerId)) return;
      const step = Math.min(longestStep, view.clientHeight / this.#pictures.length);
      this.#go(from.index + Math.round((event.clientY - from.y) / step));
    }, { signal });
    document.addEventListener("keydown", (event) => {
      const target = /** @type {Element} */ (event.target);
      const isHere = target === view;
      // Elsewhere, the other keys go through the page.
      if (!isHere && (!event.key.startsWith("Arrow") || target.closest(ownKeys) || document.querySelector("dialog[open]"))) return;
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      const last = this.#pictures.length - 1;
      const next = { ArrowUp: this.#index - 1, ArrowLeft: this.#index - 1, ArrowDown: this.#index + 1, ArrowRight: this.#index + 1,
        PageUp: this.#index - 10, PageDown: this.#index + 10, Home: 0, End: last }[event.key];
      if (next === undefined || last < 1) return;
      event.preventDefault();
      this.#go(next);
    }, { signal });
  }

  async #load() {
    try {
      const found = await dicomweb.instances(this.study, this.series, this.#stop.signal);
      this.#pictures = found.sort(inOrder).flatMap((instance) => this.#picturesOf(instance));
      const { length } = this.#pictures;
      this.bar.hidden = length < 2;
      this.#slider.max = String(length);
      if (length) this.#go(Math.floor(length / 2));
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#say(t("cannotShow", { why: message(error) }));
    }
  }

  /** @param {dicomweb.DataSet} instance @returns {Picture[]} */
  #picturesOf(instance) {
    const one = { study: this.study, series: this.series, instance: dicomweb.value(instance, "00080018") };
    const frames = Number(dicomweb.value(instance, "00280008") || 1);
    // Those of a video are not single pictures.
    const isVideo = /^1\.2\.840\.10008\.1\.2\.4\.10\d/.test(dicomweb.value(instance, "00083002"));
    return frames < 2 || isVideo ? [one] : Array.from({ length: frames }, (_, index) => ({ ...one, frame: index + 1 }));
  }

  /** @param {number} index */
  #go(index) {
    const { length } = this.#pictures;
    this.#index = Math.max(0, Math.min(length - 1, index));
    this.#slider.value = String(this.#index + 1);
    this.#place.textContent = t("sliceOf", { slice: this.#index + 1, all: length });
    this.#show();
  }

  /** Shows the picture: at once if it is kept, else a small one, and the large one when nothing moves. */
  #show() {
    const picture = this.#pictures[this.#index];
    const key = `${picture.instance} ${picture.frame ?? 0}`;
    clearTimeout(this.#timer);
    const large = this.#kept.get(`large ${key}`);
    if (large) return this.#present(large);
    const small = this.#kept.get(`small ${key}`);
    if (small) this.#image(small.url);
    else if (this.#pictures.length > 1 && !this.#isLoading) this.#loadSmall(picture, key);
    this.#timer = window.setTimeout(() => this.#loadLarge(picture, key), this.#pictures.length > 1 ? rest : 0);
  }

  /** One small picture at a time; then the one that is wanted by then. @param {Picture} picture @param {string} key */
  async #loadSmall(picture, key) {
    this.#isLoading = true;
    try {
      const bytes = await dicomweb.thumbnail(picture, this.#stop.signal);
      this.#keep(`small ${key}`, bytes);
    } catch {
      return;
    } finally {
      this.#isLoading = false;
    }
    if (!this.#stop.signal.aborted) this.#showWanted(key);
  }

  /** @param {string} loaded */
  #showWanted(loaded) {
    const wanted = this.#pictures[this.#index];
    const key = `${wanted.instance} ${wanted.frame ?? 0}`;
    // While the mouse moves on, a picture on the way is better than none.
    if (!this.#kept.has(`large ${key}`)) this.#image(this.#kept.get(`small ${loaded}`)?.url ?? "");
    if (key !== loaded) this.#show();
  }

  /** @param {Picture} picture @param {string} key */
  async #loadLarge(picture, key) {
    const { signal } = this.#stop;
    this.#view.ariaBusy = "true";
    try {
      const bytes = await dicomweb.rendered(picture, { pixels: this.#pixels, signal });
      if (signal.aborted) return;
      const kept = this.#keep(`large ${key}`, bytes);
      const isWanted = this.#pictures[this.#index] === picture;
      if (isWanted) this.#present(kept);
    } catch (error) {
      if (signal.aborted || this.#pictures[this.#index] !== picture) return;
      const hasNone = error instanceof dicomweb.ServerError && error.status === 406;
      this.#say(hasNone ? t("noPicture") : t("cannotShow", { why: message(error) }));
    } finally {
      this.#view.ariaBusy = "false";
    }
  }

  /** @param {{ url: string, type: string }} kept */
  #present({ url, type }) {
    if (type.startsWith("image/")) return this.#image(url);
    if (type.startsWith("video/")) return fill(this.#view, h("video", { src: url, controls: true, playsinline: true }));
    const name = type === "application/pdf" ? t("document") : t("report");
    if (type === "application/pdf" && !navigator.pdfViewerEnabled) {
      return fill(this.#view, h("p", {}, h("a", { href: url, target: "_blank", rel: "noopener" }, t("openDocument"))));
    }
    // The text of a report is from outside: it runs no scripts, and has no origin.
    const sandbox = type === "application/pdf" ? {} : { sandbox: "" };
    if (["application/pdf", "text/html", "text/xml", "text/plain"].some((known) => type.startsWith(known))) {
      return fill(this.#view, h("iframe", { src: url, title: name, ...sandbox }));
    }
    return this.#say(t("noPicture"));
  }

  /** @param {string} url */
  #image(url) {
    const shown = this.#view.querySelector("img");
    const alt = t("sliceOf", { slice: this.#index + 1, all: this.#pictures.length });
    if (shown) Object.assign(shown, { src: url, alt });
    else fill(this.#view, h("img", { src: url, alt, draggable: "false" }));
  }

  /** @param {string} text */
  #say(text) {
    fill(this.#view, h("p", { role: "status" }, text));
  }

  /** @param {string} name @param {Blob} bytes */
  #keep(name, bytes) {
    const kept = { url: URL.createObjectURL(bytes), type: bytes.type };
    this.#drop(name);
    this.#kept.set(name, kept);
    if (this.#kept.size > mostKept) this.#drop([...this.#kept.keys()][0]);
    return kept;
  }

  /** @param {string} name */
  #drop(name) {
    URL.revokeObjectURL(this.#kept.get(name)?.url ?? "");
    this.#kept.delete(name);
  }
}

/** By Instance Number. @param {dicomweb.DataSet} one @param {dicomweb.DataSet} other */
function inOrder(one, other) {
  return Number(dicomweb.value(one, "00200013")) - Number(dicomweb.value(other, "00200013"));
}
