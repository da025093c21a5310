// The page of a study: the patient, other studies of theirs, series that one can scrub through, attributes, actions.
// @ts-check

import { actions, auditLink, shareButton, studyTitle, studyUrl, viewerLinks } from "./actions.js";
import * as deletions from "./deletions.js";
import * as dicomweb from "./dicomweb.js";
import { attributes } from "./attributes.js";
import { element, fill, h, icon, mark } from "./html.js";
import { t } from "./language.js";
import { copy } from "./notices.js";
import { Stage } from "./stage.js";
import { age, date, message, nameParts, personName, sex, time } from "./text.js";

/** @typedef {{ study: string, series: string, instance: string, frame?: number }} Picture */

/** Milliseconds that the page waits for the patient's other studies. */
const patience = 300;
/** @type {string[]} */
let rights = [];
/** @type {(error: unknown) => void} */
let fail = () => {};
/** Stores further files in a study. @type {(files: File[], study: dicomweb.DataSet) => void} */
let add = () => {};
let request = new AbortController();
/** @type {Stage | null} */
let stage = null;
/** @type {{ uid: string, query: URLSearchParams } | null} */
let open = null;
/** Where the list was, to go back to it. */
let back = "#/";

/** @param {{ onError: (error: unknown) => void, onAdd: typeof add }} options */
export function start({ onError, onAdd }) {
  fail = onError;
  add = onAdd;
  deletions.events.addEventListener("change", () => {
    if (open && deletions.isPending(open.uid)) location.hash = back;
  });
}

/** @param {string[]} given */
export function setRights(given) {
  rights = given;
}

/** The list to which the page leads back. @param {string} hash */
export function setBack(hash) {
  back = hash;
}

/** Another page is shown. */
export function leave() {
  request.abort();
  stage?.close();
  stage = null;
  open = null;
}

/** Shows a study. @param {string} uid @param {URLSearchParams} query `series` opens a series. */
export async function show(uid, query) {
  const isSame = open?.uid === uid;
  leave();
  request = new AbortController();
  open = { uid, query };
  const { signal } = request;
  const page = element("study");
  if (!isSame) fill(page, backLink(), h("p", { class: "soft", role: "status" }, t("loading")));
  try {
    const [study, series] = await Promise.all([dicomweb.study(uid, signal), dicomweb.series(uid, signal)]);
    if (signal.aborted) return;
    if (!study) {
      fill(page, backLink(), h("h1", {}, t("noSuchStudy")), h("p", {}, t("noSuchStudyWhy")), h("p", { class: "soft" }, uid));
      return;
    }
    document.title = `${studyTitle(study)} · Cuspid`;
    const others = othersOf(study, signal);
    // They stand above the images: better a moment later than a page that moves.
    await Promise.race([others, new Promise((resolve) => setTimeout(resolve, patience))]);
    if (signal.aborted) return;
    showStudy(page, study, ordered(series), query.get("series") ?? "");
    const found = await others;
    if (!signal.aborted) showOthers(study, found);
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
    fill(page, backLink(), h("p", { class: "failed", role: "alert" }, t("cannotShow", { why: message(error) })));
  }
}

/** Shows what was stored. @param {string[]} studies */
export function stored(studies) {
  if (open && studies.includes(open.uid)) show(open.uid, open.query);
}

/** Shows the page again in another language. */
export function translate() {
  if (open) show(open.uid, open.query);
}

function backLink() {
  return h("a", { class: "back", href: back }, icon("back"), t("allStudies"));
}

/** @param {dicomweb.DataSet[]} series */
function ordered(series) {
  const number = (/** @type {dicomweb.DataSet} */ one) => Number(dicomweb.value(one, "00200011"));
  return [...series].sort((one, other) => number(one) - number(other));
}

