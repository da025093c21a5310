// Shows the uploads and takes files: chosen, or dropped anywhere in the window.
// @ts-check

import { studyUrl } from "./actions.js";
import { conflictNote, replaceStored } from "./conflicts.js";
import * as dicomweb from "./dicomweb.js";
import * as files from "./files.js";
import { element, fill, h } from "./html.js";
import * as kept from "./kept-uploads.js";
import { t } from "./language.js";
import { notice, part } from "./notices.js";
import { date, duration, personNameOf, size } from "./text.js";
import { Uploads } from "./uploads.js";

/** Whether the user may delete, and so replace. */
let mayDelete = () => false;

/** The most failures, and the most studies, that are listed. */
const longestList = 200;
const mostArrivals = 50;

/**
 * Makes the section of uploads work. `onStored` is called when all is sent.
 * @param {{ mayStore: () => boolean, mayDelete: () => boolean, onStored: (studies: string[]) => void }} options
 */
export function start({ mayStore, mayDelete: mayDeleteNow, onStored }) {
  mayDelete = mayDeleteNow;
  const uploads = new Uploads();
  let isDue = false;
  const showSoon = () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      show(uploads);
    });
  };
  uploads.addEventListener("change", showSoon);
  uploads.addEventListener("end", () => onStored(uploads.summary().arrivals.map(({ study }) => study)));
  setInterval(() => uploads.isActive && showSoon(), 1000);
  element("pause").addEventListener("click", () => (uploads.summary().hold.reason === "paused" ? uploads.resume() : uploads.pause()));
  // A button of its own: one that changes its meaning by itself would be pressed in the wrong moment.
  element("try-now").addEventListener("click", () => uploads.tryNow());
  element("cancel").addEventListener("click", () => uploads.cancel());
  element("retry").addEventListener("click", () => uploads.retry());
  element("dismiss").addEventListener("click", () => uploads.clear());
  element("replace-all").addEventListener("click", () => replace(uploads, uploads.summary().failures.filter(({ isConflict }) => isConflict)));
  element("wrap").addEventListener("click", () => wrapFailed(uploads));
  addEventListener("beforeunload", (event) => {
    if (uploads.isActive) event.preventDefault();
  });
  takeChosen(uploads);
  takeDropped(uploads, mayStore);
  offerRest(uploads);
  return uploads;
}

/** @param {Uploads} uploads */
function takeChosen(uploads) {
  const picked = /** @type {const} */ ([["pick-files", "files", "showOpenFilePicker", { multiple: true }], ["pick-folder", "folder", "showDirectoryPicker", {}]]);
  for (const [button, input, picker, options] of picked) {
    element(button).addEventListener("click", () => pick(uploads, element(input), picker, options));
    element(input).addEventListener("change", () => {
      uploads.add(files.chosen(element(input)));
      element(input).value = "";
    });
  }
}

/** Lets the user choose files: with handles that outlive a reload, where the browser has them. @param {Uploads} uploads @param {HTMLInputElement} input @param {string} picker @param {object} options */
async function pick(uploads, input, picker, options) {
  const open = /** @type {any} */ (window)[picker];
  if (!open) return input.click();
  try {
    const handles = [await open(options)].flat();
    for (const handle of handles) await uploads.add(await files.ofHandle(handle, ""));
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    // The files cannot be read in this way.
    input.click();
  }
}

/** After a reload: what was not sent yet is offered to be sent, until it is chosen again. @param {Uploads} uploads */
async function offerRest(uploads) {
  let rest = await kept.left();
  if (rest.length === 0) return;
  const line = element("resume-line");
  const say = () => {
    const canRead = rest.some(({ handle }) => handle);
    element("resume-text").textContent = t(canRead ? "restWaits" : "restLost", { count: rest.length });
    element("resume").hidden = !canRead;
  };
  const close = () => {
    line.hidden = true;
    rest = [];
    show(uploads);
  };
  say();
  addEventListener("languagechange-page", say);
  kept.events.addEventListener("change", async () => {
    if (line.hidden) return;
    rest = await kept.left();
    if (rest.length === 0) close();
    else say();
  });
  element("upload").hidden = false;
  line.hidden = false;
  element("resume").addEventListener("click", async () => {
    const files = rest;
    close();
    await sendRest(uploads, files);
  });
  element("forget").addEventListener("click", () => {
    for (const { id } of rest) kept.forget(id ?? 0);
    close();
  });
}

