// The words of this page with the server: QIDO-RS, STOW-RS, deletion, and who the caller is.
// @ts-check

import * as signIn from "./sign-in.js";

/**
 * @typedef {{ vr: string, Value?: any[] }} Attribute
 * @typedef {Record<string, Attribute>} DataSet A data set of the DICOM JSON Model: attributes by their tags.
 * @typedef {{ tenant: string, rights: string[] }} Caller
 * @typedef {{ version: string, uptime_seconds: number, studies: number | null, previews_waiting: number | null,
 *   can_store: boolean, disk: { total_bytes: number, free_bytes: number } | null, max_instance_bytes: number,
 *   dimse: { ae_title: string, port: number } | null,
 *   forwarding: Forwarding[], commitments: Commitments[],
 *   devices: { name: string, last_received_ms: number, instances: number }[] }} Status
 * @typedef {{ study: string, instance: string, failed_ms: number, error: string }} ForwardFailure
 * @typedef {{ destination: string, waiting: number, waiting_since_ms: number | null, sent: number, last_sent_ms: number | null,
 *   failed: number, last_error: string | null, last_error_ms: number | null, failures: ForwardFailure[] }} Forwarding
 * @typedef {{ peer: string, waiting: number, waiting_since_ms: number | null, reported: number, last_reported_ms: number | null,
 *   given_up: number, last_given_up_ms: number | null, last_error: string | null, last_error_ms: number | null }} Commitments
 * @typedef {{ status: number, retryAfter: number, module: DataSet, detail: string }} StoreAnswer `module` is the Store
 * Instances Response Module (PS3.18 Annex I), `retryAfter` is in seconds.
 */

/** The base URL of DICOMweb. */
export const service = new URL("dicom-web", document.baseURI).href;
/** The most bytes that the server takes for one instance. */
export const maxInstanceBytes = Number(document.documentElement.dataset.maxInstanceBytes);

/** There is no answer: the server cannot be reached. */
export class NoServerError extends TypeError {}

/** The answer of the server to a request, if it is not the wanted one. */
export class ServerError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} url
 * @param {RequestInit & { accept?: string, fields?: Record<string, string> }} [options]
 */
async function send(url, { accept = "application/dicom+json", fields = {}, ...options } = {}) {
  const headers = { Accept: accept, ...fields, ...(await signIn.headers()) };
  const response = await fetch(url, { ...options, headers }).catch((error) => {
    throw error instanceof TypeError ? new NoServerError(error.message) : error;
  });
  if (response.ok) return response;
  if (response.status === 401) signIn.refused(headers);
  throw new ServerError(response.status, await problem(response));
}

/** @param {Response} response */
async function problem(response) {
  const text = await response.text();
  return detail(text) || response.statusText || `status ${response.status}`;
}

