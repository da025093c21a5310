// Files whose instance is stored with other data: what differs, and the replacement of what is stored.
// @ts-check

import { studyUrl } from "./actions.js";
import { identity } from "./dicom-file.js";
import * as dicomweb from "./dicomweb.js";
import * as files from "./files.js";
import { h } from "./html.js";
import { t } from "./language.js";
import { ask, notice } from "./notices.js";
import { date, message, personName, personNameOf } from "./text.js";

/**
 * @typedef {import("./uploads.js").Item} Item
 * @typedef {{ study: string, series: string, patient: string, patientId: string, date: string }} Stored The instance that is stored.
 */

/** The notes, each made once. @type {WeakMap<Item, HTMLElement>} */
const notes = new WeakMap();

/**
 * What differs between a file and the stored instance, and what can be done: read when the note is seen.
 * @param {Item} item
 * @param {{ mayDelete: boolean, replace: (items: Item[]) => void }} options
 */
export function conflictNote(item, { mayDelete, replace }) {
  let note = notes.get(item);
  if (note) return note;
  note = h("div", { class: "conflict" });
  notes.set(item, note);
  const made = note;
  const watcher = new IntersectionObserver(([seen]) => {
    if (!seen.isIntersecting) return;
    watcher.disconnect();
    compare(item).then(
      ({ stored, lines }) => made.append(
        ...lines.map((line) => h("p", {}, line)),
        h("p", { class: "buttons" },
          stored && h("a", { class: "action", href: studyUrl(stored.study, stored.series) }, t("conflictOpen")),
          mayDelete && h("button", { type: "button", onclick: () => replace([item]), "aria-label": `${t("conflictReplace")}: ${item.path}` }, t("conflictReplace"))),
        mayDelete ? "" : h("p", {}, t("conflictAsk"))),
      (error) => made.append(h("p", {}, t("conflictCannot", { why: message(error) }))),
    );
  });
  watcher.observe(note);
  return note;
}

/** The stored instance of a file, with the differences in words. @param {Item} item @returns {Promise<{ stored: Stored | null, lines: string[] }>} */
async function compare(item) {
  const [stored, bytes] = await Promise.all([storedOf(item.instance), files.head(item.file)]);
  const own = bytes && identity(bytes);
  if (!stored) return { stored, lines: [t("conflictGone")] };
  if (!own) return { stored, lines: [] };
  /** @type {[import("./language.js").Key, string, string][]} */
  const values = [
    ["patient", stored.patient, personNameOf(own.patient)], ["patientId", stored.patientId, own.patientId],
    ["studyDate", date(stored.date), date(own.date)], ["auditStudy", stored.study, own.study],
  ];
  const lines = values.filter(([, one, other]) => one !== other)
    .map(([key, one, other]) => t("conflictDiffers", { name: t(key), stored: one || "–", sent: other || "–" }));
  return { stored, lines: lines.length ? lines : [t("conflictSame")] };
}

/** The stored instance of a UID; nothing if there is none. @param {string} instance @returns {Promise<Stored | null>} */
async function storedOf(instance) {
  const [place] = await dicomweb.instance(instance);
  if (!place) return null;
  const [study, series] = [String(dicomweb.value(place, "0020000D")), String(dicomweb.value(place, "0020000E"))];
  const [found] = await dicomweb.instanceMetadata(study, series, instance);
  const text = (/** @type {string} */ tag) => String(dicomweb.value(found ?? {}, tag));
  return { study, series, patient: personName(dicomweb.value(found ?? {}, "00100010")), patientId: text("00100020"), date: text("00080020") };
}

/**
 * Asks, deletes the stored instances of files, and sends the files again, one after the other: the server refused them for nothing else.
 * @param {Item[]} items
 * @param {(item: Item) => void} send
 */
export async function replaceStored(items, send) {
  const what = items.length === 1 ? items[0].path : t("conflictFiles", { count: items.length });
  const lines = [what, t("conflictWarning")];
  if (!(await ask({ title: t("conflictQuestion"), lines, yes: t("conflictReplace") }))) return;
  for (const item of items) {
    try {
      const [place] = await dicomweb.instance(item.instance);
      if (place) await dicomweb.deleteInstance(String(dicomweb.value(place, "0020000D")), String(dicomweb.value(place, "0020000E")), item.instance);
      send(item);
    } catch (error) {
      notice(t("conflictNotReplaced", { name: item.path, why: message(error) }), { isFailure: true });
      return;
    }
  }
}
