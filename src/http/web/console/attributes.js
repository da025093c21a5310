// The attributes of an instance as a table that can be searched.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { fill, h } from "./html.js";
import { t } from "./language.js";
import { message } from "./text.js";

/** @typedef {import("./study.js").Picture} Picture */
/** @typedef {{ tag: string, vr: string, keyword: string, value: string, depth: number }} Line */

/** Lines that are shown at once. */
const mostLines = 500;
const longestValue = 400;

/** A part that opens on request. @param {() => Picture | null} current The instance that is looked at. */
export function attributes(current) {
  const filter = h("input", { type: "search", "aria-label": t("searchAttributes"), placeholder: t("searchAttributes") });
  const body = h("tbody", {});
  const more = h("p", { class: "soft", role: "status" });
  const table = h("table", { class: "attributes" }, h("caption", { class: "hidden" }, t("attributes")),
    h("thead", {}, h("tr", {}, [t("tag"), t("keyword"), "VR", t("value")].map((text) => h("th", { scope: "col" }, text)))), body);
  const details = h("details", {}, h("summary", {}, t("attributes")), filter, more, h("div", { class: "table" }, table));
  /** @type {Line[]} */
  let lines = [];
  let shown = "";
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    const found = lines.filter(({ tag, keyword, value }) => `${tag} (${tag.slice(0, 4)},${tag.slice(4)}) ${keyword} ${value}`.toLowerCase().includes(wanted));
    fill(body, found.slice(0, mostLines).map(lineRow));
    more.textContent = found.length > mostLines ? t("firstLines", { shown: mostLines, count: found.length }) : t("lines", { count: found.length });
  };
  filter.addEventListener("input", show);
  const load = async () => {
    const picture = current();
    if (!details.open || !picture || shown === picture.instance) return;
    shown = picture.instance;
    try {
      lines = linesOf(await dicomweb.metadata(picture.study, picture.series, picture.instance));
      show();
    } catch (error) {
      shown = "";
      more.textContent = t("cannotShow", { why: message(error) });
    }
  };
  details.addEventListener("toggle", load);
  details.addEventListener("pointerenter", load);
  details.addEventListener("focusin", load);
  return details;
}

/** @param {Line} line */
function lineRow({ tag, vr, keyword, value, depth }) {
  const text = value.length > longestValue ? `${value.slice(0, longestValue)}…` : value;
  return h("tr", {}, h("td", {}, h("code", {}, `${"· ".repeat(depth)}(${tag.slice(0, 4)},${tag.slice(4)})`)), h("th", { scope: "row" }, keyword), h("td", {}, vr), h("td", { class: "words" }, text));
}

/** The lines of a document of the Native DICOM Model (PS3.19 Annex A). @param {Document} model @returns {Line[]} */
export function linesOf(model) {
  /** @type {Line[]} */
  const lines = [];
  /** @param {Element} parent @param {number} depth */
  const add = (parent, depth) => {
    for (const attribute of childrenOf(parent, "DicomAttribute")) {
      const of = (/** @type {string} */ name) => attribute.getAttribute(name) ?? "";
      lines.push({ tag: of("tag"), vr: of("vr"), keyword: of("keyword") || of("privateCreator"), value: valueOf(attribute), depth });
      for (const item of childrenOf(attribute, "Item")) add(item, depth + 1);
    }
  };
  add(model.documentElement, 0);
  return lines;
}

/** @param {Element} parent @param {string} name */
function childrenOf(parent, name) {
  return [...parent.children].filter((child) => child.localName === name);
}

/** @param {Element} attribute */
function valueOf(attribute) {
  const items = childrenOf(attribute, "Item").length;
  if (items) return t("items", { count: items });
  const names = childrenOf(attribute, "PersonName").map((name) => [...name.children].map((group) => [...group.children].map((part) => part.textContent).join("^")).join("="));
  const values = childrenOf(attribute, "Value").map((value) => value.textContent ?? "");
  if (childrenOf(attribute, "BulkData").length) return t("bulkData");
  if (childrenOf(attribute, "InlineBinary").length) return t("binary");
  return [...names, ...values].join(" \\ ");
}
