// The list of studies: search, pages, series, and what can be done with a study.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { element } from "./element.js";
import * as signIn from "./sign-in.js";
import { count, date, message, personName, time } from "./text.js";

const pageSize = 25;
// Where OHIF and the Cuspid viewer are; empty if they are not installed.
const { viewer, view } = document.documentElement.dataset;
const fields = /** @type {const} */ (["name", "id", "accession", "modality", "from", "to"]);

/** What is shown: it is also in the URL, so that a reload, the back button and a copied link show the same. */
let shown = { search: empty(), offset: 0 };
/** Counts the lists that were asked for: only the last is shown. */
let request = 0;
/** @type {string[]} */
let rights = [];

/** @returns {dicomweb.Search} */
function empty() {
  return { name: "", id: "", accession: "", modality: "", from: "", to: "" };
}

/** Makes the section of studies work. @param {(error: unknown) => void} onError */
export function start(onError) {
  element("search").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const search = formSearch();
    if (search.from && search.to && search.from > search.to) {
      say("The first day is later than the last.", true);
      return;
    }
    go({ search, offset: 0 });
  });
  element("search").addEventListener("reset", () => setTimeout(() => go({ search: empty(), offset: 0 })));
  element("previous").addEventListener("click", () => go({ ...shown, offset: Math.max(0, shown.offset - pageSize) }));
  element("next").addEventListener("click", () => go({ ...shown, offset: shown.offset + pageSize }));
  addEventListener("popstate", () => {
    readUrl();
    list();
  });
  element("no-viewer").hidden = Boolean(viewer);
  fail = onError;
  readUrl();
}

/** What becomes of an error that is not about the list alone. @type {(error: unknown) => void} */
let fail = () => {};

/** What the caller may do decides what is offered. @param {string[]} given */
export function setRights(given) {
  rights = given;
}

/** @returns {dicomweb.Search} */
function formSearch() {
  const form = new FormData(element("search"));
  const search = empty();
  for (const field of fields) search[field] = String(form.get(field) ?? "").trim();
  return search;
}

/** @param {typeof shown} next */
function go(next) {
  shown = next;
  const query = new URLSearchParams(Object.entries(shown.search).filter(([, value]) => value));
  if (shown.offset) query.set("offset", String(shown.offset));
  const url = new URL(location.href);
  url.search = query.toString();
  history.pushState(null, "", url);
  return list();
}

function readUrl() {
  const query = new URLSearchParams(location.search);
  const search = empty();
  for (const field of fields) {
    search[field] = query.get(field) ?? "";
    element("search").elements[field].value = search[field];
  }
  shown = { search, offset: Math.max(0, Math.floor(Number(query.get("offset")) || 0)) };
}

/** @param {string} text @param {boolean} [isFailure] */
function say(text, isFailure = false) {
  element("message").textContent = text;
  element("message").className = isFailure ? "failed" : "";
}

/** Lists the studies again. */
export async function list() {
  const own = ++request;
  try {
    const page = await dicomweb.studies(shown.search, shown.offset, pageSize);
    if (own !== request) return;
    showPage(page);
    const isFirst = shown.offset === 0 && !Object.values(shown.search).some(Boolean);
    const none = isFirst ? "No studies are stored yet. Drop files here, or send them from a device." : "No studies found.";
    say(page.studies.length ? "" : none);
  } catch (error) {
    if (own !== request) return;
    fail(error);
    const isSignedOut = error instanceof dicomweb.ServerError && error.status === 401;
    say(isSignedOut ? "" : `The studies cannot be listed: ${message(error)}`, true);
  }
}

/** @param {dicomweb.StudiesPage} page */
function showPage({ studies, hasNext }) {
  element("rows").replaceChildren(...studies.map(studyRow));
  element("previous").disabled = shown.offset === 0;
  element("next").disabled = !hasNext;
  element("page").textContent = studies.length ? `${shown.offset + 1} to ${shown.offset + studies.length}` : "";
}

/** @param {dicomweb.DataSet} study */
function studyRow(study) {
  const uid = dicomweb.value(study, "0020000D");
  const name = personName(dicomweb.value(study, "00100010")) || "no name";
  const day = date(dicomweb.value(study, "00080020"));
  const row = document.createElement("tr");
  const cells = [
    ["Patient", name],
    ["ID", dicomweb.value(study, "00100020")],
    ["Date", `${day} ${time(dicomweb.value(study, "00080030"))}`.trim()],
    ["Description", dicomweb.value(study, "00081030")],
    ["Modalities", (study["00080061"]?.Value ?? []).join(", ")],
    ["Series", dicomweb.value(study, "00201206"), "number"],
    ["Instances", dicomweb.value(study, "00201208"), "number"],
  ];
  for (const [label, text, style] of cells) {
    const cell = row.insertCell();
    cell.textContent = text;
    cell.dataset.label = label;
    if (style) cell.className = style;
  }
  const title = day ? `${name}, ${day}` : name;
  row.cells[0].prepend(seriesButton(row, uid, title));
  row.insertCell().append(...actions(row, uid, title, dicomweb.value(study, "00201208")));
  return row;
}

