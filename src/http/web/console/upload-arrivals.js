// The studies that files are sent of: what is sent, and what is stored of it. Knows no queue.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { studiesOf } from "./store-answer.js";

/**
 * @typedef {{ study: string, patient: string, date: string, modalities: Set<string>, all: number, stored: number, present: number,
 *   failed: number, bytes: number, settledBytes: number, check: "" | "complete" | "missing" | "unknown", instances: Set<string>, held: number }} Arrival The
 * files of one study (`study` is empty where they do not say), and those that are settled. `check` is what counting at the
 * server has shown, `unknown` where it shows nothing; `held` is the number of instances that a zip file has.
 */

/** @param {{ study?: string, patient?: string, date?: string }} about @returns {Arrival} */
export function newArrival({ study = "", patient = "", date = "" }) {
  return { study, patient, date, modalities: new Set(), all: 0, stored: 0, present: 0, failed: 0, bytes: 0, settledBytes: 0, check: "", instances: new Set(), held: 0 };
}

/**
 * Adds the studies that were in a zip file, which have the name of the file until the server says whose they are.
 * @param {Map<string, Arrival>} arrivals By study.
 * @param {string} path Of the zip file.
 * @param {{ stored: dicomweb.DataSet[], failed: number }} outcome
 * @param {() => void} onChange
 */
export function addOfZip(arrivals, path, { stored, failed }, onChange) {
  for (const [study, { instances, present }] of studiesOf(stored)) {
    const arrival = arrivals.get(study) ?? newArrival({ study, patient: path });
    arrivals.set(study, arrival);
    const added = [...instances].filter((instance) => !arrival.instances.has(instance));
    const before = Math.min(added.length, present);
    arrival.all += added.length;
    arrival.present += before;
    arrival.stored += added.length - before;
    for (const instance of added) arrival.instances.add(instance);
    // What failed may be of any of the studies.
    arrival.check = failed ? "unknown" : "";
    if (arrival.patient === path) describe(arrival).then(onChange, () => {});
  }
}

/** @param {Arrival} arrival */
async function describe(arrival) {
  const study = await dicomweb.study(arrival.study);
  if (!study) return;
  const { Alphabetic = "", Ideographic = "", Phonetic = "" } = dicomweb.value(study, "00100010") || {};
  Object.assign(arrival, { patient: [Alphabetic, Ideographic, Phonetic].join("="), date: String(dicomweb.value(study, "00080020")) });
  for (const modality of study["00080061"]?.Value ?? []) arrival.modalities.add(modality);
}