/** @param {Uploads} uploads @param {kept.KeptFile[]} rest */
async function sendRest(uploads, rest) {
  const found = [];
  let gone = 0;
  for (const { id, path, handle } of rest) {
    try {
      if (!handle || ((await handle.queryPermission()) !== "granted" && (await handle.requestPermission()) !== "granted")) throw new Error("not allowed");
      found.push({ file: await handle.getFile(), path, handle, id: id ?? 0 });
    } catch {
      gone += 1;
      kept.forget(id ?? 0);
    }
  }
  if (gone) notice(t("restGone", { count: gone }), { isFailure: true });
  await uploads.add(found, found.map(({ id }) => id));
}

/** @param {Uploads} uploads @param {() => boolean} mayStore */
function takeDropped(uploads, mayStore) {
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  const shown = (/** @type {boolean} */ isOver) => document.body.classList.toggle("over", isOver);
  for (const name of ["dragenter", "dragover"]) {
    addEventListener(name, (event) => {
      if (!hasFiles(/** @type {DragEvent} */ (event))) return;
      // Without this, the browser would open the file instead of this page.
      event.preventDefault();
      shown(mayStore());
    });
  }
  addEventListener("dragleave", (event) => event.relatedTarget === null && shown(false));
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    shown(false);
    if (mayStore() && event.dataTransfer) uploads.add(await files.dropped(event.dataTransfer));
  });
}

/** Offers to store what failed, because it is no DICOM, for a patient: that of the study that is open. @param {Uploads} uploads */
async function wrapFailed(uploads) {
  const failed = uploads.summary().failures.filter(({ wrap }) => wrap);
  const [, uid] = /^#\/studies\/([\d.]+)/.exec(location.hash) ?? [];
  const study = uid ? await dicomweb.study(uid).catch(() => undefined) : undefined;
  const form = await part(() => import("./wrap-form.js"));
  if (!form) return;
  const made = await form.wrapFor(failed.map(({ file, wrap }) => ({ file, kind: /** @type {import("./wrap.js").Kind} */ (wrap) })), study ?? null);
  if (made.length === 0) return;
  uploads.drop(failed.filter(({ file }) => made.some(({ of }) => of === file)));
  await send(uploads, made.map(({ file }) => file));
}

/** Stores documents, photos and models for the patient of a study; DICOM files as they are. @param {Uploads} uploads @param {File[]} chosen @param {dicomweb.DataSet} study */
export async function addTo(uploads, chosen, study) {
  /** @type {import("./wrap-form.js").Wanted[]} */
  const wanted = [];
  const others = [];
  for (const file of chosen) {
    const bytes = await files.head(file);
    const kind = bytes ? files.kind(bytes, file.size) : "gone";
    if (files.canWrap(kind)) wanted.push({ file, kind });
    else others.push({ file, path: file.name, handle: null });
  }
  if (others.length) await uploads.add(others);
  const form = wanted.length ? await part(() => import("./wrap-form.js")) : null;
  if (form) await send(uploads, (await form.wrapFor(wanted, study)).map(({ file }) => file));
}

/** Files that were made here cannot be found again after a reload: they are not remembered. @param {Uploads} uploads @param {File[]} made */
function send(uploads, made) {
  return uploads.add(made.map((file) => ({ file, path: file.name, handle: null })), made.map(() => 0));
}

/** Shows the uploads again in another language. @param {Uploads} uploads */
export function translate(uploads) {
  dispatchEvent(new Event("languagechange-page"));
  show(uploads);
}

/** @param {Uploads} uploads */
function show(uploads) {
  const summary = uploads.summary();
  const { all, stored, present, failed, bytes, sent, speed, hold, isActive } = summary;
  element("upload").hidden = all === 0 && element("resume-line").hidden;
  const total = element("total");
  total.hidden = all === 0;
  total.max = Math.max(1, bytes);
  total.value = isActive ? sent : bytes;
  total.className = !isActive && failed ? "failed" : "";
  const parts = [t("filesStored", { stored: stored + present, count: all })];
  if (present) parts.push(t("filesPresent", { count: present }));
  if (failed) parts.push(t("filesFailed", { count: failed }));
  if (isActive && !hold.reason && speed > 0) {
    parts.push(t("bytesOf", { sent: size(sent), all: size(bytes) }), t("perSecond", { size: size(speed) }), t("timeLeft", { time: duration((bytes - sent) / speed) }));
  }
  element("summary").textContent = all ? parts.join(", ") : "";
  element("hold").textContent = isActive ? held(hold) : "";
  element("pause").hidden = !isActive;
  element("pause").textContent = t(hold.reason === "paused" ? "goOn" : "pause");
  element("try-now").hidden = !isActive || !["connection", "server"].includes(hold.reason);
  element("cancel").hidden = !isActive;
  element("retry").hidden = isActive || !summary.mayRetry;
  element("dismiss").hidden = isActive || all === 0;
  showArrivals(uploads, summary.arrivals);
  showFailures(uploads, summary.failures);
}

