// How devices and programs reach this server: to copy, and as a picture for a phone.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { fill, h, icon } from "./html.js";
import { t } from "./language.js";
import { copy } from "./notices.js";
import { qrCode } from "./qr.js";

/** The card, which fills itself. */
export function connectCard() {
  const card = h("div", { class: "connect" });
  show(card, null);
  dicomweb.status().then((status) => show(card, status), () => {});
  return card;
}

/** Whether a name leads every device to itself: `localhost` and the loopback addresses (RFC 6761 §6.3, RFC 1122 §3.2.1.3, RFC 4291 §2.5.3). @param {string} host */
function isLoopback(host) {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/i.test(host);
}

/** @param {Element} card @param {dicomweb.Status | null} status */
function show(card, status) {
  const page = new URL(".", document.baseURI);
  const lines = [
    ...(status?.dimse ? [[t("aeTitle"), status.dimse.ae_title], [t("host"), page.hostname], [t("port"), String(status.dimse.port)]] : []),
    ["DICOMweb", dicomweb.service],
    [t("thisPage"), page.href],
  ];
  const isLocal = isLoopback(page.hostname);
  fill(card, h("dl", {}, lines.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, value), copyButton(name, value))))),
    status?.dimse === null && h("p", { class: "off" }, t("dimseOff")),
    isLocal ? h("p", { class: "local" }, t("onlyHere", { host: page.hostname })) : h("figure", {}, qrCode(page.href, t("qrCode")), h("figcaption", {}, t("qrCode"))));
}

/** @param {string} name @param {string} value */
function copyButton(name, value) {
  return h("button", { type: "button", class: "action", "aria-label": `${t("copy")}: ${name}`, title: t("copy"), onclick: () => copy(value) }, icon("copy"));
}
