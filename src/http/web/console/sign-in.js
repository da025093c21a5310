// Signing in at an OpenID provider: authorization code with PKCE (RFC 7636), renewal, and signing out.
// @ts-check
//
// Tokens are kept as long as the tab is open. Tabs of this page pass access tokens to each other, so that only the first
// signs in; only the tab that signed in renews them, because a provider may take a renewal by two for a theft.

/**
 * @typedef {object} Provider What the server says of the provider.
 * @property {string} client_id
 * @property {string} scope
 * @property {string} [authorization_endpoint]
 * @property {string} [token_endpoint]
 * @property {string} [end_session_endpoint]
 *
 * @typedef {object} Tokens
 * @property {string} access
 * @property {string} [refresh]
 * @property {string} [id]
 * @property {number} end When the access token ends, in milliseconds since 1970.
 * @property {number} renewAt When the access token is to be renewed: some time before its end.
 */

const told = document.documentElement.dataset.signIn;
/** @type {Provider | null} */
const provider = told ? JSON.parse(told) : null;
const page = new URL(".", document.baseURI).href;
/** The page to which the provider leads after signing out; registered there. */
const signedOutPage = `${page}?signed-out`;
const tokensKey = "cuspid.tokens";
const questionKey = "cuspid.sign-in";
const popupName = "cuspid-sign-in";
/** A token is renewed this long before its end, in milliseconds, or after three quarters of a short life. */
const margin = 30_000;
/** How long other tabs have to pass on a token, in milliseconds. */
const patience = 300;

const tabs = new BroadcastChannel("cuspid.sign-in");
/** Tells when a token has come, `tokens`, or when the user is signed out, `signed-out`. */
export const events = new EventTarget();

/** The token of a link of a share, if this page shows what was shared: it counts instead of that of a user. */
const sharedToken = (() => {
  const share = new URLSearchParams(location.search).get("shared");
  return share && sessionStorage.getItem(`cuspid.share.${share}`);
})();

/** Whether the server wants a token. */
export const isNeeded = provider !== null || !!sharedToken;

/** Why nobody can sign in here; nothing if they can. @type {"noClientId" | "noProvider" | "needsHttps" | null} */
export const obstacle = (() => {
  if (!provider?.client_id) return "noClientId";
  if (!provider.authorization_endpoint) return "noProvider";
  if (!crypto.subtle) return "needsHttps";
  return null;
})();

/** @returns {Tokens | null} */
function tokens() {
  return JSON.parse(sessionStorage.getItem(tokensKey) ?? "null");
}

/** @param {Tokens} found */
function keep(found) {
  sessionStorage.setItem(tokensKey, JSON.stringify(found));
  events.dispatchEvent(new Event("tokens"));
}

/** Header fields with a token that is valid for some time yet; none where there is no token. @returns {Promise<Record<string, string>>} */
export async function headers() {
  const token = sharedToken || (isNeeded ? await accessToken() : null);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * Forgets an access token that the server refused; the next request gets another one or none. A newer token stays.
 * @param {Record<string, string>} sent The header fields with the token.
 */
export function refused(sent) {
  const held = tokens();
  if (held && sent.Authorization === `Bearer ${held.access}`) sessionStorage.setItem(tokensKey, JSON.stringify({ ...held, end: 0, renewAt: 0 }));
}

/** @type {Promise<string | null> | null} */
let renewal = null;

/** @returns {Promise<string | null>} */
async function accessToken() {
  const held = tokens();
  if (held && Date.now() < held.renewAt) return held.access;
  renewal ??= (renew(held).finally(() => { renewal = null; }));
  return renewal;
}

/** @param {Tokens | null} held */
async function renew(held) {
  if (held?.refresh) {
    try {
      return await request({ grant_type: "refresh_token", refresh_token: held.refresh });
    } catch (error) {
      // Without an answer, the token may be good still: it is tried again with the next request.
      if (!(error instanceof RefusedError)) throw error;
      sessionStorage.removeItem(tokensKey);
      return null;
    }
  }
  const passed = await askTabs();
  // A token that ends soon is better than none.
  return passed?.access ?? (held && Date.now() < held.end ? held.access : null);
}

/** The provider refused to give a token. */
class RefusedError extends Error {}

/**
 * Asks the provider for tokens and keeps them.
 * @param {Record<string, string>} parameters
 */
async function request(parameters) {
  if (!provider?.token_endpoint) throw new Error("the OpenID provider does not answer");
  const response = await fetch(provider.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({ ...parameters, client_id: provider.client_id }),
  });
  const body = await response.json();
  if (!response.ok) throw new RefusedError(body.error_description ?? body.error);
  const held = tokens();
  const life = 1000 * (body.expires_in ?? 300);
  keep({
    access: body.access_token,
    refresh: body.refresh_token ?? held?.refresh,
    id: body.id_token ?? held?.id,
    end: Date.now() + life,
    renewAt: Date.now() + life - Math.min(margin, life / 4),
  });
  return body.access_token;
}

