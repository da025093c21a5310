// The page: who is signed in, the uploads, and the list, a study or the status by the URL.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { element, fill, h, mark } from "./html.js";
import * as languages from "./language.js";
import { t } from "./language.js";
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
  const place = uid ? "study" : path === "/status" ? "server" : "studies";
  const mayRead = rights.includes("read");
  for (const id of ["studies", "study", "server"]) element(id).hidden = id !== place || !(mayRead || (id === "studies" && rights.includes("write")));
  mark(element("to-studies"), place === "studies");
  mark(element("to-status"), place === "server");
  if (place !== "study") study.leave();
  if (place !== "server") statusPage.leave();
  if (place !== "studies") studies.leave();
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
    uploads.translate(queue);
  });
}

languages.translatePage();
const queue = uploads.start({
  mayStore: () => rights.includes("write"),
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
  for (const id of ["store", "studies", "study", "server", "sign-out"]) element(id).hidden = true;
  element("user").textContent = "";
  element("rows").replaceChildren();
  element("study").replaceChildren();
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
