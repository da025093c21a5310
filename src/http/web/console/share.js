// Shares of a study: a link is made, copied and listed, and can be revoked. A dialog of the page of a study.
// @ts-check

import { h, icon } from "./html.js";
import { moment, t } from "./language.js";
import { copy } from "./notices.js";
import * as signIn from "./sign-in.js";
import { message } from "./text.js";

/**
 * @typedef {{ id: string, state: string, study: string, series: string | null, instances: number | null, mode: string, note: string,
 *   created_at: string, created_by: string, expires_at: string, uses: number, max_uses: number | null, has_code: boolean, link?: string }} Share
 */

/** The lives of a link that can be chosen, in days. */
const lives = [1, 7, 30, 90];
/** The states of a share, each with its message. @type {Record<string, Parameters<typeof t>[0]>} */
const states = { open: "shareOpen", expired: "shareExpired", "used-up": "shareUsedUp", revoked: "shareRevoked", locked: "shareLocked" };

/** Opens the dialog. @param {string} study @param {string} title */
export function openShares(study, title) {
  new ShareDialog(study, title).show();
}

/** @param {string} path @param {RequestInit} [options] */
async function send(path, options = {}) {
  const headers = { "Content-Type": "application/json", ...(await signIn.headers()) };
  const response = await fetch(new URL(path, document.baseURI), { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) signIn.refused(headers);
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? response.statusText);
}

class ShareDialog {
  /** @param {string} study @param {string} title */
  constructor(study, title) {
    this.study = study;
    this.problem = h("p", { class: "failed", role: "alert" });
    this.made = h("div", { id: "made-share", role: "status" });
    this.list = h("ul", { class: "shares", id: "shares" });
    const life = h("select", { name: "days" }, lives.map((days) => h("option", { value: days, selected: days === 7 }, t("shareDays", { count: days }))));
    const mode = h("select", { name: "mode" }, h("option", { value: "view" }, t("shareView")), h("option", { value: "download" }, t("shareDownload")));
    const form = h("form", { onsubmit: (/** @type {Event} */ event) => this.make(event) },
      h("label", {}, h("span", {}, t("shareLife")), life),
      h("label", {}, h("span", {}, t("shareMode")), mode),
      h("label", {}, h("span", {}, t("shareCode")), h("input", { name: "code", autocomplete: "off", maxlength: 64, minlength: 6, placeholder: t("shareCodeHint") })),
      h("label", {}, h("span", {}, t("shareUses")), h("input", { name: "uses", type: "number", min: 1, max: 100000, inputmode: "numeric", placeholder: t("shareUsesHint") })),
      h("label", {}, h("span", {}, t("shareNote")), h("input", { name: "note", autocomplete: "off", maxlength: 500 })),
      h("p", { class: "buttons" }, h("button", { type: "submit", id: "make-share" }, t("shareMake"))));
    this.dialog = h("dialog", { class: "share", "aria-labelledby": "share-title" },
      h("h2", { id: "share-title" }, `${t("share")}: ${title}`), form, this.problem, this.made,
      h("h3", {}, t("shareList")), this.list,
      h("p", { class: "buttons" }, h("button", { type: "button", id: "close-share", onclick: () => this.dialog.close() }, t("close"))));
    this.dialog.addEventListener("close", () => this.dialog.remove());
  }

  show() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    void this.read();
  }

  /** @param {Event} event */
  async make(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const given = new FormData(form);
    const text = (/** @type {string} */ name) => String(given.get(name) ?? "").trim();
    const code = text("code");
    const body = { study: this.study, mode: text("mode"), note: text("note"), expires_in: Number(text("days")) * 86_400, ...(code && { code }), ...(text("uses") && { uses: Number(text("uses")) }) };
    const button = /** @type {HTMLButtonElement} */ (form.querySelector("#make-share"));
    button.disabled = true;
    this.problem.textContent = "";
    try {
      const share = await (await send("shares", { method: "POST", body: JSON.stringify(body) })).json();
      const link = h("input", { id: "share-link", readonly: true, value: share.link, "aria-label": t("shareLink"), onfocus: () => link.select() });
      this.made.replaceChildren(h("p", {}, t("shareMade")), h("p", { class: "link" }, link,
        h("button", { type: "button", id: "copy-share", onclick: () => copy(share.link) }, icon("copy"), t("copyLink"))), ...(code ? [h("p", { class: "soft" }, t("shareCodeApart"))] : []));
      form.reset();
      await this.read();
    } catch (error) {
      this.problem.textContent = message(error);
    } finally {
      button.disabled = false;
    }
  }

  /** Reads the shares of the study, the newest first. */
  async read() {
    try {
      /** @type {Share[]} */
      const found = [];
      for (let before = ""; before !== null && found.length < 50;) {
        const page = await (await send(`shares?limit=500${before && `&before=${before}`}`)).json();
        found.push(...page.shares.filter((/** @type {Share} */ share) => share.study === this.study));
        before = page.next;
      }
      this.list.replaceChildren(...found.map((share) => this.row(share)));
      if (found.length === 0) this.list.append(h("li", { class: "soft" }, t("shareNone")));
    } catch (error) {
      this.problem.textContent = message(error);
    }
  }

  /** @param {Share} share */
  row(share) {
    const facts = [
      t(states[share.state] ?? "shareOpen"), t(share.mode === "download" ? "shareDownload" : "shareView"), share.has_code && t("shareHasCode"),
      share.series && t("shareOfSeries"), share.instances && t("images", { count: share.instances }),
      t("shareUsed", { count: share.uses, most: share.max_uses ? ` / ${share.max_uses}` : "" }),
    ].filter(Boolean).join(" · ");
    const isOpen = share.state === "open" || share.state === "used-up" || share.state === "locked";
    return h("li", { "data-state": share.state }, h("span", {},
      h("strong", {}, share.note || t("shareUntil", { when: moment(new Date(share.expires_at)) })),
      h("span", { class: "soft" }, facts),
      share.note && h("span", { class: "soft" }, t("shareUntil", { when: moment(new Date(share.expires_at)) }))),
    isOpen && h("button", { type: "button", onclick: () => this.revoke(share) }, t("shareRevoke")));
  }

  /** @param {Share} share */
  async revoke(share) {
    try {
      await send(`shares/${share.id}`, { method: "DELETE" });
      this.made.replaceChildren();
      await this.read();
    } catch (error) {
      this.problem.textContent = message(error);
    }
  }
}
