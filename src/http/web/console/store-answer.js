// Reads the server's answer to a store request: which instances are stored, and of which studies. Knows neither page nor queue.
// @ts-check

import * as dicomweb from "./dicomweb.js";

/** @typedef {{ instances: Set<string>, present: number }} StoredStudy The instances of a study that are stored; `present` were there before the request. */

/** @param {dicomweb.DataSet} reference */
function uidOf(reference) {
  return String(dicomweb.value(reference, "00081155"));
}

/**
 * The references of the instances of a request, in the order of the instances; `null` where the answer does not say which file it is about. Files with
 * one SOP Instance UID may have different bytes, so they have references only if there is one for each of them.
 * @param {string[]} instances SOP Instance UIDs, empty where they are not known.
 * @param {dicomweb.DataSet[]} stored
 * @returns {(dicomweb.DataSet | null)[]}
 */
export function references(instances, stored) {
  const of = new Map(instances.map((uid) => [uid, stored.filter((reference) => uid && uidOf(reference) === uid)]));
  for (const [uid, found] of of) if (found.length < instances.filter((one) => one === uid).length) of.delete(uid);
  return instances.map((uid) => of.get(uid)?.shift() ?? null);
}

/** The instances that a request stored, and that were not there before. @param {dicomweb.DataSet[]} stored */
export function newInstances(stored) {
  return new Set(stored.filter((reference) => !dicomweb.isPresent(reference)).map(uidOf));
}

/**
 * The state of a file whose instance is stored. An instance that an earlier request for the same file stored is there already, and still new.
 * @param {dicomweb.DataSet} reference
 * @param {Set<string>} [fresh] The instances that the earlier request stored; each counts once.
 * @returns {"stored" | "present"}
 */
export function stateOf(reference, fresh = new Set()) {
  return fresh.delete(uidOf(reference)) || !dicomweb.isPresent(reference) ? "stored" : "present";
}

/** The studies that a request stored instances of, by their UIDs: those in the URLs of the instances. @param {dicomweb.DataSet[]} stored */
export function studiesOf(stored) {
  /** @type {Map<string, StoredStudy>} */
  const studies = new Map();
  for (const reference of stored) {
    const [, uid] = /\/studies\/([\d.]+)\//.exec(String(dicomweb.value(reference, "00081190"))) ?? [];
    if (!uid) continue;
    const study = studies.get(uid) ?? { instances: new Set(), present: 0 };
    if (!study.instances.has(uidOf(reference)) && dicomweb.isPresent(reference)) study.present += 1;
    study.instances.add(uidOf(reference));
    studies.set(uid, study);
  }
  return studies;
}
