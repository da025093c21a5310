// What can be done with a study: open it in the viewer, download it, delete it. For the list and the page of a study.
// @ts-check

import * as deletions from "./deletions.js";
import * as dicomweb from "./dicomweb.js";
import { h, icon } from "./html.js";
import { t } from "./language.js";
import { notice, part } from "./notices.js";
import * as signIn from "./sign-in.js";
import { date, fileName, message, personName } from "./text.js";

// Where OHIF and the Cuspid viewer are; empty if they are not installed.
const { viewer, view } = document.documentElement.dataset;

/** The patient and the day of a study, in words. @param {dicomweb.DataSet} study */
export function studyTitle(study) {
  const name = personName(dicomweb.value(study, "00100010")) || t("noName");
  const day = date(dicomweb.value(study, "00080020"));
  return day ? `${name}, ${day}` : name;
}

/**
 * Links that open a study, or a series of it, in the viewers that are installed.
 * @param {{ study: string, series?: string, title: string, hasWords: boolean }} what
 */
export function viewerLinks({ study, series, title, hasWords }) {
  const link = (/** @type {"view" | "openInViewer"} */ key, /** @type {string} */ picture, /** @type {string} */ href) =>
    h("a", { class: "action", href, "aria-label": `${t(key)}: ${title}`, title: t(key) }, icon(picture), hasWords && h("span", {}, t(key)));
  const ofView = new URLSearchParams({ study, ...(series ? { series } : {}) });
  const ofOhif = new URLSearchParams({ StudyInstanceUIDs: study, ...(series ? { initialSeriesInstanceUID: series } : {}) });
  return [view && link("view", "cube", `${view}?${ofView}`), viewer && link("openInViewer", "eye", `${viewer}viewer?${ofOhif}`)];
}

/** The URL of the page of a study. @param {string} study @param {string} [series] */
export function studyUrl(study, series) {
  return `#/studies/${study}${series ? `?series=${series}` : ""}`;
}

/** A button that opens the dialog of shares, if the caller may share. @param {string} study @param {string} title @param {string[]} rights */
export function shareButton(study, title, rights) {
  if (!rights.includes("share")) return null;
  const open = async () => (await part(() => import("./share.js")))?.openShares(study, title);
  return h("button", { type: "button", class: "action", id: "share", onclick: open, "aria-label": `${t("share")}: ${title}`, title: t("share") }, icon("share"), h("span", {}, t("share")));
}

/** The URL of the audit log with filters. @param {Record<string, string>} filters */
export function auditUrl(filters) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  return `#/audit${query.size ? `?${query}` : ""}`;
}

/** A link to what the audit log says of a study, if the caller may see the log. @param {string} study @param {string} title @param {string[]} rights */
export function auditLink(study, title, rights) {
  if (!rights.includes("administer")) return null;
  const words = t("auditOfStudy");
  return h("a", { class: "action", id: "to-study-audit", href: auditUrl({ study }), "aria-label": `${words}: ${title}`, title: words }, icon("history"), h("span", {}, words));
}

/**
 * Links and buttons. Every study has the same words; a screen reader has the patient besides.
 * @param {dicomweb.DataSet} study
 * @param {{ mayDelete: boolean, hasWords: boolean, onError: (error: unknown) => void }} options
 */
export function actions(study, { mayDelete, hasWords, onError }) {
  const uid = dicomweb.value(study, "0020000D");
  const title = studyTitle(study);
  const label = (/** @type {"download" | "delete"} */ key) => ({ "aria-label": `${t(key)}: ${title}`, title: t(key) });
  const words = (/** @type {string} */ text) => hasWords && h("span", {}, text);
  /** @type {import("./html.js").Child[]} */
  const all = viewerLinks({ study: uid, title, hasWords });
  all.push(downloadLink(study, uid, { class: "action", ...label("download") }, words(t("download"))));
  if (mayDelete) {
    const what = { title, count: Number(dicomweb.value(study, "00201208")) };
    const remove = () => deletions.remove(uid, what, onError);
    all.push(h("button", { type: "button", class: "action", onclick: remove, ...label("delete") }, icon("trash"), words(t("delete"))));
  }
  return all;
}

/** @param {dicomweb.DataSet} study @param {string} uid @param {Record<string, string>} attributes @param {import("./html.js").Child} words */
function downloadLink(study, uid, attributes, words) {
  const parts = [personName(dicomweb.value(study, "00100010")), date(dicomweb.value(study, "00080020")), ...(study["00080061"]?.Value ?? [])];
  const name = fileName(parts, "zip");
  const link = h("a", { href: dicomweb.zipUrl(uid, name), download: name, ...attributes }, icon("download"), words);
  if (signIn.isNeeded) link.addEventListener("click", (event) => {
    event.preventDefault();
    download(link.href, name);
  });
  return link;
}

/** A link cannot carry a token, so the page fetches the file. @param {string} url @param {string} name */
async function download(url, name) {
  const done = notice(t("fetching", { name }), { seconds: 3600 });
  try {
    save(await dicomweb.bytes(url, "application/zip"), name);
  } catch (error) {
    notice(t("cannotFetch", { name, why: message(error) }), { isFailure: true });
  } finally {
    done();
  }
}

/** Gives a file to the user. @param {Blob} bytes @param {string} name */
export function save(bytes, name) {
  const link = h("a", { href: URL.createObjectURL(bytes), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
