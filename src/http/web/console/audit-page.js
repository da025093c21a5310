// The page of the audit log: who saw, stored, deleted and searched for what. Its filters and its place are in the URL.
// @ts-check

import { auditUrl, save, studyUrl } from "./actions.js";
import { csv, jsonLines } from "./audit-export.js";
import { details, eventWords, events, outcome } from "./audit-words.js";
import * as dicomweb from "./dicomweb.js";
import { element, fill, h, icon } from "./html.js";
import { exactMoment, moment, period, t } from "./language.js";
import { notice } from "./notices.js";
import { message } from "./text.js";

/** @typedef {import("./audit-words.js").AuditRecord} AuditRecord */

const pageSize = 50;
/** Requests for one page: the server reads a limited number of records for each, and may find none. */
const mostRequests = 10;
/** The records of a request for a file, and the most in a file. */
const exportSize = 1000;
const mostExported = 20_000;
/** The filters, which are parameters of the URL and fields of the form. */
const filters = /** @type {const} */ (["event", "user", "patient", "study", "from", "to"]);

/** @typedef {Record<typeof filters[number] | "after", string>} Shown */

/** @type {Shown} */
let shown = { event: "", user: "", patient: "", study: "", from: "", to: "", after: "" };
let isHere = false;
let mayLook = false;
/** @type {AuditRecord[]} */
let listed = [];
/** The place after the page; empty at the end of the log. */
let next = "";
let request = new AbortController();
/** @type {(error: unknown) => void} */
let fail = () => {};

/** @param {{ rights: string[], onError: (error: unknown) => void }} options */
export function start({ rights, onError }) {
  mayLook = rights.includes("administer");
  fail = onError;
}

/** Shows the part of the log that a URL names. @param {URLSearchParams} query */
export async function show(query) {
  const before = shown.study;
  for (const name of [...filters, /** @type {const} */ ("after")]) shown[name] = query.get(name) ?? "";
  document.title = `${t(shown.study ? "auditOfStudy" : "auditLog")} · Cuspid`;
  if (!mayLook) {
    leave();
    fill(element("audit"), h("h1", {}, t("auditLog")), h("p", { id: "audit-message", role: "status" }, t("auditNoRight")));
    return;
  }
  if (!isHere || before !== shown.study) frame();
  isHere = true;
  showForm();
  await list();
}

/** Another page is shown. */
export function leave() {
  isHere = false;
  request.abort();
}

/** Shows the page again in another language. */
export function translate() {
  if (element("audit").hidden) return;
  if (!mayLook) return void show(new URLSearchParams());
  frame();
  showForm();
  if (element("audit-table").ariaBusy !== "true") showRecords();
}

/** Goes to another part of the log. @param {Partial<Shown>} change */
function go(change) {
  const wanted = { ...shown, after: "", ...change };
  const hash = auditUrl(wanted);
  // The same once more is a look for what is new.
  if (hash !== location.hash) history.pushState(null, "", hash);
  return show(new URLSearchParams(wanted));
}

/** Builds the page without its records. */
function frame() {
  const heads = /** @type {const} */ (["auditTime", "auditUser", "auditEvent", "patient", "auditOutcome", "auditAddress"]);
  fill(element("audit"),
    shown.study && h("a", { class: "back", href: studyUrl(shown.study) }, icon("back"), t("auditBack")),
    h("div", { class: "heading" },
      h("h1", {}, t(shown.study ? "auditOfStudy" : "auditLog")),
      h("p", { class: "buttons" }, exportButton("CSV", "csv", csv), exportButton("JSON", "jsonl", jsonLines))),
    form(),
    h("p", { class: "failed", role: "alert", id: "audit-problem" }),
    h("p", { role: "status", id: "audit-message" }, t("loading")),
    h("div", { class: "table", id: "audit-table", tabindex: 0, role: "region", "aria-label": t("auditLog") },
      h("table", { class: "audit" },
        h("caption", { class: "hidden" }, t("auditLog")),
        h("thead", {}, h("tr", {}, heads.map((key) => h("th", { scope: "col" }, t(key))))),
        h("tbody", { id: "audit-rows" }))),
    h("nav", { class: "pager", "aria-label": t("auditPages") },
      h("button", { type: "button", id: "audit-newest", onclick: () => go({}) }, t("auditNewest")),
      h("button", { type: "button", id: "audit-older", onclick: () => go({ after: next }) }, t("auditOlder"))));
}

