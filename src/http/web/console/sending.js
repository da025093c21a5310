// The part of the status page about what the server sends to other systems: forwarding, and reports of storage commitment.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { h } from "./html.js";
import { moment, number, t } from "./language.js";
import { notice } from "./notices.js";
import { message } from "./text.js";

/** The destinations whose list of failures is open. @type {Set<string>} */
const open = new Set();

/**
 * Sections, none where there is nothing to say.
 * @param {dicomweb.Status} status
 * @param {{ mayRetry: boolean, onRetried: () => void }} options
 */
export function sending({ forwarding, commitments }, options) {
  return [
    forwarding.length > 0 && h("section", { id: "forwarding", class: "sending" }, h("h2", {}, t("forwarding")), h("p", { class: "soft" }, t("forwardingHelp")),
      forwarding.map((one) => destination(one, options))),
    commitments.length > 0 && h("section", { id: "commitments", class: "sending" }, h("h2", {}, t("commitment")), h("p", { class: "soft" }, t("commitmentHelp")),
      commitments.map(peer)),
  ];
}

/** @param {dicomweb.Forwarding} one @param {{ mayRetry: boolean, onRetried: () => void }} options */
function destination(one, { mayRetry, onRetried }) {
  const button = mayRetry && one.failed > 0 && h("button", { type: "button", class: "small", id: `retry-${one.destination}`, "aria-label": `${t("sendAgain")}: ${one.destination}`,
    onclick: (/** @type {Event} */ event) => retry(/** @type {HTMLButtonElement} */ (event.currentTarget), one.destination, onRetried) }, t("sendAgain"));
  const failed = h("span", { class: one.failed > 0 ? "failed" : "" }, number(one.failed));
  return h("article", { "aria-label": one.destination }, h("h3", {}, one.destination), h("dl", {},
    fact(t("waiting"), number(one.waiting), one.waiting_since_ms !== null && since(one.waiting_since_ms)),
    fact(t("sentCount"), number(one.sent), one.last_sent_ms !== null && last(one.last_sent_ms)),
    fact(t("failedCount"), failed, button)),
  problem(one), failures(one));
}

/** @param {dicomweb.Commitments} one */
function peer(one) {
  const givenUp = h("span", { class: one.given_up > 0 ? "failed" : "" }, number(one.given_up));
  return h("article", { "aria-label": one.peer }, h("h3", {}, one.peer), h("dl", {},
    fact(t("waiting"), number(one.waiting), one.waiting_since_ms !== null && since(one.waiting_since_ms)),
    fact(t("reportedCount"), number(one.reported), one.last_reported_ms !== null && last(one.last_reported_ms)),
    fact(t("givenUpCount"), givenUp, one.last_given_up_ms !== null && last(one.last_given_up_ms))),
  problem(one));
}

/** The last error, while something waits or has failed. @param {{ last_error: string | null, last_error_ms: number | null }} one */
function problem({ last_error: error, last_error_ms: at }) {
  return error !== null && h("p", { class: "soft words" }, t("lastError", { when: moment(new Date(at ?? 0)), why: error }));
}

/** @param {dicomweb.Forwarding} one */
function failures({ destination, failures, failed }) {
  if (failures.length === 0) return null;
  const line = (/** @type {dicomweb.ForwardFailure} */ failure) => h("li", {},
    h("a", { href: `#/studies/${failure.study}` }, t("studyOf", { uid: failure.instance })), ` ${moment(new Date(failure.failed_ms))}: ${failure.error}`);
  const remember = (/** @type {Event} */ event) => {
    if (/** @type {HTMLDetailsElement} */ (event.currentTarget).open) open.add(destination);
    else open.delete(destination);
  };
  const rest = failed > failures.length && h("li", {}, t("andMore", { count: failed - failures.length }));
  return h("details", { open: open.has(destination), ontoggle: remember }, h("summary", {}, t("notSent")), h("ul", { class: "words" }, failures.map(line), rest));
}

/** @param {string} name @param {...import("./html.js").Child} values */
function fact(name, ...values) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...values));
}

/** @param {number} at */
function since(at) {
  return h("small", {}, t("since", { when: moment(new Date(at)) }));
}

/** @param {number} at */
function last(at) {
  return h("small", {}, t("lastAt", { when: moment(new Date(at)) }));
}

/** @param {HTMLButtonElement} button @param {string} destination @param {() => void} onRetried */
async function retry(button, destination, onRetried) {
  button.disabled = true;
  try {
    const { retried } = await dicomweb.retryForwarding(destination);
    notice(t("willBeSent", { count: retried, destination }));
    onRetried();
  } catch (error) {
    button.disabled = false;
    notice(t("cannotSendAgain", { why: message(error) }), { isFailure: true });
  }
}