/** @param {Element} page @param {dicomweb.DataSet} study @param {dicomweb.DataSet[]} series @param {string} wanted */
function showStudy(page, study, series, wanted) {
  const uid = dicomweb.value(study, "0020000D");
  const stageBox = h("div", { class: "stage", id: "stage" });
  const cards = h("ul", { class: "cards", "aria-label": t("seriesCount") });
  const select = (/** @type {dicomweb.DataSet} */ one) => {
    const chosen = dicomweb.value(one, "0020000E");
    stage?.close();
    stage = new Stage(stageBox, uid, one, seriesActions(uid, one));
    for (const card of cards.querySelectorAll("a")) mark(card, card.dataset.series === chosen);
  };
  cards.append(...series.map((one) => card(uid, one)));
  cards.addEventListener("click", (event) => {
    const link = /** @type {HTMLElement} */ (event.target).closest("a");
    const one = series.find((one) => dicomweb.value(one, "0020000E") === link?.dataset.series);
    if (!link || !one || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    if (open) open.query = new URLSearchParams({ series: link.dataset.series ?? "" });
    select(one);
  });
  fill(page, backLink(), heading(study), h("div", { id: "others" }), h("div", { class: "bench" }, cards, stageBox));
  const first = series.find((one) => dicomweb.value(one, "0020000E") === wanted) ?? series[0];
  if (first) select(first);
}

/** @param {dicomweb.DataSet} study */
function heading(study) {
  const uid = dicomweb.value(study, "0020000D");
  const text = (/** @type {string} */ tag) => String(dicomweb.value(study, tag));
  const { first, second } = nameParts(dicomweb.value(study, "00100010"));
  const facts = [
    [t("patientId"), text("00100020")],
    [t("birthDate"), date(text("00100030"))],
    [t("studyDate"), `${date(text("00080020"))} ${time(text("00080030"))}`.trim()],
    [t("description"), text("00081030")],
    [t("accession"), text("00080050")],
    [t("referrer"), personName(dicomweb.value(study, "00080090"))],
  ].filter(([, value]) => value);
  const person = [sex(text("00100040")), age(text("00100030"), text("00080020"))].filter(Boolean).join(", ");
  const link = h("button", { type: "button", class: "action", onclick: () => copy(location.href), "aria-label": t("copyLink"), title: t("copyLink") }, icon("link"), h("span", {}, t("copyLink")));
  return h("header", { class: "patient" },
    h("div", {}, h("h1", {}, first || t("noName"), second && h("span", { class: "other" }, second)), person && h("p", { class: "soft" }, person)),
    h("dl", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("p", { class: "buttons" }, ...actions(study, { mayDelete: rights.includes("delete"), hasWords: true, onError: fail }), rights.includes("write") && addButton(study),
      shareButton(uid, studyTitle(study), rights), auditLink(uid, studyTitle(study), rights), link));
}

/** @param {dicomweb.DataSet} study */
function addButton(study) {
  const input = h("input", { type: "file", multiple: true, hidden: true, accept: ".pdf,.jpg,.jpeg,.png,.stl,.dcm" });
  input.addEventListener("change", () => {
    add([...(input.files ?? [])], study);
    input.value = "";
  });
  const button = h("button", { type: "button", class: "action", onclick: () => input.click(), title: t("addFiles") }, icon("add"), h("span", {}, t("addFiles")));
  return h("span", {}, button, input);
}

/** @param {string} study @param {dicomweb.DataSet} series */
function card(study, series) {
  const uid = dicomweb.value(series, "0020000E");
  const picture = h("img", { alt: "", width: 128, height: 128 });
  const watcher = new IntersectionObserver(async ([seen]) => {
    if (!seen.isIntersecting) return;
    watcher.disconnect();
    const bytes = await dicomweb.bytes(dicomweb.thumbnailUrl(study, uid), "image/*", request.signal).catch(() => null);
    if (!bytes) return;
    picture.src = URL.createObjectURL(bytes);
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
  }, { root: null, rootMargin: "200px" });
  watcher.observe(picture);
  const count = Number(dicomweb.value(series, "00201209"));
  return h("li", {}, h("a", { href: studyUrl(study, uid), "data-series": uid }, picture, h("span", {},
    h("strong", {}, `${dicomweb.value(series, "00080060")} ${dicomweb.value(series, "00200011")}`),
    h("span", {}, dicomweb.value(series, "0008103E")),
    h("span", { class: "soft" }, t("images", { count })))));
}

/** @param {string} study @param {dicomweb.DataSet} series */
function seriesActions(study, series) {
  const uid = dicomweb.value(series, "0020000E");
  const title = `${dicomweb.value(series, "00080060")} ${dicomweb.value(series, "00200011")}`;
  return [
    h("p", { class: "buttons" }, ...viewerLinks({ study, series: uid, title, hasWords: true })),
    (/** @type {() => Picture | null} */ current) => attributes(current),
  ];
}

/** The studies of the patient; none if they cannot be had. @param {dicomweb.DataSet} study @param {AbortSignal} signal */
async function othersOf(study, signal) {
  const patient = dicomweb.value(study, "00100020");
  return patient ? dicomweb.studiesOf(patient, signal).catch(() => []) : [];
}

/** The studies of the patient, by day. @param {dicomweb.DataSet} study @param {dicomweb.DataSet[]} found */
function showOthers(study, found) {
  if (found.length < 2) return;
  const own = dicomweb.value(study, "0020000D");
  const link = (/** @type {dicomweb.DataSet} */ one) => {
    const uid = dicomweb.value(one, "0020000D");
    return h("li", {}, h("a", { href: studyUrl(uid), "aria-current": uid === own && "true" },
      h("strong", {}, date(dicomweb.value(one, "00080020")) || t("noDate")),
      h("span", {}, [(one["00080061"]?.Value ?? []).join(", "), dicomweb.value(one, "00081030")].filter(Boolean).join(" · "))));
  };
  fill(element("others"), h("h2", {}, t("otherStudies")), h("ol", { class: "timeline" }, found.map(link)));
}
