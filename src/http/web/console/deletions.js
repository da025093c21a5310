// Deletions that can be undone for some seconds: the request is sent after them, or when the page is left before.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { t } from "./language.js";
import { ask, notice } from "./notices.js";
import * as signIn from "./sign-in.js";
import { message } from "./text.js";

/** Seconds in which a deletion can be undone. */
const delay = 8;

/** Tells when a study is hidden, shown again or gone: `change`, whose `detail` is the study that is gone, or empty. */
export const events = new EventTarget();

/**
 * @typedef {{ fields: Record<string, string>, timer: number, hide: () => void }} Deletion `fields` are the header fields of its request, which are there
 * before the page is left; `hide` takes away the notice.
 */

/** By study. @type {Map<string, Deletion>} */
const pending = new Map();

/** Whether a study is to be deleted, and is not shown any more. @param {string} study */
export function isPending(study) {
  return pending.has(study);
}

/** The number of studies that are to be deleted. */
export function count() {
  return pending.size;
}

/** A page that is left sends its deletions: a browser may keep the page and show it again. */
addEventListener("pagehide", () => {
  for (const [study, { fields, timer, hide }] of pending) {
    clearTimeout(timer);
    hide();
    dicomweb.deleteStudyOnLeaving(study, fields);
  }
});
addEventListener("pageshow", (event) => {
  if (!event.persisted || pending.size === 0) return;
  pending.clear();
  changed();
});

function changed(gone = "") {
  events.dispatchEvent(new CustomEvent("change", { detail: gone }));
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
  const fields = await signIn.headers().catch(() => ({}));
  const timer = window.setTimeout(() => finish(study, title, onError), 1000 * delay);
  const undo = () => {
    clearTimeout(timer);
    pending.delete(study);
    changed();
  };
  const hide = notice(t("deleting", { title, count: delay }), { seconds: delay, action: { text: t("undo"), run: undo } });
  pending.set(study, { fields, timer, hide });
  changed();
}

/** @param {string} study @param {string} title @param {(error: unknown) => void} onError */
async function finish(study, title, onError) {
  let gone = "";
  try {
    await dicomweb.deleteStudy(study);
    gone = study;
    notice(t("deleted", { title }));
  } catch (error) {
    onError(error);
    notice(t("cannotDelete", { title, why: message(error) }), { isFailure: true });
  } finally {
    pending.delete(study);
    changed(gone);
  }
}
