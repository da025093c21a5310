// Shows the uploads and takes files: chosen, or dropped anywhere in the window.
// @ts-check

import { element } from "./element.js";
import * as files from "./files.js";
import { count, duration, size } from "./text.js";
import { Uploads } from "./uploads.js";

/** The most failures that are listed. */
const longestList = 200;

/**
 * Makes the section of uploads work. `onStored` is called when all is sent.
 * @param {{ mayStore: () => boolean, onStored: () => void }} options
 */
export function start({ mayStore, onStored }) {
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
  uploads.addEventListener("end", onStored);
  setInterval(() => uploads.isActive && showSoon(), 1000);
  element("pause").addEventListener("click", () => (uploads.summary().hold.reason ? uploads.resume() : uploads.pause()));
  element("cancel").addEventListener("click", () => uploads.cancel());
  element("retry").addEventListener("click", () => uploads.retry());
  addEventListener("beforeunload", (event) => {
    if (uploads.isActive) event.preventDefault();
  });
  takeChosen(uploads);
  takeDropped(uploads, mayStore);
  return uploads;
}

/** @param {Uploads} uploads */
function takeChosen(uploads) {
  for (const [button, input] of [["pick-files", "files"], ["pick-folder", "folder"]]) {
    element(button).addEventListener("click", () => element(input).click());
    element(input).addEventListener("change", () => {
      uploads.add(files.chosen(element(input)));
      element(input).value = "";
    });
  }
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

/** @param {Uploads} uploads */
function show(uploads) {
  const summary = uploads.summary();
  const { all, stored, present, failed, bytes, sent, speed, hold, isActive } = summary;
  element("upload").hidden = all === 0;
  const total = element("total");
  total.max = Math.max(1, bytes);
  total.value = isActive ? sent : bytes;
  total.className = !isActive && failed ? "failed" : "";
  const parts = [`${stored + present} of ${count(all, "file")} stored`];
  if (present) parts.push(`${present} of them there already`);
  if (failed) parts.push(`${failed} not stored`);
  if (isActive && !hold.reason && speed > 0) {
    parts.push(`${size(sent)} of ${size(bytes)}`, `${size(speed)}/s`, `${duration((bytes - sent) / speed)} left`);
  }
  element("summary").textContent = parts.join(", ");
  element("hold").textContent = isActive ? held(hold) : "";
  element("pause").hidden = !isActive;
  element("pause").textContent = !hold.reason ? "Pause" : hold.reason === "paused" ? "Go on" : "Try now";
  element("cancel").hidden = !isActive;
  element("retry").hidden = isActive || !summary.mayRetry;
  showFailures(summary.failures);
}

/** @param {import("./uploads.js").Hold} hold */
function held({ text, retryAt }) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  return retryAt && seconds > 0 ? `${text} Next attempt in ${seconds} s.` : text;
}

/** @param {import("./uploads.js").Item[]} failures */
function showFailures(failures) {
  const list = element("uploads");
  element("failures").hidden = failures.length === 0;
  if (list.childElementCount === Math.min(failures.length, longestList) && list.dataset.count === String(failures.length)) return;
  list.dataset.count = String(failures.length);
  list.replaceChildren(...failures.slice(0, longestList).map(({ path, text }) => {
    const line = document.createElement("li");
    const why = document.createElement("span");
    why.textContent = text;
    line.append(path, why);
    return line;
  }));
  const more = failures.length - longestList;
  element("more-failures").textContent = more > 0 ? `and ${count(more, "more file")}` : "";
}