function form() {
  const field = (/** @type {typeof filters[number]} */ name, /** @type {import("./language.js").Key} */ key, /** @type {HTMLElement} */ input) =>
    h("label", { "data-field": name }, h("span", {}, t(key)), input);
  const text = (/** @type {string} */ name) => h("input", { name, autocomplete: "off", spellcheck: "false", maxlength: 256 });
  const day = (/** @type {string} */ name) => h("input", { name, type: "date", max: "9999-12-31" });
  const choice = h("select", { name: "event", onchange: () => submit() }, h("option", { value: "" }, t("auditAll")), events.map(([name, key]) => h("option", { value: name }, t(key))));
  const made = h("form", { id: "audit-form", role: "search", "aria-label": t("auditSearch"), onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    submit();
  } },
  field("event", "auditEvent", choice), field("user", "auditUser", text("user")), field("patient", "patientId", text("patient")),
  field("study", "auditStudy", text("study")), field("from", "from", day("from")), field("to", "to", day("to")),
  h("p", { class: "buttons" }, h("button", { class: "main" }, t("auditSearch")),
    h("button", { type: "button", id: "audit-clear", onclick: () => go({ event: "", user: "", patient: "", study: "", from: "", to: "" }) }, t("auditClear"))));
  return made;
}

/** The values of the form. @returns {Record<string, string>} */
function given() {
  const { elements } = element("audit-form");
  return Object.fromEntries(filters.map((name) => [name, elements[name].value.trim()]));
}

function submit() {
  const wanted = given();
  const isBackwards = Boolean(wanted.from && wanted.to && wanted.from > wanted.to);
  element("audit-problem").textContent = isBackwards ? t("daysBackwards") : "";
  if (!isBackwards) go(wanted);
}

/** Writes the filters of the URL into the form. */
function showForm() {
  const { elements } = element("audit-form");
  for (const name of filters) if (elements[name].value !== shown[name]) elements[name].value = shown[name];
  element("audit-problem").textContent = "";
}

/** The parameters of the server. Days are those of this computer's clock; anything else is for the server to refuse. */
function parameters() {
  const { from, to, event, user, patient, study } = shown;
  const wanted = { from: midnight(from, 0), to: midnight(to, 1), event, user, patient, study };
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
}

/** The time at which a day begins, or one some days later. @param {string} day @param {number} later */
function midnight(day, later) {
  const time = new Date(`${day}T00:00:00`);
  time.setDate(time.getDate() + later);
  return Number.isNaN(time.getTime()) ? day : time.toISOString();
}

async function list() {
  request.abort();
  request = new AbortController();
  const { signal } = request;
  const table = element("audit-table");
  table.ariaBusy = "true";
  const waiting = window.setTimeout(() => table.classList.add("waiting"), 300);
  try {
    const page = await find(signal);
    if (signal.aborted) return;
    listed = page.records;
    next = page.next;
    showRecords();
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
    [listed, next] = [[], ""];
    showRecords(t("auditCannot", { why: message(error) }));
  } finally {
    clearTimeout(waiting);
    if (!signal.aborted) {
      element("audit-table").classList.remove("waiting");
      element("audit-table").ariaBusy = "false";
    }
  }
}