/** @param {import("./uploads.js").Hold} hold */
function held({ text, retryAt }) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  return retryAt && seconds > 0 ? `${text} ${t("nextAttempt", { seconds })}` : text;
}

/** The lines that are shown, by their studies. @type {Map<import("./upload-arrivals.js").Arrival, HTMLElement>} */
const lines = new Map();

/** One line for each study. @param {Uploads} uploads @param {import("./upload-arrivals.js").Arrival[]} arrivals */
function showArrivals(uploads, arrivals) {
  // The last ones are of most interest; those under way come first.
  const isOpen = (/** @type {import("./upload-arrivals.js").Arrival} */ one) => one.stored + one.present + one.failed < one.all;
  const shown = [...arrivals.filter(isOpen), ...arrivals.filter((one) => !isOpen(one)).reverse()].slice(0, mostArrivals);
  for (const [arrival, line] of lines) {
    if (!shown.includes(arrival)) {
      line.remove();
      lines.delete(arrival);
    }
  }
  for (const arrival of shown) {
    let line = lines.get(arrival);
    if (!line) {
      line = arrivalLine(uploads, arrival);
      lines.set(arrival, line);
      element("arrivals").append(line);
    }
    fillLine(line, arrival, isOpen(arrival));
  }
}

/** @param {Uploads} uploads @param {import("./upload-arrivals.js").Arrival} arrival */
function arrivalLine(uploads, arrival) {
  const cancel = h("button", { type: "button", class: "small", onclick: () => uploads.cancel(arrival) }, t("cancel"));
  return h("li", {}, h("span", { class: "who" }), h("progress", { max: 1, value: 0 }), h("span", { class: "state" }), cancel);
}

/** @param {HTMLElement} line @param {import("./upload-arrivals.js").Arrival} arrival @param {boolean} isOpen */
function fillLine(line, arrival, isOpen) {
  const { study, patient, modalities, all, stored, present, failed, bytes, settledBytes, check, held } = arrival;
  const name = patient ? personNameOf(patient) : t("unknownStudy");
  const title = [name, date(arrival.date), [...modalities].join(", ")].filter(Boolean).join(", ");
  const [who, bar, state, cancel] = /** @type {HTMLElement[]} */ ([...line.children]);
  if (who.dataset.title !== title) {
    who.dataset.title = title;
    fill(who, study ? h("a", { href: studyUrl(study) }, title) : title);
  }
  const progress = /** @type {HTMLProgressElement} */ (bar);
  Object.assign(progress, { max: Math.max(1, bytes), value: settledBytes, hidden: !isOpen, ariaLabel: title });
  const parts = [t("filesStored", { stored: stored + present, count: all })];
  if (present) parts.push(t("filesPresent", { count: present }));
  if (failed) parts.push(t("filesFailed", { count: failed }));
  if (held) parts.push(t("zipHolds", { count: held }));
  if (check === "complete") parts.push(t("checkedComplete"));
  if (check === "missing") parts.push(t("checkedMissing"));
  const text = parts.join(", ");
  if (state.textContent !== text) state.textContent = text;
  state.className = failed || check === "missing" ? "state failed" : check === "complete" ? "state good" : "state";
  cancel.hidden = !isOpen;
  cancel.textContent = t("cancel");
  cancel.ariaLabel = `${t("cancel")}: ${title}`;
}

/** Sends files instead of what is stored. @param {Uploads} uploads @param {import("./uploads.js").Item[]} items */
function replace(uploads, items) {
  return replaceStored(items, (item) => {
    uploads.drop([item]);
    uploads.add([{ file: item.file, path: item.path, handle: null }]);
  });
}

/** @param {Uploads} uploads @param {import("./uploads.js").Item[]} failures */
function showFailures(uploads, failures) {
  const list = element("uploads");
  element("failures").hidden = failures.length === 0;
  element("wrap").hidden = !failures.some(({ wrap }) => wrap);
  const conflicts = failures.filter(({ isConflict }) => isConflict).length;
  element("replace-all").hidden = conflicts < 2 || !mayDelete();
  element("replace-all").textContent = t("conflictReplaceAll", { count: conflicts });
  if (list.childElementCount === Math.min(failures.length, longestList) && list.dataset.count === String(failures.length)) return;
  list.dataset.count = String(failures.length);
  fill(list, failures.slice(0, longestList).map((item) => h("li", {}, item.path, h("span", {}, item.text),
    item.isConflict && conflictNote(item, { mayDelete: mayDelete(), replace: (items) => replace(uploads, items) }))));
  const more = failures.length - longestList;
  element("more-failures").textContent = more > 0 ? t("moreFiles", { count: more }) : "";
}
