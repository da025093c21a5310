// OHIF and the console with authentication: a user who signs in at an OpenID provider sees the data of their clinic.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { place, screenshot, scrollTo, shows, showsPaper } from "./browser.mjs";
import { file, image, uid } from "./dicom.mjs";
import * as providers from "./provider.mjs";
import * as servers from "./server.mjs";

// As in viewer.test.mjs.
const same = 0.995;
const bars = servers.picture(join(import.meta.dirname, "..", "..", "testdata", "bars.png"));

const roles = ["cuspid-read", "cuspid-write"];
const users = {
  anna: { clinic: "clinic-a", roles },
  ben: { clinic: "clinic-b", roles },
  carl: { clinic: "clinic-a", roles: [] },
  dora: { clinic: "clinic-a", roles: ["cuspid-read"] },
  erik: { clinic: "clinic-b", roles },
  fred: { clinic: "clinic-a", roles: ["cuspid-administer"] },
};
// The studies of the second clinic; all others are the first clinic's.
const ofSecond = ["ultrasound", "cine"];

let provider;
let server;
/** A browser for each user. */
const seats = {};

before(async () => {
  provider = await providers.listen(users);
  const isOfSecond = (name, studies) => ofSecond.some((study) => name === `${studies[study].instance}.dcm`);
  server = await servers.start({
    settings: {
      "auth.issuer": provider.issuer,
      "auth.client_id": providers.client,
      "auth.scope": provider.scope,
      "auth.refresh_seconds": 1,
      "auth.min_refresh_seconds": 1,
    },
    tenants: [
      { tenant: "clinic-a", files: (names, studies) => names.filter((name) => !isOfSecond(name, studies)) },
      { tenant: "clinic-b", files: (names, studies) => names.filter((name) => isOfSecond(name, studies)) },
    ],
  });
  provider.serve([`${server.url}/viewer/callback`, `${server.url}/`], [`${server.url}/?signed-out`]);
  while (!(await fetch(`${server.url}/readyz`)).ok);
  for (const user of Object.keys(users)) seats[user] = await browsers.start(`requests of ${user}`);
});

after(async () => {
  for (const browser of Object.values(seats)) await browser.stop();
  await server?.stop();
  provider?.stop();
});

/** A test with a page of its own, of a user. */
function seen(name, user, look) {
  test(name, { timeout: 180_000 }, async () => {
    const page = await seats[user].context.newPage();
    try {
      await look(page);
    } finally {
      await screenshot(page, `signed in ${name}`);
      await page.close();
    }
  });
}

