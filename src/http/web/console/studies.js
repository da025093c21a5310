// The list of studies: one box to search in, chips, sorting, pages. All of it is in the URL.
// @ts-check

import { actions, studyTitle, studyUrl } from "./actions.js";
import { Arrivals, Looks } from "./arrivals.js";
import * as deletions from "./deletions.js";
import * as dicomweb from "./dicomweb.js";
import { ChangeLine } from "./events.js";
import { element, fill, h } from "./html.js";
import { number, t } from "./language.js";
import { Results } from "./results.js";
import { age, date, message, nameParts, sex, time } from "./text.js";
import { misread, modalities, namedDays, searches } from "./search.js";
import { teach } from "./teach.js";

/** @typedef {{ q: string, modality: string, arrived: string, days: string, from: string, to: string, sort: string, page: number, size: number }} Shown */

/** Milliseconds without a key before a search begins. */
const typingPause = 150;
/** Milliseconds between two looks for studies that have arrived, while the server cannot say that some have. */
const pollInterval = 5000;
/** Milliseconds between two looks while changes come. */
const changePause = 1000;
const pageSizes = [25, 50, 100, 200];
const dayNames = /** @type {const} */ (["today", "yesterday", "week", "month"]);
const chipModalities = modalities.slice(0, 11);

/** The columns, with what they are sorted by. @type {[import("./language.js").Key, string, string?][]} */
const columns = [
  ["patient", "PatientName"], ["patientId", "PatientID"], ["birthDate", "PatientBirthDate"], ["studyDate", "StudyDate"],
  ["modality", "ModalitiesInStudy"], ["description", "StudyDescription"],
  ["seriesCount", "NumberOfStudyRelatedSeries", "number"], ["imageCount", "NumberOfStudyRelatedInstances", "number"],
];

/** @type {Shown} */
const empty = { q: "", modality: "", arrived: "", days: "", from: "", to: "", sort: "", page: 0, size: 50 };
/** @type {Shown} */
let shown = { ...empty };
/** @type {Results | null} */
let results = null;
/** What the results are of. */
let resultsKey = "";
/** @type {dicomweb.DataSet[]} */
let listed = [];
/** What is listed: the page of a search; empty before the first one. */
let listedKey = "";
/** @type {{ first: number, hasNext: boolean }} */
let place = { first: 0, hasNext: false };
/** @type {number | null} */
let total = null;
const arrivals = new Arrivals();
const looks = new Looks();
const line = new ChangeLine({
  ...dicomweb.changes(),
  onChange(change) {
    arrivals.take(change, Date.now());
    if (["stored", "replaced", "deleted"].includes(change.event)) pollSoon();
    else if (change.event === "complete") showMarks();
  },
  onOpen(isFresh) {
    looks.opened();
    if (isFresh) pollSoon();
  },
  onBreak: () => poll(),
});
/** The next look after a change. */
let changeTimer = 0;
/** The next mark that ends. */
let markTimer = 0;
let request = new AbortController();
/** What stands above the list. */
let said = () => "";
/** Whether what stands there is that the studies cannot be listed. */
let hasFailed = false;
/** @type {string[]} */
let rights = [];
/** What becomes of an error that is not about the list alone. @type {(error: unknown) => void} */
let fail = () => {};
let isHere = false;
/** The URL of the list that was shown last. */
let lastUrl = "#/";

