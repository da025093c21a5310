// The page: who is signed in, the uploads, and the list, a study, the status or the audit log by the URL.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { element, fill, h, mark } from "./html.js";
import * as languages from "./language.js";
import { t } from "./language.js";
import { part } from "./notices.js";
import * as signIn from "./sign-in.js";
import * as statusPage from "./status-page.js";
import * as studies from "./studies.js";
import * as study from "./study.js";
import { message } from "./text.js";
import * as uploads from "./upload-view.js";

/** @type {string[]} */
let rights = [];
/** What stands where one signs in, in the language of the page. @type {(() => string) | null} */
let obstacle = null;
let isEntering = false;
/** The page of the audit log, which few people open: it is loaded when it is opened. @type {typeof import("./audit-page.js") | null} */
let auditPage = null;

/** Shows that nobody is signed in. @param {() => string} [why] */
function askToSignIn(why = () => t("signInFirst")) {
  tell(() => (signIn.obstacle ? t(signIn.obstacle) : why()), signIn.obstacle === null);
}

/** @param {() => string} text @param {boolean} maySignIn */
function tell(text, maySignIn) {
  obstacle = text;
  element("access").hidden = false;
  element("sign-in").hidden = !maySignIn;
  element("obstacle").textContent = text();
}

/** Shows what the caller may do and see. */
async function enter() {
  if (isEntering) return;
  isEntering = true;
  try {
    const caller = await dicomweb.caller();
    ({ rights } = caller);
    element("access").hidden = true;
    element("user").textContent = [signIn.userName(), signIn.isNeeded ? caller.tenant : ""].filter(Boolean).join(", ");
    element("sign-out").hidden = !signIn.isNeeded;
    element("store").hidden = !rights.includes("write");
    if (rights.length === 0) tell(() => t("noRights"), false);
    studies.setRights(rights);
    study.setRights(rights);
    statusPage.setRights(rights);
    element("to-audit").hidden = !rights.includes("administer");
    await route();
  } catch (error) {
    report(error);
  } finally {
    isEntering = false;
  }
}

/** Asks to sign in, if that is what is missing; otherwise the place where the error occurred shows it. @param {unknown} error */
function report(error) {
  if (error instanceof dicomweb.ServerError && error.status === 401) askToSignIn();
  else if (rights.length === 0) tell(() => t("noAnswer", { why: message(error) }), false);
}

/** Shows what the URL names. */
async function route() {
  if (rights.length === 0) return;
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const parameters = new URLSearchParams(query);
  const [, uid] = /^\/studies\/([\d.]+)$/.exec(path) ?? [];
  const [mayRead, mayStore] = [rights.includes("read"), rights.includes("write")];
  const first = !mayRead && !mayStore && rights.includes("administer") ? "audit" : "studies";
  const place = uid ? "study" : path === "/status" ? "server" : path === "/audit" ? "audit" : first;
  // Who may store finds the place for that; the page of the log says itself who may not see it.
  const isOpen = mayRead || place === "audit" || (place === "studies" && mayStore);
  for (const id of ["studies", "study", "server", "audit"]) element(id).hidden = id !== place || !isOpen;
  mark(element("to-studies"), place === "studies");
  mark(element("to-status"), place === "server");
  mark(element("to-audit"), place === "audit");
  if (place !== "study") study.leave();
  if (place !== "server") statusPage.leave();
  if (place !== "studies") studies.leave();
  if (place === "audit") return showAudit(parameters);
  auditPage?.leave();
  if (!mayRead) return;
  if (place === "study") {
    study.setBack(studies.url());
    await study.show(uid, parameters);
  } else if (place === "server") {
    await statusPage.show();
  } else {
    await studies.show(parameters);
  }
}

/** @param {URLSearchParams} parameters */
async function showAudit(parameters) {
  auditPage ??= await part(() => import("./audit-page.js"));
  // Another page may have been opened meanwhile.
  if (element("audit").hidden || !auditPage) return;
  auditPage.start({ rights, onError: report });
  await auditPage.show(parameters);
}

/** The switch of languages. */
function offerLanguages() {
  const choice = element("language");
  fill(choice, languages.languages.map(([tag, name]) => h("option", { value: tag, lang: tag, selected: tag === languages.language() }, name)));
  choice.addEventListener("change", () => languages.setLanguage(choice.value));
  languages.events.addEventListener("change", () => {
    if (obstacle) element("obstacle").textContent = obstacle();
    studies.translate();
    study.translate();
    statusPage.translate();
    auditPage?.translate();
    uploads.translate(queue);
  });
}

languages.translatePage();
const queue = uploads.start({
  mayStore: () => rights.includes("write"),
  mayDelete: () => rights.includes("delete"),
  onStored: (stored) => {
    studies.markArrived(stored);
    study.stored(stored);
    if (!element("studies").hidden && rights.includes("read")) studies.list({ isQuiet: true });
  },
});
studies.start(report);
study.start({ onError: report, onAdd: (files, of) => uploads.addTo(queue, files, of) });
statusPage.start(report);
offerLanguages();
// Until here the header has no words.
document.body.classList.add("ready");
element("sign-in").addEventListener("click", () => signIn.begin({ inWindow: queue.isActive }));
element("sign-out").addEventListener("click", () => {
  if (!queue.isActive || confirm(t("signOutQuestion"))) signIn.signOut();
});
addEventListener("hashchange", () => {
  scrollTo(0, 0);
  // What is read next is the page that was opened.
  element("main").focus({ preventScroll: true });
  route();
});
// The fragment is the place, and not an element.
element("skip").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault();
  element("main").focus();
});
// After a token has come in another tab or window, there is something to show here.
signIn.events.addEventListener("tokens", () => element("access").hidden || enter());
signIn.events.addEventListener("signed-out", () => {
  rights = [];
  studies.leave();
  study.leave();
  statusPage.leave();
  auditPage?.leave();
  for (const id of ["store", "studies", "study", "server", "audit", "to-audit", "sign-out"]) element(id).hidden = true;
  element("user").textContent = "";
  element("rows").replaceChildren();
  element("study").replaceChildren();
  element("audit").replaceChildren();
  askToSignIn();
});
// A token that has ended while files wait is asked for where the page shows that they wait.
queue.addEventListener("change", () => {
  if (queue.summary().hold.reason === "sign-in") askToSignIn(() => t("signInAgain"));
  else if (rights.length) element("access").hidden = true;
});

/** @type {(() => string) | undefined} */
let problem;
try {
  await signIn.finish();
} catch (error) {
  problem = () => t("nobodySignedIn", { why: message(error) });
}
if (signIn.isNeeded && !("Authorization" in (await signIn.headers().catch(() => ({}))))) askToSignIn(problem);
else await enter();