/** @param {HTMLTableRowElement} row @param {string} uid @param {string} title @param {number} instances */
function actions(row, uid, title, instances) {
  const all = [];
  if (view) {
    const link = document.createElement("a");
    link.href = `${view}?study=${encodeURIComponent(uid)}`;
    all.push(labelled(link, "View", title));
  }
  if (viewer) {
    const link = document.createElement("a");
    link.href = `${viewer}viewer?StudyInstanceUIDs=${encodeURIComponent(uid)}`;
    all.push(labelled(link, "Open in viewer", title));
  }
  all.push(labelled(downloadLink(uid, title), "Download", title));
  if (rights.includes("delete")) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => remove(row, uid, `${title}, ${count(instances, "instance")}`));
    all.push(labelled(button, "Delete", title));
  }
  return all;
}

/** Every row has the same words; a screen reader has the patient besides. @param {HTMLElement} target @param {string} text @param {string} title */
function labelled(target, text, title) {
  target.textContent = text;
  target.ariaLabel = `${text}: ${title}`;
  return target;
}

/** @param {string} uid @param {string} title */
function downloadLink(uid, title) {
  const link = document.createElement("a");
  link.href = dicomweb.zipUrl(uid);
  const name = `${title.replaceAll(/[\\/:*?"<>|,\s]+/g, "_")}.zip`;
  link.download = name;
  if (signIn.isNeeded) link.addEventListener("click", (event) => {
    event.preventDefault();
    download(link.href, name);
  });
  return link;
}

/** A link cannot carry a token, so the page fetches the file. @param {string} url @param {string} name */
async function download(url, name) {
  try {
    say(`${name} is being fetched.`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await dicomweb.bytes(url, "application/zip"));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say("");
  } catch (error) {
    fail(error);
    say(`${name} cannot be fetched: ${message(error)}`, true);
  }
}

/** @param {HTMLTableRowElement} row @param {string} uid @param {string} title */
async function remove(row, uid, title) {
  if (!confirm(`Delete this study for good?\n\n${title}`)) return;
  try {
    await dicomweb.deleteStudy(uid);
    row.remove();
    await list();
    say(`Deleted: ${title}`);
  } catch (error) {
    fail(error);
    say(`The study cannot be deleted: ${message(error)}`, true);
  }
}

/** A button that shows and hides the series of a study, in a row below its own. @param {HTMLTableRowElement} row @param {string} uid @param {string} title */
function seriesButton(row, uid, title) {
  const button = document.createElement("button");
  /** @type {HTMLTableRowElement | null} */
  let below = null;
  const mark = () => {
    button.textContent = below ? "\u2212" : "+";
    button.ariaExpanded = String(below !== null);
    button.ariaLabel = `${below ? "Hide" : "Show"} series: ${title}`;
  };
  button.type = "button";
  button.addEventListener("click", () => {
    below?.remove();
    below = below ? null : document.createElement("tr");
    mark();
    if (!below) return;
    row.after(below);
    listSeries(below, row.cells.length, uid);
  });
  mark();
  return button;
}

/** @param {HTMLTableRowElement} row @param {number} columns @param {string} study */
async function listSeries(row, columns, study) {
  const cell = row.insertCell();
  cell.colSpan = columns;
  try {
    const found = await dicomweb.series(study);
    const number = (/** @type {dicomweb.DataSet} */ series) => Number(dicomweb.value(series, "00200011"));
    found.sort((one, other) => number(one) - number(other));
    const list = document.createElement("ul");
    list.className = "series";
    list.append(...found.map((series) => seriesCard(study, series)));
    cell.append(list);
  } catch (error) {
    fail(error);
    cell.textContent = `The series cannot be listed: ${message(error)}`;
  }
}

/** @param {string} study @param {dicomweb.DataSet} series */
function seriesCard(study, series) {
  const card = document.createElement("li");
  const uid = dicomweb.value(series, "0020000E");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.loading = "lazy";
  show(picture, dicomweb.thumbnailUrl(study, uid));
  const lines = [
    `${dicomweb.value(series, "00080060")} ${dicomweb.value(series, "00200011")}`,
    dicomweb.value(series, "0008103E"),
    count(dicomweb.value(series, "00201209"), "instance"),
  ];
  const target = viewer ? document.createElement("a") : document.createElement("div");
  if (target instanceof HTMLAnchorElement) {
    const query = new URLSearchParams({ StudyInstanceUIDs: study, initialSeriesInstanceUID: uid });
    target.href = `${viewer}viewer?${query}`;
  }
  target.append(picture);
  for (const text of lines) {
    const line = document.createElement("span");
    line.textContent = text;
    target.append(line);
  }
  card.append(target);
  return card;
}

/** Shows a picture. Where a token is needed, the picture is fetched: an element cannot say who asks. @param {HTMLImageElement} picture @param {string} url */
async function show(picture, url) {
  if (!signIn.isNeeded) {
    picture.src = url;
    return;
  }
  const bytes = await dicomweb.bytes(url, "image/*").catch(() => null);
  if (!bytes) return;
  picture.src = URL.createObjectURL(bytes);
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
}