/** Enters a user's name at the provider. */
async function signIn(page, user) {
  await page.getByLabel("Name").fill(user);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Opens a study by its URL, as the console does. */
function open(page, { study }) {
  return page.goto(`${server.url}/viewer/viewer?StudyInstanceUIDs=${study}`);
}

/** Waits for the answer with a document or a video, after the page has come back from the provider. */
function rendered(page) {
  return page.waitForResponse((response) => response.url().includes("/rendered") && response.ok());
}

function row(page, name, separator = ", ") {
  return page.locator("tbody tr", { hasText: server.studies[name].patient.replace("^", separator) });
}

describe("signed in", { concurrency: 1 }, () => {
  seen("OHIF lists the studies of the user's clinic only", "anna", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await signIn(page, "anna");
    for (const name of ["ct", "pdf", "video"]) await row(page, name).waitFor();
    for (const name of ofSecond) assert.equal(await row(page, name).count(), 0);
  });

  seen("another clinic has other studies", "ben", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await signIn(page, "ben");
    for (const name of ofSecond) await row(page, name).waitFor();
    assert.equal(await row(page, "ct").count(), 0);
    const { study } = server.studies.ct;
    const isOfStudy = (url) => url.includes("/dicom-web/") && url.includes(study);
    const answer = page.waitForResponse((response) => isOfStudy(response.url()));
    await open(page, server.studies.ct);
    const response = await answer;
    assert.ok(response.status() === 204 || (await response.json()).length === 0);
    assert.equal(seats.ben.requests().filter((request) => request.includes("/metadata")).length, 0);
  });

  seen("a CT opens from its URL, without asking again", "anna", async (page) => {
    await open(page, server.studies.ct);
    await scrollTo(page, 40);
    await shows(page, server.picture(`slice-${(await place(page)).number}.png`), same);
    const thumbnail = page.locator('[data-cy="study-browser-thumbnail"] img');
    assert.ok(await thumbnail.evaluate(async (image) => (await image.decode(), image.naturalWidth > 16)));
  });

  seen("a PDF opens", "anna", async (page) => {
    const answered = rendered(page);
    await open(page, server.studies.pdf);
    await answered;
    await showsPaper(page);
  });

  seen("a video opens", "anna", async (page) => {
    const answered = rendered(page);
    await open(page, server.studies.video);
    await answered;
    await shows(page, bars, same);
    await page.waitForLoadState("networkidle");
  });

  seen("the console signs in, and shows series and stores", "anna", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByText("Sign in to see and store studies.").waitFor();
    await page.getByRole("button", { name: "Sign in" }).click();
    await row(page, "ct", " ").waitFor();
    assert.equal(page.url(), `${server.url}/`);
    await row(page, "ct", " ").getByRole("link", { name: "Open: Head Real" }).click();
    for (const place of [".cards img[src]", ".view img[src]"]) {
      const picture = page.locator(place);
      await picture.waitFor();
      assert.ok(await picture.evaluate(async (image) => (await image.decode(), image.naturalWidth > 16)));
    }
    await screenshot(page, "signed in a study in the console");
    await page.getByRole("link", { name: "All studies" }).click();
    await page.locator("#files").setInputFiles(server.files);
    await page.locator("#summary", { hasText: `${server.files.length} of ${server.files.length} files stored` }).waitFor();
    await row(page, "upload", " ").waitFor();
  });

  seen("signing in leads back to the study that a link named", "anna", async (page) => {
    await page.goto(`${server.url}/#/studies/${server.studies.ct.study}`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Head Real" }).waitFor();
    assert.ok(page.url().endsWith(`#/studies/${server.studies.ct.study}`));
  });

  seen("who has no role is told so", "carl", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await signIn(page, "carl");
    await page.getByText("gives no right to read").waitFor();
  });

  seen("who may not store is not offered to, and who and which clinic is shown", "dora", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await signIn(page, "dora");
    await row(page, "ct", " ").waitFor();
    await page.getByText("dora, clinic-a").waitFor();
    assert.equal(await page.getByRole("button", { name: "Choose files" }).isVisible(), false);
    assert.equal(await page.getByRole("button", { name: /^Delete/ }).count(), 0);
  });

  seen("who may not see the audit log is not led to it", "dora", async (page) => {
    await page.goto(`${server.url}/#/studies/${server.studies.ct.study}`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Head Real" }).waitFor();
    assert.equal(await page.getByRole("link", { name: /Audit log|Who has seen/ }).count(), 0);
    await page.goto(`${server.url}/#/audit`);
    await page.getByText("Your account may not see the audit log.").waitFor();
  });

  seen("who may see the audit log only, sees who was there", "fred", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await signIn(page, "fred");
    await page.getByRole("heading", { name: "Audit log" }).waitFor();
    const ofDora = page.locator("#audit-rows > tr", { hasText: "dora" });
    await ofDora.filter({ hasText: "Signed in" }).waitFor();
    await page.getByRole("link", { name: "Only entries of dora" }).first().click();
    await page.waitForURL(/#\/audit\?user=dora$/);
    await page.waitForFunction(() => [...document.querySelectorAll("#audit-rows > tr")].every((row) => row.textContent.includes("dora")));
    await ofDora.filter({ hasText: "Searched" }).first().waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: /sign me out/i }).click();
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    assert.equal(await page.locator("#audit-rows > tr").count(), 0);
  });

  seen("a second tab of the console needs no signing in", "anna", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await row(page, "ct", " ").waitFor();
    const second = await seats.anna.context.newPage();
    await second.goto(`${server.url}/`);
    await row(second, "ct", " ").waitFor();
    await second.close();
  });

  seen("the viewer asks to sign in, in a window, and sends the token", "erik", async (page) => {
    // Any stream will do: who may read is the question here.
    const body = readFileSync(join(import.meta.dirname, "../../clients/js/tests/phantom.stream"));
    const tokens = [];
    await page.route(/\/stream\/studies\//, (route) => {
      const { authorization } = route.request().headers();
      tokens.push(authorization);
      return authorization ? route.fulfill({ body, contentType: "application/vnd.cuspid.stream" }) : route.fulfill({ status: 401, json: { detail: "no token" } });
    });
    const { study, series } = server.studies.ultrasound;
    await page.goto(`${server.url}/view/?study=${study}&series=${series}`);
    await page.getByText("Sign in to see this study").waitFor();
    const opened = page.waitForEvent("popup");
    await page.getByRole("button", { name: "Sign in" }).click();
    const popup = await opened;
    await signIn(popup, "erik");
    await page.locator('.view[data-view="axial"] .place', { hasText: "13 / 24" }).waitFor();
    // Whose study it is was asked for with the token too.
    await page.locator("#patient", { hasText: server.studies.ultrasound.patient.replace("^", " ") }).waitFor();
    assert.match(tokens.at(-1), /^Bearer /);
    // A second tab gets the token from this one.
    const second = await seats.erik.context.newPage();
    await second.goto(`${server.url}/view/?study=${study}`);
    await second.locator("#patient", { hasText: server.studies.ultrasound.patient.replace("^", " ") }).waitFor();
    await second.close();
  });

  test("an upload outlives the end of its token, and of the session", { timeout: 180_000 }, async () => {
    // Seconds: tokens end while files are sent.
    const shortly = await providers.listen(users, 8);
    const settings = {
      "auth.issuer": shortly.issuer,
      "auth.client_id": providers.client,
      "auth.scope": shortly.scope,
      "auth.refresh_seconds": 1,
      "auth.min_refresh_seconds": 1,
    };
    const empty = await servers.startEmpty(settings);
    shortly.serve([`${empty.url}/`]);
    while (!(await fetch(`${empty.url}/readyz`)).ok);
    const browser = await browsers.start("requests of a long upload");
    const page = await browser.context.newPage();
    try {
      await page.goto(`${empty.url}/`);
      await page.getByRole("button", { name: "Sign in" }).click();
      await signIn(page, "erik");
      await page.getByText("No studies are stored yet.").waitFor();
      const session = await page.context().newCDPSession(page);
      const line = { offline: false, latency: 20, downloadThroughput: 1_000_000 };
      await session.send("Network.enable");
      // 45 MB in 15 s, in nine requests of which three are sent at a time.
      await session.send("Network.emulateNetworkConditions", { ...line, uploadThroughput: 3_000_000 });
      const study = uid();
      const images = Array.from({ length: 9 }, () => image({ name: "Long^Way", study, extra: 5_000_000 }));
      await page.locator("#files").setInputFiles(images.map((bytes, index) => file(`${index}.dcm`, bytes)));
      await page.locator("#summary", { hasText: /^[1-6] of 9 files stored/ }).waitFor();
      shortly.forgetTokens();
      await page.locator("#hold", { hasText: "Sign in again, and the upload goes on." }).waitFor();
      await screenshot(page, "signed in an upload waits for a token");
      const opened = page.waitForEvent("popup");
      await page.getByRole("button", { name: "Sign in" }).click();
      await opened;
      await session.send("Network.emulateNetworkConditions", { ...line, uploadThroughput: -1 });
      await page.locator("#summary", { hasText: "9 of 9 files stored" }).waitFor();
      await page.locator("#arrivals").getByText("all there, counted").waitFor();
      const stored = page.locator("#rows > tr", { hasText: "Long Way" });
      await stored.waitFor();
      assert.equal(await stored.locator("td").nth(7).innerText(), "9");
    } finally {
      await screenshot(page, "signed in after a long upload");
      await browser.stop();
      await empty.stop();
      shortly.stop();
    }
  });

  seen("the console signs out, here and at the provider", "dora", async (page) => {
    await page.goto(`${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: /sign me out/i }).click();
    await page.getByText("Sign in to see and store studies.").waitFor();
    assert.equal(page.url(), `${server.url}/`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByLabel("Name").waitFor();
  });

  seen("the viewer signs out, here and at the provider", "ben", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await row(page, "cine").waitFor();
    await page.locator("header, nav, div").getByRole("button").last().waitFor();
    await page.evaluate(() => history.pushState(null, "", "logout") ?? dispatchEvent(new PopStateEvent("popstate")));
    await page.getByRole("button", { name: /sign me out/i }).click();
    await page.getByText("Sign in to see and store studies.").waitFor();
    await page.goto(`${server.url}/viewer/`);
    await page.getByLabel("Name").waitFor();
  });

  seen("who comes with a token of a key that was taken back signs in again, unasked", "anna", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await row(page, "ct").waitFor();
    const { Authorization } = await page.evaluate(() => {
      const key = Object.keys(sessionStorage).find((name) => name.startsWith("oidc.user:"));
      return { Authorization: `Bearer ${JSON.parse(sessionStorage.getItem(key)).access_token}` };
    });
    const status = async () => (await fetch(`${server.url}/dicom-web/studies`, { headers: { Authorization } })).status;
    assert.equal(await status(), 200);
    provider.rotate();
    while ((await status()) !== 401);
    const refused = page.waitForResponse((response) => response.status() === 401);
    await page.locator("thead input, table input").first().fill("head");
    await refused;
    await row(page, "pdf").waitFor({ state: "detached" });
    await row(page, "ct").waitFor();
    assert.ok(page.url().startsWith(`${server.url}/viewer`));
  });

  test("no token is in a URL, and nothing is asked of anybody else", () => {
    const requests = Object.values(seats).flatMap((browser) => browser.requests());
    const urls = requests.map((request) => request.split(" ")[2]).filter((url) => url.startsWith("http"));
    assert.ok(urls.length > 100);
    // Signing out names the user by an ID token, at the provider alone (OpenID Connect RP-Initiated Logout 1.0 §2).
    const isLogout = (url) => url.startsWith(`${provider.issuer}/protocol/openid-connect/logout?`);
    assert.deepEqual(urls.filter((url) => /ey[\w-]+\.ey[\w-]+\./.test(url) && !isLogout(url)), []);
    const isHere = (url) => [server.url, provider.issuer].some((place) => url.startsWith(`${place}/`));
    assert.deepEqual(urls.filter((url) => !isHere(url)), []);
  });
});
