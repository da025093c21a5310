// Shares in a real browser: a link is made in the console, opened on a phone, and revoked.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const [study, other, series] = [uid(), uid(), uid()];
const instances = [uid(), uid(), uid()];

let server;
let browser;
/** A context of a phone, whose owner reads Korean. */
let phone;

before(async () => {
  server = await servers.startEmpty({ "sharing.code_tries_per_minute": 20, "preview.quiet_seconds": 0 });
  browser = await browsers.start("requests of shares");
  phone = await browser.context.browser().newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, locale: "ko-KR" });
  phone.setDefaultTimeout(60_000);
  const named = (instance, of = study) => image({ name: "Hong^Gildong=洪^吉洞=홍^길동", study: of, series: of === study ? series : uid(), instance });
  await store(server.url, [...instances.map((instance) => named(instance)), named(uid(), other)]);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** A test with a page of the console, at the study. */
function seen(name, look) {
  test(name, { timeout: 240_000 }, async () => {
    const page = await browser.context.newPage();
    try {
      await page.goto(`${server.url}/#/studies/${study}`);
      await look(page);
    } finally {
      await screenshot(page, `share ${name}`);
      await page.close();
    }
  });
}

/** Makes a link in the dialog of the console. */
async function makeLink(page, { code = "", note = "", mode = "view" } = {}) {
  if (!(await page.locator("dialog.share").isVisible())) await page.locator("#share").click();
  await page.locator("dialog.share [name=code]").fill(code);
  await page.locator("dialog.share [name=note]").fill(note);
  await page.locator("dialog.share [name=mode]").selectOption(mode);
  await page.locator("#make-share").click();
  await page.locator("#share-link").waitFor();
  return page.locator("#share-link").inputValue();
}

/** What axe finds wrong with a page. */
async function faults(page) {
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

async function post(path, body, token) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return fetch(`${server.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

describe("shares", { concurrency: 1 }, () => {
  seen("a link with a code opens the viewer on a phone, until it is revoked", async (page) => {
    const link = await makeLink(page, { code: "482913", note: "Dr Kim" });
    assert.match(link, /\/s\/[\w-]{24}$/);
    await page.locator("#shares li", { hasText: "Dr Kim" }).waitFor();
    assert.deepEqual(await faults(page), []);
    await screenshot(page, "share the dialog of the console");
    const pocket = await phone.newPage();
    const referrers = [];
    pocket.on("request", (request) => referrers.push(request.headers().referer ?? ""));
    try {
      await pocket.goto(link);
      await pocket.locator("#code").waitFor();
      assert.ok(!(await pocket.content()).includes("홍"));
      assert.deepEqual(await faults(pocket), []);
      await screenshot(pocket, "share a code on a phone");
      await pocket.locator("#code").fill("482914");
      await pocket.locator("#unlock").click();
      await pocket.locator("#problem", { hasText: "코드가 맞지 않습니다" }).waitFor();
      await pocket.locator("#code").fill("482913");
      await pocket.locator("#unlock").click();
      await pocket.locator("h1", { hasText: "홍. 길." }).waitFor();
      assert.deepEqual(await faults(pocket), []);
      await screenshot(pocket, "share what was shared on a phone");
      // Loading the page again is no second use.
      await pocket.reload();
      await pocket.locator("h1", { hasText: "홍. 길." }).waitFor();
      const streamed = pocket.waitForResponse((response) => response.url().includes("/stream/") && response.ok());
      await pocket.locator("#open").click();
      await pocket.waitForURL(/\/view\/\?.*shared=/);
      const { token } = await streamed.then(async (response) => ({ token: (await response.request().allHeaders()).authorization.replace("Bearer ", "") }));
      await pocket.locator("#notice").waitFor({ state: "hidden" });
      await screenshot(pocket, "share the viewer on a phone");
      const elsewhere = await fetch(`${server.url}/dicom-web/studies/${other}/metadata`, { headers: { Authorization: `Bearer ${token}` } });
      assert.equal(elsewhere.status, 404);
      assert.ok(referrers.every((referrer) => !referrer.includes("/s/")), referrers.join(" "));
      await page.locator("#shares li", { hasText: "Dr Kim" }).getByRole("button", { name: "Revoke" }).click();
      await page.locator("#shares li[data-state=revoked]").waitFor();
      assert.equal((await fetch(`${server.url}/dicom-web/studies/${study}/metadata`, { headers: { Authorization: `Bearer ${token}` } })).status, 401);
      await pocket.goto(link);
      await pocket.locator("h1", { hasText: "이 링크는 취소되었습니다." }).waitFor();
      await screenshot(pocket, "share a revoked link on a phone");
    } finally {
      await pocket.close();
    }
  });

  seen("a link without a code gives a zip file, and one of images shows them", async (page) => {
    const link = await makeLink(page, { mode: "download" });
    const visitor = await browser.context.newPage();
    try {
      await visitor.goto(link);
      await visitor.locator("#download").waitFor();
      await screenshot(visitor, "share what was shared");
      const [download] = await Promise.all([visitor.waitForEvent("download"), visitor.locator("#download").click()]);
      const zip = readFileSync(await download.path(), "latin1");
      assert.ok(zip.startsWith("PK") && instances.every((instance) => zip.includes(instance)));
      const made = await (await post("/shares", { study, instances: instances.slice(0, 2) })).json();
      await visitor.goto(made.link);
      await visitor.locator("#open").click();
      await visitor.waitForFunction(() => [...document.querySelectorAll(".images img")].filter((one) => one.naturalWidth > 0).length === 2);
      await screenshot(visitor, "share images of a list");
      await visitor.goto(`${server.url}/s/nothing`);
      await visitor.locator("h1", { hasText: "There is no such link" }).waitFor();
    } finally {
      await visitor.close();
    }
  });
});
