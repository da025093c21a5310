// Files whose instance is stored with other data, in a real browser: what differs is said, and what is stored is kept or replaced.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { file, image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const name = "Kim^Minjun=金^敏俊=김^민준";

let server;
let browser;
/** A browser of a phone, whose owner reads Korean. */
let phone;

before(async () => {
  server = await servers.startEmpty({ "preview.quiet_seconds": 0 });
  browser = await browsers.start("requests of conflicts");
  phone = await browser.context.browser().newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, locale: "ko-KR" });
  phone.setDefaultTimeout(60_000);
  await browsers.serveSource(phone);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** A test with a page of its own, on which files were sent that conflict with what is stored. */
function seen(title, { stored, sent, rights, context = () => browser.context }, look) {
  test(title, { timeout: 120_000 }, async () => {
    const page = await context().newPage();
    const own = stored.map((one) => ({ study: uid(), series: uid(), instance: uid(), ...one }));
    const files = own.map((one, index) => file(`${index}.dcm`, image({ ...one, ...sent, extra: 10 })));
    try {
      await store(server.url, own.map((one) => image(one)));
      if (rights) await page.route("**/me", (route) => route.fulfill({ json: { tenant: "default", rights } }));
      await page.goto(server.url);
      await page.locator("#files").setInputFiles(files);
      await page.locator("#uploads .conflict p").first().waitFor();
      await look(page, own);
    } finally {
      await screenshot(page, `conflicts ${title}`);
      await page.close();
    }
  });
}

async function faults(page) {
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

/** The patient of a stored study. */
async function patientOf({ study }) {
  const [found] = await (await fetch(`${server.url}/dicom-web/studies?StudyInstanceUID=${study}`)).json();
  return found["00100020"].Value[0];
}

describe("a file that conflicts with what is stored", { concurrency: 1 }, () => {
  seen("says what differs, and replaces it when asked to", { stored: [{ name, id: "RIGHT-1" }], sent: { id: "WRONG-1", date: "20260202" } }, async (page, [of]) => {
    const note = page.locator("#uploads li", { hasText: "0.dcm" });
    await note.getByText("other data with the same identity are stored already").waitFor();
    await note.getByText("Patient ID: RIGHT-1 is stored, WRONG-1 is in the file.").waitFor();
    await note.getByText("Study date: 2026-01-01 is stored, 2026-02-02 is in the file.").waitFor();
    assert.equal(await note.getByText("Patient: ").count(), 0);
    assert.match(await note.getByRole("link", { name: "Open what is stored" }).getAttribute("href"), new RegExp(of.study));
    assert.ok(await page.getByRole("button", { name: "Replace all" }).isHidden());
    assert.deepEqual(await faults(page), []);
    await screenshot(page, "conflicts a note");
    await note.getByRole("button", { name: "Replace: 0.dcm" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    assert.equal(await patientOf(of), "RIGHT-1");
    await note.getByRole("button", { name: "Replace: 0.dcm" }).click();
    await page.getByRole("dialog").getByText("The stored image is deleted for good").waitFor();
    await screenshot(page, "conflicts a question");
    await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
    await page.locator("#summary", { hasText: /^1 of 1 file stored$/ }).waitFor();
    await page.locator("#arrivals", { hasText: "all there, counted" }).waitFor();
    assert.equal(await patientOf(of), "WRONG-1");
  });

  seen("with several others replaces all at once", { stored: [1, 2, 3].map((number) => ({ name, id: `MANY-${number}` })), sent: {} }, async (page, own) => {
    await page.locator("#uploads li").first().getByText("Name, ID, date and study are the same.").waitFor();
    await page.getByRole("button", { name: "Replace all 3" }).click();
    await page.getByRole("dialog").getByText("3 files").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
    await page.locator("#summary", { hasText: /^3 of 3 files stored$/ }).waitFor();
    for (const { study } of own) {
      const response = await fetch(`${server.url}/dicom-web/studies/${study}`, { headers: { Accept: 'multipart/related; type="application/dicom"' } });
      // The private element that the files have, and what was stored had not.
      assert.ok(Buffer.from(await response.arrayBuffer()).includes(Buffer.from([0xfc, 0xff, 0xfc, 0xff])));
    }
  });

  seen("is kept out where the stored one may not be deleted", { stored: [{ name, id: "KEPT-1" }], sent: { name: "Lee^Seoyeon" }, rights: ["read", "write"] }, async (page, [of]) => {
    const note = page.locator("#uploads li", { hasText: "0.dcm" });
    await note.getByText("Patient: Kim Minjun (김민준) is stored, Lee Seoyeon is in the file.").waitFor();
    await note.getByText("somebody who may delete has to delete the stored image first").waitFor();
    assert.equal(await note.getByRole("button").count(), 0);
    assert.equal(await patientOf(of), "KEPT-1");
  });

  seen("is not replaced if the stored one cannot be deleted", { stored: [{ name, id: "STAYS-1" }], sent: { id: "OTHER-1" } }, async (page, [of]) => {
    await page.route(`**/instances/${of.instance}`, (route) => (route.request().method() === "DELETE" ? route.fulfill({ status: 403, json: { detail: "no" } }) : route.fallback()));
    await page.getByRole("button", { name: "Replace: 0.dcm" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
    await page.locator("#toasts", { hasText: "0.dcm does not replace what is stored: no" }).waitFor();
    await page.locator("#uploads li", { hasText: "0.dcm" }).waitFor();
    assert.equal(await patientOf(of), "STAYS-1");
  });

  seen("is explained on a phone, in Korean", { stored: [{ name, id: "PHONE-1" }, { name, id: "PHONE-1" }], sent: { id: "PHONE-2" }, context: () => phone }, async (page) => {
    await page.getByText("환자 ID: 저장된 값은 PHONE-1, 파일의 값은 PHONE-2입니다.").first().waitFor();
    await page.getByRole("button", { name: "2개 모두 교체" }).waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth));
    assert.deepEqual(await faults(page), []);
  });

  test("no script failed", () => assert.deepEqual(browser.errors, []));
});
