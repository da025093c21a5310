// The language of the page: its messages, numbers and dates. The browser's choice, or that of the user.
// @ts-check

import { messages as en } from "./messages-en.js";
import { messages as ko } from "./messages-ko.js";

/** @typedef {keyof typeof en} Key */
/** @typedef {"en" | "ko"} Language */

const all = { en, ko };
const key = "cuspid.language";

/** The languages, by their own names. @type {[Language, string][]} */
export const languages = [["en", "English"], ["ko", "한국어"]];
/** Tells of another language: `change`. */
export const events = new EventTarget();

/** @type {Language} */
let current = chosen();

/** @returns {Language} */
function chosen() {
  const wanted = [localStorage.getItem(key) ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2));
  return wanted.find((tag) => tag in all) === "ko" ? "ko" : "en";
}

/** The language of the page. @returns {Language} */
export function language() {
  return current;
}

/** @param {Language} next */
export function setLanguage(next) {
  localStorage.setItem(key, next);
  current = next;
  translatePage();
  events.dispatchEvent(new Event("change"));
}

/**
 * A message. `{name}` in it is replaced by a value; numbers are written as the language does. A message with forms
 * takes the one for the value `count`.
 * @param {Key} name
 * @param {Record<string, string | number>} [values]
 */
export function t(name, values = {}) {
  /** @type {string | { one?: string, other: string }} */
  const message = all[current][name];
  const form = typeof message === "string" ? message : pluralForm(message, Number(values.count));
  return form.replaceAll(/\{(\w+)\}/g, (_, value) => (typeof values[value] === "number" ? number(values[value]) : values[value] ?? ""));
}

/** @param {{ one?: string, other: string }} forms @param {number} count */
function pluralForm(forms, count) {
  return (new Intl.PluralRules(current).select(count) === "one" && forms.one) || forms.other;
}

/** @param {number} value @param {Intl.NumberFormatOptions} [options] */
export function number(value, options) {
  return new Intl.NumberFormat(current, options).format(value);
}

/** A point in time. @param {Date} value */
export function moment(value) {
  return new Intl.DateTimeFormat(current, { dateStyle: "medium", timeStyle: "short" }).format(value);
}

/** A span of time. @param {Date} first @param {Date} last */
export function period(first, last) {
  return new Intl.DateTimeFormat(current, { dateStyle: "medium", timeStyle: "short" }).formatRange(first, last);
}

/** A point in time, to the second. @param {Date} value */
export function exactMoment(value) {
  return new Intl.DateTimeFormat(current, { dateStyle: "medium", timeStyle: "medium" }).format(value);
}

/** Writes the texts of elements that name their message in `data-t`, and of attributes in `data-t-label` and the like. */
export function translatePage() {
  document.documentElement.lang = current;
  for (const found of document.querySelectorAll("[data-t]")) {
    found.textContent = t(/** @type {Key} */ (/** @type {HTMLElement} */ (found).dataset.t));
  }
  for (const [data, attribute] of [["tLabel", "aria-label"], ["tPlaceholder", "placeholder"]]) {
    for (const found of document.querySelectorAll(`[data-${data.replace("L", "-l").replace("P", "-p")}]`)) {
      found.setAttribute(attribute, t(/** @type {Key} */ (/** @type {HTMLElement} */ (found).dataset[data])));
    }
  }
}
