// Asks for which patient files that are no DICOM are stored, and makes DICOM files of them.
// @ts-check

import { studyTitle } from "./actions.js";
import * as dicomweb from "./dicomweb.js";
import { line, namePart, newUid } from "./dicom-writer.js";
import { fill, h } from "./html.js";
import { t } from "./language.js";
import { notice } from "./notices.js";
import { dayOf } from "./search.js";
import { message } from "./text.js";
import { WrapError, modalities, wrap } from "./wrap.js";

/**
 * @typedef {import("./wrap.js").Kind} Kind
 * @typedef {{ file: File, kind: Kind }} Wanted
 * @typedef {{ study: dicomweb.DataSet | null, family: string, given: string, id: string, birthDate: string, sex: string, date: string, description: string }} Answers
 */

/** The most names of files that are listed. */
const mostNames = 6;

/**
 * Asks, and makes the files; nothing if the user does not want it. Files that cannot be made are said, and left out.
 * @param {Wanted[]} wanted @param {dicomweb.DataSet | null} study The study to which they may belong.
 * @returns {Promise<{ file: File, of: File }[]>}
 */
export async function wrapFor(wanted, study) {
  const answers = await ask(wanted, study);
  if (!answers) return [];
  const made = [];
  try {
    const placed = await places(answers, wanted);
    for (const [index, { file, kind }] of wanted.entries()) {
      try {
        made.push({ file: await wrap(file, kind, placed[index]), of: file });
      } catch (error) {
        const why = error instanceof WrapError ? t(error.why) : message(error);
        notice(t("cannotWrap", { name: file.name, why }), { isFailure: true });
      }
    }
  } catch (error) {
    notice(t("cannotWrap", { name: wanted[0].file.name, why: message(error) }), { isFailure: true });
  }
  return made;
}

/** Where each file belongs: a series for each kind. @param {Answers} answers @param {Wanted[]} wanted @returns {Promise<import("./wrap.js").About[]>} */
async function places(answers, wanted) {
  const { study } = answers;
  const now = new Date();
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  const date = answers.date.replaceAll("-", "");
  const text = (/** @type {string} */ tag) => (study ? String(dicomweb.value(study, tag)) : "");
  const numbers = study ? (await dicomweb.series(text("0020000D"))).map((one) => Number(dicomweb.value(one, "00200011")) || 0) : [];
  const first = Math.max(0, ...numbers) + 1;
  const kinds = [...new Set(wanted.map(({ kind }) => kind))];
  const series = new Map(kinds.map((kind, index) => [kind, { uid: newUid(), number: first + index, count: 0 }]));
  const patient = study
    ? { name: nameOf(dicomweb.value(study, "00100010")), id: text("00100020"), birthDate: text("00100030"), sex: text("00100040") }
    : { name: [answers.family, answers.given].map(namePart).join("^").replace(/\^$/, ""), id: line(answers.id), birthDate: answers.birthDate.replaceAll("-", ""), sex: answers.sex };
  const about = study
    ? { uid: text("0020000D"), date: text("00080020"), time: text("00080030"), id: text("00200010"), accession: text("00080050"), referrer: nameOf(dicomweb.value(study, "00080090")), description: text("00081030") }
    : { uid: newUid(), date, time, id: "", accession: "", referrer: "", description: line(answers.description) };
  return wanted.map(({ file, kind }) => {
    const place = /** @type {{ uid: string, number: number, count: number }} */ (series.get(kind));
    place.count += 1;
    const title = file.name.replace(/\.\w+$/, "");
    // All of a series have one description: of several files, none of their names.
    const isAlone = wanted.filter((other) => other.kind === kind).length === 1;
    return { patient, study: about, series: place, number: place.count, date, time, title, description: answers.description || (isAlone ? title : "") };
  });
}

/** A name as in a file. @param {{ Alphabetic?: string, Ideographic?: string, Phonetic?: string } | ""} name */
function nameOf(name) {
  const { Alphabetic = "", Ideographic = "", Phonetic = "" } = name || {};
  return [Alphabetic, Ideographic, Phonetic].join("=").replace(/=+$/, "");
}

/** @param {Wanted[]} wanted @param {dicomweb.DataSet | null} study @returns {Promise<Answers | null>} */
function ask(wanted, study) {
  const names = wanted.slice(0, mostNames).map(({ file, kind }) => h("li", {}, file.name, " ", h("span", { class: "tag" }, modalities[kind])));
  const more = wanted.length - names.length;
  const field = (/** @type {import("./language.js").Key} */ label, /** @type {Record<string, any>} */ attributes) =>
    h("label", {}, h("span", {}, t(label)), h("input", { autocomplete: "off", ...attributes }));
  const sexes = [["", ""], ["F", t("female")], ["M", t("male")], ["O", t("otherSex")]].map(([value, text]) => h("option", { value }, text));
  const typed = h("div", { class: "fields" },
    field("familyName", { name: "family", required: true, maxlength: 30 }), field("givenName", { name: "given", maxlength: 30 }),
    field("patientId", { name: "id", required: true, maxlength: 64 }), field("birthDate", { name: "birthDate", type: "date", max: "9999-12-31" }),
    h("label", {}, h("span", {}, t("sex")), h("select", { name: "sex" }, sexes)));
  const whose = study && h("label", { class: "whose" }, h("span", {}, t("patient")),
    h("select", { name: "whose" }, h("option", { value: "study" }, studyTitle(study)), h("option", { value: "typed" }, t("anotherPatient"))));
  const form = h("form", { method: "dialog", class: "wrap" },
    h("h2", { id: "wrap-title" }, t("wrapTitle")), h("ul", {}, names, more > 0 && h("li", {}, t("moreFiles", { count: more }))), whose, typed,
    h("div", { class: "fields" }, field("wrapDate", { name: "date", type: "date", required: true, max: "9999-12-31", value: hyphens(dayOf(new Date())) }),
      field("description", { name: "description", maxlength: 64 })),
    h("p", { class: "buttons" }, h("button", { value: "no", formnovalidate: true }, t("cancel")), h("button", { value: "yes", class: "main" }, t("store"))));
  const choose = () => {
    const isTyped = !study || form.elements.namedItem("whose") instanceof HTMLSelectElement && /** @type {HTMLSelectElement} */ (form.elements.namedItem("whose")).value === "typed";
    typed.hidden = !isTyped;
    for (const input of typed.querySelectorAll("input, select")) /** @type {HTMLInputElement} */ (input).disabled = !isTyped;
    return isTyped;
  };
  form.addEventListener("change", choose);
  choose();
  const dialog = h("dialog", { "aria-labelledby": "wrap-title" });
  fill(dialog, form);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const data = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
      dialog.remove();
      const { family = "", given = "", id = "", birthDate = "", sex = "", date = "", description = "" } = data;
      resolve(dialog.returnValue === "yes" ? { study: choose() ? null : study, family, given, id, birthDate, sex, date, description } : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** @param {string} day `YYYYMMDD`. */
function hyphens(day) {
  return day.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
}