/** Makes the list work. @param {(error: unknown) => void} onError */
export function start(onError) {
  fail = onError;
  const box = element("box");
  let timer = 0;
  const searchBox = () => go({ q: box.value, page: 0 });
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = window.setTimeout(searchBox, typingPause);
  });
  element("search").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    clearTimeout(timer);
    searchBox();
  });
  for (const name of ["from", "to"]) element("search").elements[name].addEventListener("change", changeDays);
  element("previous").addEventListener("click", () => go({ page: Math.max(0, shown.page - 1) }));
  element("next").addEventListener("click", () => go({ page: shown.page + 1 }));
  element("page-size").addEventListener("change", () => go({ size: Number(element("page-size").value), page: 0 }));
  element("sort").addEventListener("change", () => go({ sort: element("sort").value, page: 0 }));
  element("rows").addEventListener("click", openRow);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && isHere && !/^(input|select|textarea)$/i.test(document.activeElement?.tagName ?? "")) {
      event.preventDefault();
      box.focus();
    }
  });
  deletions.events.addEventListener("change", (event) => {
    if (!isHere) return;
    const gone = /** @type {CustomEvent<string>} */ (event).detail;
    listed = listed.filter((study) => dicomweb.value(study, "0020000D") !== gone);
    showRows();
    list({ isQuiet: true });
  });
  setInterval(() => (line.isOpen && !hasFailed) || poll(), pollInterval);
  document.addEventListener("visibilitychange", () => {
    follow();
    poll();
  });
}

/** Listens to the server as long as somebody sees the list: browsers have few connections for all pages of a server together. */
function follow() {
  if (isHere && !document.hidden) line.start();
  else line.stop();
}

/** Looks for what has changed: soon, and not for each of a thousand instances. */
function pollSoon() {
  changeTimer ||= window.setTimeout(async () => {
    const isDone = await poll();
    changeTimer = 0;
    // Nothing else would look again.
    if (!isDone) setTimeout(pollSoon, pollInterval);
  }, changePause);
}

/** A click on a row opens its study; links, buttons and selected text are left alone. @param {MouseEvent} event */
function openRow(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("a, button") || getSelection()?.toString()) return;
  const link = target.closest("tr")?.querySelector("a.open");
  if (link instanceof HTMLAnchorElement) location.hash = link.hash;
}

function changeDays() {
  const { from, to } = element("search").elements;
  if (!showDaysProblem()) go({ from: from.value, to: to.value, days: "", page: 0 });
}

/** Says that days are not understood. @returns {boolean} Whether those beside the box make no sense. */
function showDaysProblem() {
  const { from, to } = element("search").elements;
  const isBackwards = Boolean(from.value && to.value && from.value > to.value);
  const problem = misread(shown.q, new Date());
  const text = problem && (problem.isBackwards ? t("daysBackwards") : t("noSuchDay", { word: problem.word }));
  element("days-problem").textContent = isBackwards ? t("daysBackwards") : text || "";
  return isBackwards;
}

/** What the caller may do decides what is offered. @param {string[]} given */
export function setRights(given) {
  rights = given;
}

/** Shows the list that a URL describes. @param {URLSearchParams} query */
export function show(query) {
  isHere = true;
  const text = (/** @type {string} */ name) => query.get(name) ?? "";
  const size = Number(text("size"));
  shown = {
    q: text("q"), modality: text("modality"), arrived: text("arrived"), days: text("days"), from: text("from"), to: text("to"), sort: text("sort"),
    page: Math.max(0, Math.floor(Number(text("page")) || 1) - 1), size: pageSizes.includes(size) ? size : empty.size,
  };
  document.title = "Cuspid";
  lastUrl = location.hash || "#/";
  follow();
  return list();
}

/** The URL of the list that was shown last, to go back to it. */
export function url() {
  return lastUrl;
}

/** Another page is shown. */
export function leave() {
  isHere = false;
  request.abort();
  follow();
}

/** Goes to another list. Typing on replaces the entry in the history. @param {Partial<Shown>} change */
function go(change) {
  // What was typed a moment ago counts, too.
  const q = element("box").value.trim();
  const next = { ...shown, ...change, q, ...(q === shown.q ? {} : { page: 0 }) };
  if (JSON.stringify(next) === JSON.stringify(shown)) return;
  const isTyping = "q" in change && shown.q !== "" && q !== "";
  const query = new URLSearchParams();
  for (const name of /** @type {const} */ (["q", "modality", "arrived", "days", "from", "to", "sort"])) if (next[name]) query.set(name, next[name]);
  if (next.page) query.set("page", String(next.page + 1));
  if (next.size !== empty.size) query.set("size", String(next.size));
  const hash = `#/${query.size ? `?${query}` : ""}`;
  history[isTyping ? "replaceState" : "pushState"](null, "", hash);
  show(query);
}

