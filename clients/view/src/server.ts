// The words of the viewer with the server: the stream, its state, searches, metadata and frames.

import { HttpError, failure } from "@cuspid/client";

import { linked } from "../../../src/http/web/console/dicomweb.js";
import * as signIn from "../../../src/http/web/console/sign-in.js";
import { onlyPart } from "./multipart.js";

/** A data set of the DICOM JSON Model. */
export type DataSet = Record<string, { vr: string; Value?: any[] }>;

/** The page has a `<base>`: the root of the server, whatever proxy is before it. */
const root = document.baseURI;
const service = new URL("dicom-web", root).href;

export interface Target {
  study: string;
  series: string;
}

/** The progress of a preview. */
export interface PreviewState {
  state: "none" | "pending" | "partial" | "ready" | "failed";
  encoded: number;
  slices: number;
  version?: string;
  reason?: string;
}

export { signIn };

export function headers(): Promise<Record<string, string>> {
  return signIn.headers();
}

async function get(url: string, accept: string, signal?: AbortSignal): Promise<Response> {
  const fields = { Accept: accept, ...(await headers()) };
  const response = await fetch(url, { headers: fields, signal });
  if (response.status === 401) signIn.refused(fields);
  if (!response.ok) throw await failure(response);
  return response;
}

export function streamUrl({ study, series }: Target): string {
  return new URL(`stream/studies/${encodeURIComponent(study)}/series/${encodeURIComponent(series)}`, root).href;
}

let early: { url: string; response: Promise<Response> } | null = null;

/** Requests the stream before anything else is done, where that needs no token: drawing is prepared while it is on its way. */
export function requestEarly(target: Target): void {
  if (signIn.isNeeded) return;
  const url = streamUrl(target);
  early = { url, response: fetch(url) };
  early.response.catch(() => {});
}

/** As `fetch`, with the response that was requested early if there is one. */
export const fetchStream: typeof fetch = (input, init) => {
  const found = early;
  early = null;
  return found && found.url === input && !new Headers(init?.headers).has("Range") ? found.response : fetch(input, init);
};

export async function previewState(target: Target, signal?: AbortSignal): Promise<PreviewState> {
  return (await get(`${streamUrl(target)}/state`, "application/json", signal)).json();
}

/** The study, without its series; `null` if it is not there. */
export async function study(uid: string): Promise<DataSet | null> {
  const response = await get(`${service}/studies?StudyInstanceUID=${encodeURIComponent(uid)}`, "application/dicom+json");
  return response.status === 204 ? null : ((await response.json())[0] ?? null);
}

/** All series of a study by their numbers, page by page. */
export async function seriesOf(uid: string): Promise<DataSet[]> {
  const url = `${service}/studies/${encodeURIComponent(uid)}/series`;
  const found: DataSet[] = [];
  for (let query = "?includefield=SeriesDescription&limit=1000"; query; ) {
    const response = await get(url + query, "application/dicom+json");
    if (response.status !== 204) found.push(...(await response.json()));
    // The server may know itself under another name: only the query is taken.
    const next = linked(response.headers.get("Link"), "next");
    query = next && new URL(next, url).search;
  }
  return found.sort((one, other) => (value(one, "00200011") ?? 0) - (value(other, "00200011") ?? 0));
}

/** The metadata of all instances of a series, by SOP Instance UID. */
export async function metadata({ study, series }: Target, signal?: AbortSignal): Promise<Map<string, DataSet>> {
  const response = await get(`${service}/studies/${study}/series/${series}/metadata`, "application/dicom+json", signal);
  const all: DataSet[] = await response.json();
  return new Map(all.map((one) => [value(one, "00080018"), one]));
}

/** The samples of a frame as they are stored, uncompressed, little endian. */
export async function frame({ study, series }: Target, instance: string, number: number, signal?: AbortSignal): Promise<Uint8Array> {
  const url = `${service}/studies/${study}/series/${series}/instances/${instance}/frames/${number}`;
  const accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';
  const response = await get(url, accept, signal);
  const type = response.headers.get("Content-Type") ?? "";
  const bytes = new Uint8Array(await response.arrayBuffer());
  return type.startsWith("multipart/") ? onlyPart(bytes, type) : bytes;
}

/** A colour frame, without loss. */
export async function colourFrame({ study, series }: Target, instance: string, number: number, signal?: AbortSignal): Promise<ImageBitmap> {
  const url = `${service}/studies/${study}/series/${series}/instances/${instance}/frames/${number}/rendered`;
  const blob = await (await get(url, "image/png", signal)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

export async function thumbnail({ study, series }: Target): Promise<Blob> {
  return (await get(`${service}/studies/${study}/series/${series}/thumbnail?viewport=512,512`, "image/*")).blob();
}

/** The first value of an attribute. */
export function value(dataSet: DataSet | null | undefined, tag: string): any {
  return dataSet?.[tag]?.Value?.[0];
}

export { HttpError };
