// The page that says how the server is.
// @ts-check

import { connectCard } from "./connect.js";
import * as dicomweb from "./dicomweb.js";
import { element, fill, h } from "./html.js";
import { moment, number, t } from "./language.js";
import { sending } from "./sending.js";
import { duration, message, size } from "./text.js";

/** Milliseconds between two looks. */
const interval = 10_000;
let timer = 0;
let mayRetry = false;
/** @type {(error: unknown) => void} */
let fail = () => {};

/** @param {(error: unknown) => void} onError */
export function start(onError) {
  fail = onError;
}

/** @param {string[]} rights */
export function setRights(rights) {
  mayRetry = rights.includes("administer");
}

/** Shows the page. */
export async function show() {
  leave();
  document.title = `${t("status")} · Cuspid`;
  const facts = h("div", { id: "facts", "aria-live": "off" }, h("p", { class: "soft" }, t("loading")));
  fill(element("server"), h("h1", {}, t("status")), facts, h("section", {}, h("h2", {}, t("connect")), h("p", {}, t("connectHelp")), connectCard()));
  timer = window.setInterval(() => document.hidden || look(facts), interval);
  await look(facts);
}

/** Another page is shown. */
export function leave() {
  clearInterval(timer);
  timer = 0;
}

/** Shows the page again in another language. */
export function translate() {
  if (timer) show();
}

/** @param {Element} facts */
async function look(facts) {
  try {
    const status = await dicomweb.status();
    // An archive in which nothing was stored yet has no counts.
    const held = document.activeElement?.id;
    const sent = sending(status, { mayRetry, onRetried: () => look(facts) });
    fill(facts, h("section", {}, h("dl", { class: "facts" }, lines(status))), ...sent, devices(status));
    // The button that has the focus was made anew.
    if (held?.startsWith("retry-")) element(held)?.focus();
  } catch (error) {
    fail(error);
    fill(facts, h("p", { class: "failed", role: "alert" }, t("cannotReach", { why: message(error) })));
  }
}

/** @param {dicomweb.Status} status */
function lines(status) {
  const { disk, previews_waiting: waiting } = status;
  const fact = (/** @type {string} */ name, /** @type {import("./html.js").Child[]} */ ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  const used = disk ? disk.total_bytes - disk.free_bytes : 0;
  return [
    fact(t("storing"), h("span", { class: status.can_store ? "good" : "failed" }, t(status.can_store ? "storingWorks" : "storingFails"))),
    fact(t("version"), status.version),
    fact(t("uptime"), duration(status.uptime_seconds)),
    fact(t("studies"), status.studies === null ? h("span", { class: "soft" }, t("notCounted", { command: "cuspid check --repair" })) : number(status.studies)),
    status.previews_waiting !== null && fact(t("previewsWaiting"), number(waiting ?? 0)),
    disk && fact(t("disk"), h("meter", { min: 0, max: disk.total_bytes, high: 0.9 * disk.total_bytes, value: used, "aria-label": t("disk") }),
      t("diskFree", { free: size(disk.free_bytes), total: size(disk.total_bytes) })),
    fact(t("largestFile"), size(status.max_instance_bytes)),
  ];
}

/** @param {dicomweb.Status} status */
function devices({ devices }) {
  if (devices.length === 0) return h("section", {}, h("h2", {}, t("devices")), h("p", { class: "soft" }, t("noDevices")));
  const row = (/** @type {dicomweb.Status["devices"][number]} */ device) =>
    h("tr", {}, h("th", { scope: "row" }, device.name), h("td", {}, moment(new Date(device.last_received_ms))), h("td", { class: "number" }, number(device.instances)));
  const heads = [t("device"), t("lastReceived"), t("imageCount")].map((text, index) => h("th", { scope: "col", class: index === 2 && "number" }, text));
  return h("section", {}, h("h2", {}, t("devices")), h("div", { class: "table plain" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, devices.map(row)))));
}