/** The results of what is shown; those of before, if it is the same list. @param {boolean} isFresh */
function resultsOf(isFresh) {
  const days = namedDays(shown.days, new Date()) ?? { from: shown.from.replaceAll("-", ""), to: shown.to.replaceAll("-", "") };
  const keys = searches({ text: shown.q, modality: shown.modality, days, arrived: shown.arrived }, new Date());
  const order = shown.sort ? `${shown.sort}${shown.sort.includes("StudyDate") ? ",StudyTime" : ",-StudyDate"}` : "";
  const sorted = order === "-StudyDate,StudyTime" ? "" : order;
  const key = JSON.stringify([keys, sorted, shown.size]);
  if (isFresh || !results || key !== resultsKey) {
    const searched = sorted ? keys.map((one) => ({ ...one, orderby: sorted })) : keys;
    results = new Results(searched, { order: sorted, pageSize: shown.size, fetch: dicomweb.studiesPage });
    resultsKey = key;
  }
  return results;
}

/** Lists the studies again. @param {{ isQuiet?: boolean }} [options] Quietly: as if nothing was asked for. */
export async function list({ isQuiet = false } = {}) {
  request.abort();
  request = new AbortController();
  const { signal } = request;
  showForm();
  element("table-box").ariaBusy = "true";
  const look = looks.begin(line.isOpen);
  const waiting = isQuiet ? 0 : window.setTimeout(() => looks.isPast(look) || element("table-box").classList.add("waiting"), 300);
  try {
    const page = await resultsOf(shown.page === 0 || isQuiet).page(shown.page, signal);
    if (signal.aborted || looks.isPast(look)) return;
    showPage(page, look);
  } catch (error) {
    if (signal.aborted) return;
    if (isQuiet) return;
    fail(error);
    const isSignedOut = error instanceof dicomweb.ServerError && error.status === 401;
    say(() => (isSignedOut ? "" : t("cannotList", { why: message(error) })), true);
  } finally {
    clearTimeout(waiting);
    if (!signal.aborted) {
      element("table-box").classList.remove("waiting");
      element("table-box").ariaBusy = "false";
    }
  }
}

/** What the page of a search is known by. */
function pageKey() {
  return `${shown.page} ${resultsKey}`;
}

/** @param {import("./results.js").Page} page @param {import("./arrivals.js").Look} look */
function showPage(page, look) {
  looks.show(look);
  element("table-box").classList.remove("waiting");
  listedKey = pageKey();
  place = page;
  listed = page.studies;
  say(() => "");
  showRows();
  countAll();
}

/** Looks for what has arrived, if the first page is shown. @returns {Promise<boolean>} Whether another look has no other outcome. */
async function poll() {
  if (!isHere || document.hidden || shown.page !== 0) return true;
  const own = request;
  const look = looks.begin(line.isOpen);
  try {
    const page = await resultsOf(true).page(0, own.signal);
    if (own.signal.aborted || shown.page !== 0 || looks.isPast(look)) return true;
    const [before, after] = [listed.map(state), page.studies.map(state)];
    if (JSON.stringify(before) === JSON.stringify(after) && !hasFailed) {
      looks.show(look);
      return true;
    }
    // A line that was open all the time has said what has arrived; else two lists of the same page let it be guessed.
    if (!looks.isAllSaid(line.isOpen) && listedKey === pageKey()) arrivals.compare(before, after, place.hasNext, Date.now());
    showPage(page, look);
    return true;
  } catch (error) {
    // Other failures pass: the next look may have an answer.
    if (error instanceof dicomweb.ServerError && error.status === 401) fail(error);
    return own.signal.aborted;
  }
}

/** What a change of a study changes in the list. @param {dicomweb.DataSet} study */
function state(study) {
  const number = (/** @type {string} */ tag) => Number(dicomweb.value(study, tag));
  return { uid: String(dicomweb.value(study, "0020000D")), series: number("00201206"), images: number("00201208") };
}

