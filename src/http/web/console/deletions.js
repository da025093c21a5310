// Deletions that can be undone for some seconds: the request is sent after them. Leaving the page undoes what was not sent.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { t } from "./language.js";
import { ask, notice } from "./notices.js";
import { message } from "./text.js";

/** Seconds in which a deletion can be undone. */
const delay = 8;

/** Tells when a study is hidden, shown again or gone: `change`. */
export const events = new EventTarget();

/** @type {Set<string>} */
const pending = new Set();

/** Whether a study is to be deleted, and is not shown any more. @param {string} study */
export function isPending(study) {
  return pending.has(study);
}

function changed() {
  events.dispatchEvent(new Event("change"));
}

/**
 * Asks, then deletes a study after some seconds.
 * @param {string} study
 * @param {{ title: string, count: number }} what The patient and the day; the number of instances.
 * @param {(error: unknown) => void} onError
 */
export async function remove(study, { title, count }, onError) {
  const images = t("images", { count });
  if (!(await ask({ title: t("deleteQuestion"), lines: [`${title}, ${images}`, t("deleteWarning")], yes: t("delete") }))) return;
  pending.add(study);
  const timer = setTimeout(async () => {
    try {
      await dicomweb.deleteStudy(study);
      notice(t("deleted", { title }));
    } catch (error) {
      onError(error);
      notice(t("cannotDelete", { title, why: message(error) }), { isFailure: true });
    } finally {
      pending.delete(study);
      changed();
    }
  }, 1000 * delay);
  const undo = () => {
    clearTimeout(timer);
    pending.delete(study);
    changed();
  };
  notice(t("deleting", { title }), { seconds: delay, action: { text: t("undo"), run: undo } });
  changed();
}
