// What the status page says of forwarding and of storage commitment, in a real browser: what waits, what failed, and another attempt.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const studies = [uid(), uid(), uid()];

let destination;
let server;
let browser;
/** A browser of a phone, whose owner reads Korean. */
let phone;

before(async () => {
  destination = spawn(servers.python, [join(import.meta.dirname, "destination.py")], { stdio: ["pipe", "pipe", "inherit"] });
  const port = await new Promise((resolve) => destination.stdout.once("data", (text) => resolve(Number(text))));
  const settings = { "dimse.peers": `*=store+commit,ARCHIVE@127.0.0.1:${port}=`, "forward.rules": "-> ARCHIVE" };
  server = await servers.startEmpty(settings);
  await store(server.url, studies.map((study, index) => image({ name: `Sent^${index}`, id: `S-${index}`, study })));
  browser = await browsers.start("requests of sending");
  phone = await browser.context.browser().newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, locale: "ko-KR" });
  phone.setDefaultTimeout(60_000);
  await browsers.serveSource(phone);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
  destination?.kill();
});

function seen(name, look, context = () => browser.context) {
  test(name, { timeout: 120_000 }, async () => {
    const page = await context().newPage();
    try {
      await look(page);
    } finally {
      await screenshot(page, `sending ${name}`);
      await page.close();
    }
  });
}

async function accessible(page) {
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), []);
}

/** Answers `/status` with changes. */
function change(page, changes) {
  return page.route("**/status", async (route) => {
    const status = await (await route.fetch()).json();
    return route.fulfill({ json: { ...status, ...changes } });
  });
}

const part = (page) => page.getByRole("article", { name: "ARCHIVE" });

describe("what is sent to other systems", { concurrency: 1 }, () => {
  seen("who may not administer sees what failed, and no button", async (page) => {
    await page.route("**/me", (route) => route.fulfill({ json: { tenant: "default", subject: "", rights: ["read"], share: null } }));
    await page.goto(`${server.url}/#/status`);
    await part(page).getByText("Not sent").waitFor();
    await page.getByText("Images that could not be sent").waitFor();
    assert.equal(await page.getByRole("button", { name: /Send again/ }).count(), 0);
  });

  seen("on a phone, in Korean, the parts fit", async (page) => {
    await change(page, {
      commitments: [{ peer: "CT 1", waiting: 3, waiting_since_ms: Date.UTC(2026, 10, 30, 3), reported: 1200, last_reported_ms: Date.UTC(2026, 10, 30, 2), given_up: 1,
        last_given_up_ms: Date.UTC(2026, 10, 29, 2), last_error: "no connection to 10.0.0.9:104: Connection refused (os error 111)", last_error_ms: Date.UTC(2026, 10, 30, 4) }],
    });
    await page.goto(`${server.url}/#/status`);
    await page.getByRole("heading", { name: "전달", exact: true }).waitFor();
    const device = page.getByRole("article", { name: "CT 1" });
    await device.getByText("1,200").waitFor();
    assert.match(await device.innerText(), /대기 중\s+3.*포기한 보고\s+1.*Connection refused/s);
    await page.getByText("보내지 못한 영상").click();
    await accessible(page);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
  }, () => phone);

  seen("what could not be sent is listed, and sent again at a click", async (page) => {
    await page.goto(`${server.url}/#/status`);
    const failed = part(page).locator("dl > div", { hasText: "Not sent" });
    await failed.getByText("3", { exact: true }).waitFor();
    assert.match(await part(page).innerText(), /Waiting\s+0.*the destination responded A900H/s);
    await part(page).getByText("Images that could not be sent").click();
    const links = part(page).getByRole("listitem").getByRole("link");
    assert.deepEqual((await links.evaluateAll((all) => all.map((link) => link.hash))).sort(), studies.map((study) => `#/studies/${study}`).sort());
    await accessible(page);
    const answer = page.waitForResponse((response) => response.url().endsWith("/forwarding/retry"));
    await part(page).getByRole("button", { name: "Send again: ARCHIVE" }).click();
    assert.deepEqual(await (await answer).json(), { destination: "ARCHIVE", retried: 3 });
    await page.getByText("3 images will be sent to ARCHIVE again.").waitFor();
    // The page looks again every ten seconds.
    await part(page).locator("dl > div", { hasText: /^Sent\s*3/ }).waitFor();
    await failed.getByText("0", { exact: true }).waitFor();
    assert.equal(await page.getByRole("button", { name: /Send again/ }).count(), 0);
    assert.equal(await part(page).getByText("Images that could not be sent").count(), 0);
  });

  seen("a server that refuses says why", async (page) => {
    await change(page, { forwarding: [{ destination: "ELSEWHERE", waiting: 2, waiting_since_ms: Date.UTC(2026, 10, 30, 3), sent: 0, last_sent_ms: null, failed: 1, last_error: null,
      last_error_ms: null, failures: [] }] });
    await page.goto(`${server.url}/#/status`);
    const other = page.getByRole("article", { name: "ELSEWHERE" });
    assert.match(await other.innerText(), /Waiting\s+2\s*since /);
    await other.getByRole("button", { name: "Send again: ELSEWHERE" }).click();
    await page.getByText("They cannot be sent again: ").waitFor();
    assert.ok(await other.getByRole("button").isEnabled());
  });
});