/** @param {string} text A body of RFC 9457. @returns {string} */
function detail(text) {
  return parsed(text).detail ?? "";
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** Who the server takes us for, and what we may do. @returns {Promise<Caller>} */
export async function caller() {
  return (await send(new URL("me", document.baseURI).href, { accept: "application/json" })).json();
}

/**
 * A page of studies: at a URL that a link gave, or of keys from an offset.
 * @type {import("./results.js").Fetch}
 */
export async function studiesPage({ url, keys, offset, limit }, signal) {
  const response = await send(url ? local(url) : `${service}/studies?${studyQuery(keys, offset, limit)}`, { signal });
  const studies = response.status === 204 ? [] : await response.json();
  const links = response.headers.get("Link");
  return { studies, next: linked(links, "next"), previous: linked(links, "prev") };
}

/** The URL of a link with a relation in a Link field (RFC 8288); empty without. @param {string | null} field @param {string} relation */
export function linked(field, relation) {
  for (const [, url, parameters] of (field ?? "").matchAll(/<([^>]*)>((?:\s*;\s*[\w*]+\s*=\s*(?:"[^"]*"|[^\s,;]+))*)/g)) {
    const [, quoted, token] = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s,;]+))/i.exec(parameters) ?? [];
    if ((quoted ?? token ?? "").toLowerCase().split(/\s+/).includes(relation)) return url;
  }
  return "";
}

/**
 * A URL of the service as this page reaches it: the server may know itself under another name. Only the query is taken.
 * @param {string} url
 */
function local(url) {
  return `${service}/studies${new URL(url, service).search}`;
}

/** The query of a search for studies. @param {Record<string, string>} keys @param {number} offset @param {number} limit */
export function studyQuery(keys, offset, limit) {
  const query = new URLSearchParams({ ...keys, limit: String(limit) });
  if (offset) query.set("offset", String(offset));
  for (const attribute of ["StudyDescription", "StudyTime"]) query.append("includefield", attribute);
  return query;
}

/** A study; nothing if there is none. @param {string} study @param {AbortSignal} [signal] @returns {Promise<DataSet | undefined>} */
export async function study(study, signal) {
  const query = new URLSearchParams({ StudyInstanceUID: study, includefield: "all", limit: "1" });
  return (await list(`${service}/studies?${query}`, signal))[0];
}

/** The studies of a patient, the latest first. @param {string} patient @param {AbortSignal} [signal] */
export async function studiesOf(patient, signal) {
  const keys = { PatientID: patient };
  const found = await list(`${service}/studies?${studyQuery(keys, 0, 100)}`, signal);
  // An asterisk in the key matches anything.
  return found.filter((one) => value(one, "00100020") === patient);
}

/** @param {string} study @param {AbortSignal} [signal] */
export function series(study, signal) {
  return all(`${service}/studies/${study}/series?includefield=SeriesDescription&limit=1000`, signal);
}

/** The instances of a series, in no order. @param {string} study @param {string} series @param {AbortSignal} [signal] */
export function instances(study, series, signal) {
  const query = "includefield=NumberOfFrames&limit=2000";
  return all(`${service}/studies/${study}/series/${series}/instances?${query}`, signal);
}

/** The instance with a SOP Instance UID, with its study and series; none if it is not stored. @param {string} instance */
export function instance(instance) {
  return list(`${service}/instances?SOPInstanceUID=${instance}&limit=1`);
}

/** The attributes of an instance, by their tags. @param {string} study @param {string} series @param {string} instance */
export function instanceMetadata(study, series, instance) {
  return list(`${instanceUrl(study, series, instance)}/metadata`);
}

/** The SOP Instance UIDs of a study. @param {string} study */
export async function instanceUids(study) {
  const found = await all(`${service}/studies/${study}/instances?limit=5000`);
  return new Set(found.map((instance) => value(instance, "00080018")));
}

/** @param {string} url @param {AbortSignal} [signal] @returns {Promise<DataSet[]>} */
async function list(url, signal) {
  const response = await send(url, { signal });
  return response.status === 204 ? [] : response.json();
}

/** All results, page by page. @param {string} url @param {AbortSignal} [signal] @returns {Promise<DataSet[]>} */
async function all(url, signal) {
  const found = [];
  for (let next = url; next; ) {
    const response = await send(next, { signal });
    if (response.status !== 204) found.push(...(await response.json()));
    const query = linked(response.headers.get("Link"), "next");
    next = query && `${url.split("?")[0]}${new URL(query, service).search}`;
  }
  return found;
}

/** The URL of an instance. @param {string} study @param {string} series @param {string} instance */
function instanceUrl(study, series, instance) {
  return `${service}/studies/${study}/series/${series}/instances/${instance}`;
}

/**
 * A form of an instance for people: an image of a frame (from 1), a document, a video, or the page of a report.
 * @param {{ study: string, series: string, instance: string, frame?: number }} of
 * @param {{ pixels: number, signal?: AbortSignal }} options
 */
export async function rendered({ study, series, instance, frame }, { pixels, signal }) {
  const url = `${instanceUrl(study, series, instance)}${frame ? `/frames/${frame}` : ""}/rendered`;
  const accept = "image/jpeg, application/pdf, video/*, text/html;q=0.9, */*;q=0.1";
  try {
    return await (await send(`${url}?viewport=${pixels},${pixels}`, { accept, signal })).blob();
  } catch (error) {
    // What has no size takes no viewport.
    if (!(error instanceof ServerError) || error.status !== 400) throw error;
    return (await send(url, { accept, signal })).blob();
  }
}

/** A small image of a frame (from 1) or of an instance. @param {{ study: string, series: string, instance: string, frame?: number }} of @param {AbortSignal} [signal] */
export function thumbnail({ study, series, instance, frame }, signal) {
  const url = `${instanceUrl(study, series, instance)}${frame ? `/frames/${frame}` : ""}/thumbnail?viewport=256,256`;
  return bytes(url, "image/*", signal);
}

/** The attributes of an instance, in the Native DICOM Model (PS3.19 Annex A), which has their names. @param {string} study @param {string} series @param {string} instance */
export async function metadata(study, series, instance) {
  const accept = 'multipart/related; type="application/dicom+xml"';
  const text = await (await send(`${instanceUrl(study, series, instance)}/metadata`, { accept })).text();
  const xml = text.slice(text.indexOf("<?xml"), text.lastIndexOf(">", text.lastIndexOf("\r\n--")) + 1);
  return new DOMParser().parseFromString(xml, "application/xml");
}

/** The line on which the server says what changes: of all studies, or of one. @param {string} [study] */
export function changes(study) {
  const url = new URL("events", document.baseURI);
  if (study) url.searchParams.set("study", study);
  return { url: url.href, headers: signIn.headers, refused: signIn.refused };
}

/** How the server is. @returns {Promise<Status>} */
export async function status() {
  return (await send(new URL("status", document.baseURI).href, { accept: "application/json" })).json();
}

/** Has the images sent again that could not be sent to a destination. @param {string} destination @returns {Promise<{ retried: number }>} */
export async function retryForwarding(destination) {
  const options = { method: "POST", accept: "application/json", fields: { "Content-Type": "application/json" }, body: JSON.stringify({ destination }) };
  return (await send(new URL("forwarding/retry", document.baseURI).href, options)).json();
}

/**
 * A page of the audit log, the newest records first. `next` is the place after the page, empty at the end of the log.
 * @param {Record<string, string>} filters
 * @param {{ after: string, limit: number }} place
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ records: import("./audit-words.js").AuditRecord[], next: string }>}
 */
export async function auditLog(filters, { after, limit }, signal) {
  const url = new URL("audit", document.baseURI);
  url.search = new URLSearchParams({ ...filters, ...(after && { after }), limit: String(limit) }).toString();
  const { records, next } = await (await send(url.href, { accept: "application/json", signal })).json();
  return { records, next: next ?? "" };
}

/** @param {string} study */
export async function deleteStudy(study) {
  await send(`${service}/studies/${study}`, { method: "DELETE", accept: "application/json" });
}

/** @param {string} study @param {string} series @param {string} instance */
export async function deleteInstance(study, series, instance) {
  await send(instanceUrl(study, series, instance), { method: "DELETE", accept: "application/json" });
}

/** Deletes a study while the page is left: the browser sends the request to its end, and nobody sees the answer. @param {string} study @param {Record<string, string>} fields */
export function deleteStudyOnLeaving(study, fields) {
  fetch(`${service}/studies/${study}`, { method: "DELETE", keepalive: true, headers: fields }).catch(() => {});
}

/** The URL of a study as a zip file. @param {string} study @param {string} name The name under which a browser saves it. */
export function zipUrl(study, name) {
  return `${service}/studies/${study}?${new URLSearchParams({ accept: "application/zip", filename: name })}`;
}

/** The thumbnail of a series. @param {string} study @param {string} series */
export function thumbnailUrl(study, series) {
  return `${service}/studies/${study}/series/${series}/thumbnail?viewport=256,256`;
}

/** The bytes at a URL. @param {string} url @param {string} accept @param {AbortSignal} [signal] */
export async function bytes(url, accept, signal) {
  return (await send(url, { accept, signal })).blob();
}

/**
 * Stores DICOM files in one request, or one zip file. Fails with a `TypeError` if the connection fails.
 * @param {File[]} files
 * @param {{ isZip: boolean, signal: AbortSignal, onProgress: (bytes: number) => void }} options
 * @returns {Promise<StoreAnswer>}
 */
export async function store(files, { isZip, signal, onProgress }) {
  const boundary = `cuspid-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const head = `\r\n--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`;
  const parts = [...files.flatMap((file) => [head, file]), `\r\n--${boundary}--`];
  const type = isZip ? "application/zip" : `multipart/related; type="application/dicom"; boundary=${boundary}`;
  const fields = { "Content-Type": type, Accept: "application/dicom+json", ...(await signIn.headers()) };
  signal.throwIfAborted();
  // `fetch` does not tell how much has been sent.
  const request = new XMLHttpRequest();
  request.open("POST", `${service}/studies`);
  for (const [name, value] of Object.entries(fields)) request.setRequestHeader(name, value);
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      if (request.status === 401) signIn.refused(fields);
      resolve({
        status: request.status,
        retryAfter: Number(request.getResponseHeader("Retry-After") ?? 0),
        module: parsed(request.responseText),
        detail: detail(request.responseText),
      });
    };
    request.onerror = () => reject(new TypeError("the connection failed"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.send(isZip ? files[0] : new Blob(parts));
  });
}

/** The first value of an attribute. @param {DataSet} dataSet @param {string} tag @returns {any} */
export function value(dataSet, tag) {
  return dataSet[tag]?.Value?.[0] ?? "";
}

/** The items of a sequence. @param {DataSet} dataSet @param {string} tag @returns {DataSet[]} */
export function items(dataSet, tag) {
  return dataSet[tag]?.Value ?? [];
}

/** The instances that an answer refuses, with their reasons. @param {StoreAnswer} answer */
export function failures({ module }) {
  return [...items(module, "00081198"), ...items(module, "0008119A")];
}

/** Whether the server had an instance before. @param {DataSet} reference */
export function isPresent(reference) {
  return value(reference, "00000902") !== "";
}