/** The number of all studies, where the server says it. */
async function countAll() {
  const isAll = !shown.q && !shown.modality && !shown.arrived && !shown.days && !shown.from && !shown.to;
  total = null;
  showPlace();
  if (!place.hasNext || !isAll) return;
  const own = request;
  const status = await dicomweb.status().catch(() => null);
  if (own !== request) return;
  total = status?.studies ?? null;
  showPlace();
}

/** Writes a line above the list. @param {() => string} text In the language of the page. @param {boolean} [isFailure] */
function say(text, isFailure = false) {
  said = text;
  hasFailed = isFailure;
  element("message").textContent = text();
  element("message").className = isFailure ? "failed" : "";
}

/** The form, the chips and the columns as they are now. */
function showForm() {
  const box = element("box");
  // What is being typed stays.
  if (document.activeElement !== box || box.value.trim() !== shown.q) box.value = shown.q;
  element("search").elements.from.value = shown.from;
  element("search").elements.to.value = shown.to;
  showDaysProblem();
  fill(element("date-chips"), dayNames.map((name) => chip(t(name), shown.days === name, { days: shown.days === name ? "" : name, from: "", to: "" })));
  const hasArrived = shown.arrived === "today";
  fill(element("arrival-chips"), chip(t("arrivedToday"), hasArrived, { arrived: hasArrived ? "" : "today" }));
  fill(element("modality-chips"), chipModalities.map((name) => chip(name, shown.modality === name, { modality: shown.modality === name ? "" : name })));
  fill(element("page-size"), pageSizes.map((size) => h("option", { value: size, selected: size === shown.size }, number(size))));
  fill(element("sort"), columns.flatMap(([key, name]) => ["", "-"].map((sign) => {
    const value = sign + name === "-StudyDate" ? "" : sign + name;
    return h("option", { value, selected: value === shown.sort }, `${t(key)} ${sign ? "↓" : "↑"}`);
  })));
  showColumns();
}

/** @param {string} text @param {boolean} isPressed @param {Partial<Shown>} change */
function chip(text, isPressed, change) {
  const press = () => {
    const parent = document.activeElement?.parentElement?.id;
    const index = [...(document.activeElement?.parentElement?.children ?? [])].indexOf(/** @type {Element} */ (document.activeElement));
    go({ ...change, page: 0 });
    // The chips are made anew; the keyboard stays where it was.
    if (parent?.endsWith("chips")) /** @type {HTMLElement | undefined} */ (element(parent).children[index])?.focus();
  };
  return h("button", { type: "button", class: "chip", "aria-pressed": String(isPressed), onclick: press }, text);
}

function showColumns() {
  const by = (shown.sort || "-StudyDate").replace("-", "");
  const isDown = (shown.sort || "-StudyDate").startsWith("-");
  element("caption").textContent = t("studies");
  fill(element("columns"), columns.map(([key, name, style]) => {
    const isSorted = name === by;
    // Days begin with the latest, all else with the first.
    const isNextDown = isSorted ? !isDown : name === "StudyDate";
    const next = isNextDown ? `-${name}` : name;
    const sort = () => {
      go({ sort: next === "-StudyDate" ? "" : next, page: 0 });
      element("columns").querySelector(`[data-by=${name}]`)?.focus();
    };
    const mark = h("span", { class: "mark", "aria-hidden": "true" }, isSorted ? (isDown ? "↓" : "↑") : "");
    const heading = h("th", { scope: "col", class: style, "aria-sort": isSorted && (isDown ? "descending" : "ascending") },
      h("button", { type: "button", class: "sort", "data-by": name, onclick: sort }, t(key), mark));
    return heading;
  }), h("th", { scope: "col" }, h("span", { class: "hidden" }, t("actions"))));
}

/** The studies of the page without those that are to be deleted. */
function visibleStudies() {
  return listed.filter((study) => !deletions.isPending(dicomweb.value(study, "0020000D")));
}

