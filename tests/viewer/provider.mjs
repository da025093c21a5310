// An OpenID provider, npm's oidc-provider, with the URLs and the claims of Keycloak: an issuer below `/realms`, the tenant in
// `clinicId`, roles in `realm_access.roles`. Its users sign in by their name alone.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const realm = "/realms/dental";
const routes = "/protocol/openid-connect";
const audience = "cuspid";
/** The audience of tokens. */
const target = "urn:cuspid";
const scope = "openid cuspid";
/** The client id of the server's pages. */
export const client = "cuspid-web";

/**
 * Listens on a free port, and answers as soon as `serve` is called with the pages that may sign in. `users` holds the clinic and
 * the roles of each user. Access tokens are valid for `seconds`.
 */
export async function listen(users, seconds = 300) {
  let provider = null;
  const server = createServer(async (request, response) => {
    if (!provider || !request.url.startsWith(`${realm}/`)) return response.writeHead(503).end();
    // Express passes the path of a mounted application in the same way.
    Object.assign(request, { originalUrl: request.url, baseUrl: realm, url: request.url.slice(realm.length) });
    if (request.url.startsWith("/sign-in/")) return signIn(provider, request, response);
    return provider.callback()(request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${server.address().port}${realm}`;
  let pages = [];
  let signedOutPages = [];
  const renewed = () => {
    provider = configured(issuer, users, pages, signedOutPages, seconds);
  };
  return {
    issuer,
    scope,
    /** Starts to answer; `redirects` are the pages to which users come back, and `signedOut` those after signing out. */
    serve(redirects, signedOut = []) {
      pages = redirects;
      signedOutPages = signedOut;
      renewed();
    },
    /** Takes its keys back and signs by others from now on. It still knows who is signed in. */
    rotate() {
      renewed();
    },
    /** Renews no token any more that it has given so far. It still knows who is signed in. */
    forgetTokens: () => Memory.forget("RefreshToken"),
    stop: () => server.closeAllConnections() ?? server.close(),
  };
}

function configured(issuer, users, redirects, signedOut, seconds) {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
  const resource = { scope, audience, accessTokenTTL: seconds, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } };
  return new Provider(issuer, {
    adapter: Memory,
    clients: [
      {
        client_id: client,
        token_endpoint_auth_method: "none",
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        redirect_uris: redirects,
        post_logout_redirect_uris: signedOut,
      },
    ],
    jwks: { keys: [key] },
    cookies: { keys: ["of a test"] },
    scopes: scope.split(" "),
    pkce: { required: () => true },
    clientBasedCORS: () => true,
    issueRefreshToken: async () => true,
    routes: {
      authorization: `${routes}/auth`,
      token: `${routes}/token`,
      jwks: `${routes}/certs`,
      userinfo: `${routes}/userinfo`,
      end_session: `${routes}/logout`,
    },
    findAccount: (_, id) => users[id] && { accountId: id, claims: async () => ({ sub: id }) },
    extraTokenClaims: (_, { accountId }) => ({
      clinicId: users[accountId].clinic,
      realm_access: { roles: users[accountId].roles },
    }),
    // The server's own pages need no consent of the user.
    loadExistingGrant: async ({ oidc }) => {
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope(scope);
      grant.addResourceScope(target, scope);
      await grant.save();
      return grant;
    },
    interactions: { url: (_, { uid }) => `${realm}/sign-in/${uid}` },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: {
        enabled: true,
        // The page of the package has fonts of another server.
        logoutSource(context, form) {
          const button = '<button form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button>';
          context.body = `<!doctype html>${form}${button}`;
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => target,
        useGrantedResource: () => true,
        getResourceServerInfo: () => resource,
      },
    },
  });
}

/** The provider's store of sessions, codes and tokens, by kind and name. */
class Memory {
  static kept = new Map();

  constructor(kind) {
    this.kind = kind;
  }

  static forget(kind) {
    for (const name of [...Memory.kept.keys()]) if (name.startsWith(`${kind} `)) Memory.kept.delete(name);
  }

  name(id) {
    return `${this.kind} ${id}`;
  }

  async upsert(id, payload) {
    Memory.kept.set(this.name(id), payload);
  }

  async find(id) {
    return Memory.kept.get(this.name(id));
  }

  async findByUid(uid) {
    return [...Memory.kept.values()].find((payload) => payload.uid === uid);
  }

  async destroy(id) {
    Memory.kept.delete(this.name(id));
  }

  async consume(id) {
    (await this.find(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async revokeByGrantId(grantId) {
    for (const [name, payload] of Memory.kept) {
      if (payload.grantId === grantId) Memory.kept.delete(name);
    }
  }
}

/** The page on which users enter their name. */
async function signIn(provider, request, response) {
  if (request.method === "GET") {
    response.writeHead(200, { "Content-Type": "text/html" });
    response.end('<form method="post"><input name="login" aria-label="Name"><button>Sign in</button></form>');
    return;
  }
  let body = "";
  for await (const piece of request) body += piece;
  const accountId = new URLSearchParams(body).get("login");
  await provider.interactionFinished(request, response, { login: { accountId } });
}
