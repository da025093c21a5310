// Records of the audit log as files: JSON lines, and CSV (RFC 4180) for spreadsheets.
// @ts-check

/** @typedef {import("./audit-words.js").AuditRecord} AuditRecord */

/** The columns of the CSV file, which are the names of the fields. @type {(keyof AuditRecord)[]} */
const columns = [
  "time", "user", "address", "protocol", "event", "code", "type", "action", "outcome", "patient", "study", "transfer", "destination", "instances",
  "query", "detail", "rights",
];

/** A record a line, as the server gave it. @param {AuditRecord[]} records */
export function jsonLines(records) {
  return new Blob(records.map((record) => `${JSON.stringify(record)}\n`), { type: "application/x-ndjson" });
}

/** @param {AuditRecord[]} records */
export function csv(records) {
  const lines = records.map((record) => columns.map((name) => cell(record[name])).join(","));
  // Without the mark at the beginning, spreadsheets take the text for another encoding.
  return new Blob(["\ufeff", ...[columns.join(","), ...lines].map((line) => `${line}\r\n`)], { type: "text/csv;charset=utf-8" });
}

/**
 * A value in quotes. Texts come from outside, and a spreadsheet computes one that begins like a formula: an apostrophe makes it text.
 * @param {AuditRecord[keyof AuditRecord]} value
 */
function cell(value) {
  const text = Array.isArray(value) ? value.join(" ") : String(value ?? "");
  return `"${(/^[\s]*[=+\-@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