/** An access token of another tab, which is kept; nothing if no tab has one. */
function askTabs() {
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(null), patience);
    /** @param {MessageEvent} event */
    const listen = (event) => {
      if (event.data.kind === "token") done(event.data.tokens);
    };
    /** @param {Tokens | null} found */
    const done = (found) => {
      clearTimeout(timer);
      tabs.removeEventListener("message", listen);
      if (found) keep({ ...found, refresh: tokens()?.refresh });
      resolve(found);
    };
    tabs.addEventListener("message", listen);
    tabs.postMessage({ kind: "request" });
  });
}

tabs.addEventListener("message", async ({ data }) => {
  const held = tokens();
  if (data.kind === "request" && held) {
    if (held.refresh) await accessToken().catch(() => null);
    const { refresh, ...passed } = tokens() ?? held;
    if (Date.now() < passed.renewAt) tabs.postMessage({ kind: "token", tokens: passed });
  }
  // From a window that was opened to sign in.
  if (data.kind === "signed-in" && !(held && Date.now() < held.renewAt)) keep(data.tokens);
  if (data.kind === "signed-out") forget();
});

function forget() {
  sessionStorage.removeItem(tokensKey);
  events.dispatchEvent(new Event("signed-out"));
}

/** Who is signed in, by the provider's own words; empty if the provider does not say. */
export function userName() {
  const payload = tokens()?.id?.split(".")[1];
  if (!payload) return "";
  const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const claims = JSON.parse(new TextDecoder().decode(bytes));
  return claims.name ?? claims.preferred_username ?? claims.email ?? claims.sub ?? "";
}

/**
 * Leaves for the provider, which comes back to this page; with `inWindow` in a window of its own, so that nothing of
 * this page is lost.
 * @param {{ inWindow: boolean }} how
 */
export async function begin({ inWindow }) {
  if (!provider?.authorization_endpoint) return;
  const [verifier, state] = [random(), random()];
  sessionStorage.setItem(questionKey, JSON.stringify({ verifier, state, hash: location.hash }));
  // At once: browsers allow a window only in answer to a click. It gets a copy of this tab's session storage.
  const window = inWindow ? open("", popupName, "popup,width=520,height=680") : null;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const url = new URL(provider.authorization_endpoint);
  for (const [name, value] of Object.entries({
    response_type: "code",
    client_id: provider.client_id,
    redirect_uri: page,
    scope: provider.scope,
    state,
    code_challenge: base64url(digest),
    code_challenge_method: "S256",
  })) {
    url.searchParams.set(name, value);
  }
  (window?.location ?? location).assign(url);
}

/** Takes the tokens, if the provider has just come back; forgets them after signing out. */
export async function finish() {
  const answer = new URLSearchParams(location.search);
  if (provider && answer.has("signed-out")) {
    history.replaceState(null, "", page);
    signOutEverywhere();
  }
  if (!provider || !answer.has("state")) return;
  const question = JSON.parse(sessionStorage.getItem(questionKey) ?? "{}");
  // Where the user was before.
  history.replaceState(null, "", page + (question.hash ?? ""));
  sessionStorage.removeItem(questionKey);
  if (answer.get("state") !== question.state) throw new Error("the answer is to another page's question");
  const problem = answer.get("error_description") ?? answer.get("error");
  if (problem) throw new Error(problem);
  await request({
    grant_type: "authorization_code",
    code: answer.get("code") ?? "",
    redirect_uri: page,
    code_verifier: question.verifier,
  });
  if (window.name === popupName) {
    tabs.postMessage({ kind: "signed-in", tokens: tokens() });
    sessionStorage.removeItem(tokensKey);
    window.close();
  }
}

/** Signs out here, in all tabs, and at the provider, if it has a page for that. */
export function signOut() {
  const id = tokens()?.id;
  signOutEverywhere();
  if (!provider?.end_session_endpoint) return;
  const url = new URL(provider.end_session_endpoint);
  url.searchParams.set("client_id", provider.client_id);
  url.searchParams.set("post_logout_redirect_uri", signedOutPage);
  if (id) url.searchParams.set("id_token_hint", id);
  location.assign(url);
}

function signOutEverywhere() {
  tabs.postMessage({ kind: "signed-out" });
  forget();
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/** @param {ArrayBuffer | Uint8Array} bytes */
function base64url(bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
