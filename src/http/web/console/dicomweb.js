// The words of this page with the server: QIDO-RS, STOW-RS, deletion, and who the caller is.
// @ts-check

import * as signIn from "./sign-in.js";

/**
 * @typedef {{ vr: string, Value?: any[] }} Attribute
 * @typedef {Record<string, Attribute>} DataSet A data set of the DICOM JSON Model: attributes by their tags.
 * @typedef {{ tenant: string, rights: string[] }} Caller
 * @typedef {{ studies: DataSet[], hasNext: boolean }} StudiesPage
 * @typedef {{ name: string, id: string, accession: string, modality: string, from: string, to: string }} Search Dates
 * are `YYYY-MM-DD`.
 * @typedef {{ status: number, retryAfter: number, module: DataSet, detail: string }} StoreAnswer `module` is the Store
 * Instances Response Module (PS3.18 Annex I), `retryAfter` is in seconds.
 */

/** The base URL of DICOMweb. */
export const service = new URL("dicom-web", document.baseURI).href;
/** The most bytes that the server takes for one instance. */
export const maxInstanceBytes = Number(document.documentElement.dataset.maxInstanceBytes);

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
 * @param {RequestInit & { accept?: string }} [options]
 */
async function send(url, { accept = "application/dicom+json", ...options } = {}) {
  const headers = { Accept: accept, ...(await signIn.headers()) };
  const response = await fetch(url, { ...options, headers });
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
 * A page of studies, the latest first.
 * @param {Search} search
 * @param {number} offset
 * @param {number} limit
 * @returns {Promise<StudiesPage>}
 */
export async function studies(search, offset, limit) {
  const response = await send(`${service}/studies?${studyQuery(search, offset, limit)}`);
  const found = response.status === 204 ? [] : await response.json();
  return { studies: found, hasNext: hasNext(response.headers.get("Link")) };
}

/**
 * Whether a Link field (RFC 8288) has a link to the next page.
 * @param {string | null} link
 */
export function hasNext(link) {
  return /;\s*rel\s*=\s*("[^"]*\bnext\b[^"]*"|next\b)/i.test(link ?? "");
}

/**
 * The query of a search.
 * @param {Search} search
 * @param {number} offset
 * @param {number} limit
 */
export function studyQuery({ name, id, accession, modality, from, to }, offset, limit) {
  const query = new URLSearchParams({ limit: String(limit), offset: String(offset) });
  for (const attribute of ["StudyDescription", "StudyTime"]) query.append("includefield", attribute);
  if (name) {
    query.set("PatientName", name);
    // As people type names: any order, beginnings of words, any script.
    if (!/[*?^=]/.test(name)) query.set("fuzzymatching", "true");
  }
  const anywhere = (/** @type {string} */ text) => (/[*?]/.test(text) ? text : `*${text}*`);
  if (id) query.set("PatientID", anywhere(id));
  if (accession) query.set("AccessionNumber", anywhere(accession));
  if (modality) query.set("ModalitiesInStudy", modality);
  const day = (/** @type {string} */ date) => date.replaceAll("-", "");
  if (from || to) query.set("StudyDate", from === to ? day(from) : `${day(from)}-${day(to)}`);
  return query;
}

/** @param {string} study @returns {Promise<DataSet[]>} */
export async function series(study) {
  const response = await send(`${service}/studies/${study}/series?includefield=SeriesDescription`);
  return response.status === 204 ? [] : response.json();
}

/** @param {string} study */
export async function deleteStudy(study) {
  await send(`${service}/studies/${study}`, { method: "DELETE", accept: "application/json" });
}

/** The URL of a study as a zip file. @param {string} study */
export function zipUrl(study) {
  return `${service}/studies/${study}?accept=application/zip`;
}

/** The thumbnail of a series. @param {string} study @param {string} series */
export function thumbnailUrl(study, series) {
  return `${service}/studies/${study}/series/${series}/thumbnail?viewport=256,256`;
}

/** The bytes at a URL. @param {string} url @param {string} accept */
export async function bytes(url, accept) {
  return (await send(url, { accept })).blob();
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
