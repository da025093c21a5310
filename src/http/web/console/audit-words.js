// The records of the audit log in words: the event, its details and its outcome.
// @ts-check

import { t } from "./language.js";

/**
 * @typedef {import("./language.js").Key} Key
 * @typedef {{ time: string, event: string, code: string, type?: string, action: string, outcome: number, user: string, address?: string,
 *   rights?: string[], protocol: string, study?: string, patient?: string, query?: string, transfer?: string, destination?: string,
 *   instances?: number, detail?: string }} AuditRecord A record of `GET /audit` (docs/audit.md).
 */

/** The events of a tenant's log, in the order in which a filter offers them. @type {[string, Key][]} */
export const events = [
  ["instances-accessed", "auditOfViews"], ["instances-transferred", "auditOfTransfers"], ["begin-transferring", "auditOfBegins"],
  ["study-deleted", "auditDeleted"], ["query", "auditOfSearches"], ["security-alert", "auditOfAlerts"],
  ["user-authentication", "auditSignedIn"], ["audit-log-used", "auditLogRead"],
];

/** The types of security alerts and of activities. @type {Record<string, Key>} */
const types = {
  "restricted-function": "auditRefused", "node-authentication": "auditNotLetIn", login: "auditSignedIn", start: "auditStarted", stop: "auditStopped",
};
/** What became of the link of a share, by the detail. @type {Record<string, Key>} */
const links = { "link opened": "auditLinkOpened", "wrong code": "auditWrongCode" };
/** What became of received instances, by the action. @type {Record<string, Key>} */
const received = { C: "auditStored", R: "auditStoredAgain", U: "auditReplaced" };
/** Parameters of a search that say nothing about what was searched for. */
const unspoken = ["limit", "offset", "includefield", "orderby", "fuzzymatching"];

/** The message of a record's event. @param {AuditRecord} record @returns {Key} */
function eventKey({ event, type = "", action, transfer, protocol, detail = "", query = "" }) {
  if (event === "instances-accessed") return action === "D" ? "auditDeletedPart" : detail === "thumbnails" ? "auditThumbnails" : "auditViewed";
  if (event === "instances-transferred" && transfer === "received") return received[action] ?? "auditStored";
  if (event === "instances-transferred") return protocol === "dimse" ? "auditSent" : detail === "single instances" ? "auditDownloadedSome" : "auditDownloaded";
  if (event === "begin-transferring") return "auditSending";
  if (event === "study-deleted") return "auditDeleted";
  if (event === "query") return /^\/(events|changes)\b/.test(query) ? "auditFollowed" : "auditSearched";
  if (event === "user-authentication" && links[detail]) return links[detail];
  if (type === "object-security") return detail.endsWith(" revoked") ? "auditUnshared" : "auditShared";
  return types[type] ?? (event === "audit-log-used" ? "auditLogRead" : "auditOther");
}

/** The event of a record in words. @param {AuditRecord} record */
export function eventWords(record) {
  const key = eventKey(record);
  return key === "auditOther" ? [record.event, record.type].filter(Boolean).join(", ") : t(key);
}

/** Further details of a record, one a line. @param {AuditRecord} record @returns {string[]} */
export function details({ event, type, detail = "", query = "", destination, instances }) {
  // The words of the event say these already.
  const isSaid = ["thumbnails", "single instances"].includes(detail) || type === "object-security" || links[detail] !== undefined;
  return [
    event !== "audit-log-used" && searched(query), destination && t("auditTo", { name: destination }),
    instances !== undefined && t("images", { count: instances }), !isSaid && detail,
  ].filter((line) => typeof line === "string" && line !== "").map(String);
}

/** What a query searched for: the keys of a URL, or the text of another query. @param {string} query */
function searched(query) {
  if (!query.startsWith("/")) return query;
  const keys = [...new URLSearchParams(query.split("?").slice(1).join("?"))].filter(([name]) => !unspoken.includes(name.toLowerCase()));
  return keys.map(([name, value]) => `${name}=${value}`).join(", ");
}

/** The outcome of a record in words. @param {AuditRecord} record @returns {{ text: string, isFailure: boolean }} */
export function outcome({ event, outcome }) {
  if (outcome === 0) return { text: t("auditDone"), isFailure: false };
  const isRefusal = outcome === 4 && ["security-alert", "user-authentication"].includes(event);
  return { text: t(isRefusal ? "auditRefusal" : outcome === 4 ? "auditPartly" : "auditFailed"), isFailure: true };
}
