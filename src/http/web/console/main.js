// The built-in page: who is signed in, the uploads, and the studies.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { element } from "./element.js";
import * as signIn from "./sign-in.js";
import * as studies from "./studies.js";
import { message } from "./text.js";
import * as uploads from "./upload-view.js";

/** @type {string[]} */
let rights = [];

/** Shows that nobody is signed in. @param {string} [problem] */
function askToSignIn(problem = "") {
  const why = signIn.obstacle || problem || "Sign in to see and store studies.";
  element("access").hidden = false;
  element("sign-in").hidden = signIn.obstacle !== "";
  element("obstacle").textContent = why;
}

let isEntering = false;

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
    element("studies").hidden = !rights.includes("read");
    if (rights.length === 0) say("Your account gives no right to read or store here. Ask your administrator for a role.");
    studies.setRights(rights);
    if (rights.includes("read")) await studies.list();
  } catch (error) {
    report(error);
  } finally {
    isEntering = false;
  }
}

/** @param {string} text */
function say(text) {
  element("access").hidden = false;
  element("sign-in").hidden = true;
  element("obstacle").textContent = text;
}

/** Asks to sign in, if that is what is missing; otherwise the place where the error occurred shows it. @param {unknown} error */
function report(error) {
  if (error instanceof dicomweb.ServerError && error.status === 401) askToSignIn();
  else if (rights.length === 0) say(`The server does not answer: ${message(error)}`);
}

const queue = uploads.start({ mayStore: () => rights.includes("write"), onStored: () => studies.list() });
studies.start(report);
element("service").textContent = dicomweb.service;
element("sign-in").addEventListener("click", () => signIn.begin({ inWindow: queue.isActive }));
element("sign-out").addEventListener("click", () => {
  if (!queue.isActive || confirm("Files are still being sent. Sign out all the same?")) signIn.signOut();
});
// After a token has come in another tab or window, there is something to show here.
signIn.events.addEventListener("tokens", () => element("access").hidden || enter());
signIn.events.addEventListener("signed-out", () => {
  rights = [];
  for (const id of ["store", "studies", "sign-out"]) element(id).hidden = true;
  element("user").textContent = "";
  element("rows").replaceChildren();
  askToSignIn();
});
// A token that has ended while files wait is asked for where the page shows that they wait.
queue.addEventListener("change", () => {
  if (queue.summary().hold.reason === "sign-in") askToSignIn("Sign in again, and the upload goes on.");
  else if (rights.length) element("access").hidden = true;
});

let problem = "";
try {
  await signIn.finish();
} catch (error) {
  problem = `Nobody is signed in: ${message(error)}`;
}
if (signIn.isNeeded && !("Authorization" in (await signIn.headers().catch(() => ({}))))) askToSignIn(problem);
else await enter();