function showRows() {
  const focused = document.activeElement?.closest("#rows") ? document.activeElement.getAttribute("href") : null;
  fill(element("rows"), visibleStudies().map(row));
  clearTimeout(markTimer);
  const end = arrivals.nextEnd(Date.now());
  if (end < Infinity) markTimer = window.setTimeout(showMarks, end - Date.now() + 10);
  if (focused) /** @type {HTMLElement | null} */ (element("rows").querySelector(`[href="${CSS.escape(focused)}"]`))?.focus();
  showPlace();
}

function showPlace() {
  if (!listedKey) return;
  const { length } = visibleStudies();
  const isEmpty = length === 0 && !place.hasNext;
  element("previous").disabled = shown.page === 0;
  element("next").disabled = !place.hasNext;
  const [first, last] = [place.first + 1, place.first + length];
  const all = total === null ? (place.hasNext ? null : last) : total - deletions.count();
  element("page").textContent = isEmpty ? "" : all === null ? t("placeOfMore", { first, last }) : t("place", { first, last, all });
  const isAll = JSON.stringify({ ...shown, size: 0, sort: "" }) === JSON.stringify({ ...empty, size: 0 });
  element("table-box").hidden = isEmpty;
  element("pager").hidden = isEmpty && shown.page === 0;
  element("teach").hidden = !(isEmpty && isAll);
  if (isEmpty) fill(element("teach"), isAll ? teach(rights.includes("write")) : []);
  if (isEmpty && !isAll && !hasFailed) say(() => t("nothingFound"));
}

/** @param {dicomweb.DataSet} study */
function row(study) {
  const uid = dicomweb.value(study, "0020000D");
  const text = (/** @type {string} */ tag) => String(dicomweb.value(study, tag));
  const { first, second } = nameParts(dicomweb.value(study, "00100010"));
  const day = text("00080020");
  const arrival = arrivals.state(uid, Date.now());
  const person = [sex(text("00100040")), age(text("00100030"), day)].filter(Boolean).join(", ");
  const birth = date(text("00100030"));
  const name = h("a", { class: "open", href: studyUrl(uid), "aria-label": `${t("openStudy")}: ${studyTitle(study)}` }, first || t("noName"));
  const cell = (/** @type {import("./language.js").Key} */ label, /** @type {string} */ style, /** @type {import("./html.js").Child[]} */ ...children) =>
    h("td", { "data-label": t(label), class: style }, ...children);
  return h("tr", { class: arrival && "new" },
    cell("patient", "name", name, second && h("span", { class: "other" }, second), arrival && mark(arrival, Number(text("00201208")))),
    cell("patientId", "id", text("00100020")),
    cell("birthDate", "born", birth && h("span", {}, birth), birth && person && "\u00a0· ", person && h("span", {}, person)),
    cell("studyDate", "when", `${date(day)} ${time(text("00080030"))}`.trim()),
    cell("modality", "", ...(study["00080061"]?.Value ?? []).map((/** @type {string} */ one) => h("span", { class: "tag" }, one))),
    cell("description", "words", text("00081030")),
    cell("seriesCount", "number", number(Number(text("00201206")))),
    cell("imageCount", "number", number(Number(text("00201208")))),
    h("td", { class: "doing" }, ...actions(study, { mayDelete: rights.includes("delete"), hasWords: false, onError: fail })));
}

/** @param {"new" | "arriving"} arrival @param {number} count */
function mark(arrival, count) {
  return h("span", { class: `badge ${arrival}` }, arrival === "new" ? t("justArrived") : t("arriving", { count }));
}

/** Marks studies as arrived, which this page has stored. @param {Iterable<string>} studies */
export function markArrived(studies) {
  for (const study of studies) arrivals.mark(study, Date.now());
}

/** Shows the marks as they are now, and again when one ends. */
function showMarks() {
  if (isHere && listed.length) showRows();
}

/** Shows the list again in another language. */
export function translate() {
  if (!isHere) return;
  showForm();
  say(said, hasFailed);
  showRows();
}