/** A page of records: further ones are requested as long as none is found, up to a limit. @param {AbortSignal} signal */
async function find(signal) {
  let page = await dicomweb.auditLog(parameters(), { after: shown.after, limit: pageSize }, signal);
  for (let count = 1; page.records.length === 0 && page.next && count < mostRequests; count++) {
    page = await dicomweb.auditLog(parameters(), { after: page.next, limit: pageSize }, signal);
  }
  return page;
}

/** @param {string} [problem] Why there are no records. */
function showRecords(problem = "") {
  fill(element("audit-rows"), listed.map(row));
  element("audit-table").hidden = listed.length === 0;
  element("audit-older").disabled = !next;
  element("audit-newest").disabled = !shown.after;
  for (const button of document.querySelectorAll("#audit .export")) /** @type {HTMLButtonElement} */ (button).disabled = listed.length === 0;
  const line = element("audit-message");
  line.textContent = problem || said();
  line.className = problem ? "failed" : "soft";
}

/** The line above the records. */
function said() {
  const [last, first] = [listed[0], listed.at(-1)];
  if (last && first) return t("auditCount", { count: listed.length, times: period(new Date(first.time), new Date(last.time)) });
  // A place begins with the time of its record in milliseconds.
  if (next) return t("auditNotYet", { when: moment(new Date(Number(next.split("#")[0]))) });
  return t(shown.after ? "auditEnd" : "auditNothing");
}

/** @param {AuditRecord} record */
function row(record) {
  const { time, user, address = "", protocol, patient, study } = record;
  const { text, isFailure } = outcome(record);
  const way = t(protocol === "dimse" ? "auditDimse" : protocol === "http" ? "auditHttp" : "auditServer");
  return h("tr", { "data-event": record.event },
    h("td", { class: "when" }, h("time", { datetime: time }, exactMoment(new Date(time)))),
    h("td", { class: "words" }, user ? filterLink("user", user, t("auditByUser", { name: user })) : h("span", { class: "soft" }, t("auditNobody"))),
    h("td", { class: "words" }, h("strong", {}, eventWords(record)), details(record).map((line) => h("span", { class: "soft detail" }, line))),
    h("td", { class: "words" }, patient && filterLink("patient", patient, t("auditByPatient", { name: patient })),
      study && study !== shown.study && h("a", { class: "study", href: studyUrl(study), title: study, "aria-label": `${t("openStudy")}: ${study}` }, t("auditOpen"))),
    h("td", { class: isFailure ? "outcome failed" : "outcome" }, text),
    h("td", { class: "from" }, [address, way].filter(Boolean).join(" · ")));
}

/** A link that shows only the records with a value. @param {"user" | "patient"} name @param {string} value @param {string} label */
function filterLink(name, value, label) {
  return h("a", { href: auditUrl({ ...shown, after: "", [name]: value }), title: label, "aria-label": label }, value);
}

/** @param {string} name @param {string} extension @param {(records: AuditRecord[]) => Blob} write */
function exportButton(name, extension, write) {
  const label = t("auditExport", { name });
  return h("button", { type: "button", class: "export", id: `audit-${extension}`, title: label, "aria-label": label, disabled: true, onclick: () => exportAll(extension, write) }, icon("download"), name);
}

/** Gives all records that match the filters to the user, as a file. @param {string} extension @param {(records: AuditRecord[]) => Blob} write */
async function exportAll(extension, write) {
  const name = `audit-${new Date().toISOString().slice(0, 10)}.${extension}`;
  const done = notice(t("fetching", { name }), { seconds: 3600 });
  try {
    const wanted = parameters();
    /** @type {AuditRecord[]} */
    const records = [];
    let after = "";
    do {
      const page = await dicomweb.auditLog(wanted, { after, limit: exportSize });
      records.push(...page.records);
      after = page.next;
    } while (after && records.length < mostExported);
    save(write(records), name);
    if (after) notice(t("auditCut", { count: records.length, command: "cuspid audit export" }), { isFailure: true });
  } catch (error) {
    notice(t("cannotFetch", { name, why: message(error) }), { isFailure: true });
  } finally {
    done();
  }
}
