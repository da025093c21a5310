// Short notices at the edge of the page, and questions.
// @ts-check

import { element, h } from "./html.js";
import { t } from "./language.js";

/**
 * Shows a notice for some seconds, or until it is taken away.
 * @param {string} text
 * @param {{ isFailure?: boolean, seconds?: number, action?: { text: string, run: () => void } }} [options]
 * @returns {() => void} Takes the notice away.
 */
export function notice(text, { isFailure = false, seconds = 6, action } = {}) {
  const shown = h("div", { class: isFailure ? "toast failed" : "toast" }, h("span", {}, text));
  const remove = () => shown.remove();
  if (action) {
    shown.append(h("button", { type: "button", onclick: () => { remove(); action.run(); } }, action.text));
  } else if (isFailure) {
    shown.append(h("button", { type: "button", onclick: remove }, t("dismiss")));
  }
  element("toasts").append(shown);
  if (!isFailure) setTimeout(remove, 1000 * seconds);
  return remove;
}

/**
 * A part of the page that is loaded when it is needed; nothing, and a notice, if it cannot be had.
 * @template Part
 * @param {() => Promise<Part>} load
 * @returns {Promise<Part | null>}
 */
export async function part(load) {
  return load().catch(() => {
    notice(t("cannotLoad"), { isFailure: true });
    return null;
  });
}

/** Copies a text. @param {string} value */
export async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
    notice(t("copied"));
  } catch {
    notice(t("cannotCopy"), { isFailure: true });
  }
}

/**
 * Asks a question of danger that has to be answered.
 * @param {{ title: string, lines: string[], yes: string }} question
 * @returns {Promise<boolean>}
 */
export function ask({ title, lines, yes }) {
  return new Promise((resolve) => {
    const cancel = h("button", { value: "no", autofocus: true }, t("cancel"));
    const dialog = h("dialog", { "aria-labelledby": "question-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "question-title" }, title),
        lines.map((line) => h("p", {}, line)),
        h("p", { class: "buttons" }, cancel, h("button", { value: "yes", class: "danger" }, yes))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
