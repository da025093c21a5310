// Signing in at an OpenID provider: authorization code with PKCE (RFC 7636). The token is kept as long as the tab is open.

// What the server says of the provider; nothing if it knows no users.
const told = document.documentElement.dataset.signIn;
const provider = told ? JSON.parse(told) : null;
const page = new URL(".", document.baseURI).href;
const tokenKey = "cuspid.token";
const questionKey = "cuspid.sign-in";

/** Whether the server wants a token. */
export const isNeeded = provider !== null;

/** Why nobody can sign in here; empty if they can. */
export const obstacle = (() => {
  if (!provider?.client_id) return "This page does not know its client ID at the OpenID provider (auth.client_id).";
  if (!provider.authorization_endpoint) return "The OpenID provider does not answer. Try again later.";
  if (!crypto.subtle) return "Browsers sign in over https only.";
  return "";
})();

/** Whether there is a token; it may have expired. */
export function hasToken() {
  return sessionStorage.getItem(tokenKey) !== null;
}

/** Header fields that say who asks. */
export function headers() {
  return hasToken() ? { Authorization: `Bearer ${sessionStorage.getItem(tokenKey)}` } : {};
}

/** Forgets the token. */
export function forget() {
  sessionStorage.removeItem(tokenKey);
}

/** Leaves for the provider, which comes back to this page. */
export async function begin() {
  const [verifier, state] = [random(), random()];
  sessionStorage.setItem(questionKey, JSON.stringify({ verifier, state }));
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
  location.assign(url);
}

/** Takes the token, if the provider has just come back. */
export async function finish() {
  const answer = new URLSearchParams(location.search);
  if (!provider || !answer.has("state")) return;
  history.replaceState(null, "", page);
  const question = JSON.parse(sessionStorage.getItem(questionKey) ?? "{}");
  sessionStorage.removeItem(questionKey);
  if (answer.get("state") !== question.state) throw new Error("the answer is to another page's question");
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"));
  const response = await fetch(provider.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: answer.get("code"),
      redirect_uri: page,
      client_id: provider.client_id,
      code_verifier: question.verifier,
    }),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error_description ?? body.error);
  sessionStorage.setItem(tokenKey, body.access_token);
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
