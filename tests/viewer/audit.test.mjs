// The page of the audit log in a real browser: filters, pages, files, and the log of one study.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const pageSize = 50;
const searches = 60;
/** A Patient ID that a spreadsheet would compute. */
const formula = '=HYPERLINK("x")';
const [study, deleted] = [uid(), uid()];

let server;
let browser;
/** A browser of a phone, whose owner reads Korean and likes it dark. */
let phone;

before(async () => {
  server = await servers.startEmpty({ "preview.quiet_seconds": 0 });
  await store(server.url, [image({ name: "Seen^Often", id: "AUDIT-1", study })]);
  await store(server.url, [image({ name: "Gone^Soon", id: formula, study: deleted })]);
  assert.ok((await fetch(`${server.url}/dicom-web/studies/${deleted}`, { method: "DELETE" })).ok);
  assert.ok((await fetch(`${server.url}/dicom-web/studies/${study}?accept=application/zip`)).ok);
  browser = await browsers.start("requests of the audit log");
  phone = await browser.context.browser().newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, locale: "ko-KR", colorScheme: "dark" });
  phone.setDefaultTimeout(60_000);
  await browsers.serveSource(phone);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** A test with a page of its own. */
function seen(name, look, context = () => browser.context) {
  test(name, { timeout: 120_000 }, async () => {
    const page = await context().newPage();
    try {
      await look(page);
    } finally {
      await screenshot(page, `audit ${name}`);
      await page.close();
    }
  });
}

async function open(page, query = "") {
  await page.goto(`${server.url}/#/audit${query}`);
  await settled(page);
}

/** Waits until the page shows what its URL names. */
function settled(page) {
  return page.locator("#audit-table[aria-busy=false]").waitFor({ state: "attached" });
}

function rows(page, text) {
  return page.locator("#audit-rows > tr", text ? { hasText: text } : {});
}

function says(page, text) {
  return page.locator("#audit-message", { hasText: text }).waitFor();
}

async function faults(page) {
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

/** Whether nothing is beyond the right edge of the page. */
function isWithin(page) {
  return page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
}

/** The text of a file that a button gives. */
async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator(button).click()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
}

describe("the audit log", { concurrency: 1 }, () => {
  seen("says who did what, and its filters are in the URL", async (page) => {
    await page.goto(server.url);
    await page.getByRole("link", { name: "Audit log" }).click();
    await rows(page, "Deleted the study").filter({ hasText: formula }).waitFor();
    for (const text of ["Stored images", "Downloaded", "Read the audit log"]) await rows(page, text).first().waitFor();
    const first = rows(page, "Downloaded").first();
    for (const text of ["AUDIT-1", "not signed in", "done", "127.0.0.1 · web"]) assert.match(await first.innerText(), new RegExp(text));
    assert.deepEqual(await faults(page), []);
    assert.ok(await isWithin(page));
    await screenshot(page, "audit all of the log");

    await page.getByLabel("What").selectOption("study-deleted");
    await page.waitForURL(/#\/audit\?event=study-deleted$/);
    await says(page, /^1 entry/);
    await page.reload();
    await says(page, /^1 entry/);
    assert.equal(await page.getByLabel("What").inputValue(), "study-deleted");
    await page.getByRole("button", { name: "Clear" }).click();
    await page.waitForURL(/#\/audit$/);
    await rows(page, "Stored images").first().waitFor();
    await page.goBack();
    await says(page, /^1 entry/);

    // A link in a line narrows the log; the keyboard is enough for the form.
    await page.goBack();
    await rows(page, "AUDIT-1").first().getByRole("link", { name: "Only entries about patient AUDIT-1" }).click();
    await page.waitForURL(/#\/audit\?patient=AUDIT-1$/);
    await page.waitForFunction(() => [...document.querySelectorAll("#audit-rows > tr")].every((row) => row.textContent.includes("AUDIT-1")));
    const today = await page.evaluate(() => new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 10));
    await page.getByLabel("Patient ID").fill(formula);
    await page.locator("#audit").getByLabel("From", { exact: true }).fill(today);
    await page.getByLabel("Patient ID").press("Enter");
    await rows(page, "Deleted the study").waitFor();
    assert.equal(await rows(page, "AUDIT-1").count(), 0);
    assert.match(page.url(), new RegExp(`from=${today}`));
  });

  seen("a study's page leads to who has seen it, and back", async (page) => {
    await page.goto(`${server.url}/#/studies/${study}`);
    await page.locator(".view img").waitFor();
    await page.getByRole("link", { name: "Who has seen this study" }).click();
    await page.getByRole("heading", { name: "Who has seen this study" }).waitFor();
    await rows(page, "Viewed the study").waitFor();
    assert.equal(await rows(page, formula).count(), 0);
    assert.match(page.url(), new RegExp(`#/audit\\?study=${study}$`));
    await screenshot(page, "audit of a study");
    await page.getByRole("link", { name: "Back to the study" }).click();
    await page.getByRole("heading", { name: "Seen Often" }).waitFor();
    await open(page, "?patient=AUDIT-1&event=instances-transferred");
    await rows(page, "Downloaded").getByRole("link", { name: `Open: ${study}` }).click();
    await page.getByRole("heading", { name: "Seen Often" }).waitFor();
  });

  seen("all that match are given as files", async (page) => {
    await open(page, "?from=2020-01-01");
    const table = await saved(page, "#audit-csv");
    assert.match(table.name, /^audit-\d{4}-\d\d-\d\d\.csv$/);
    const lines = table.text.split("\r\n");
    assert.match(lines[0], /^\ufefftime,user,address,/);
    const line = lines.find((line) => line.includes('"study-deleted"'));
    assert.ok(line.includes('"\'=HYPERLINK(""x"")"') && line.includes(deleted), line);
    const { name, text } = await saved(page, "#audit-jsonl");
    assert.match(name, /\.jsonl$/);
    const records = text.trim().split("\n").map((line) => JSON.parse(line));
    assert.ok(records.some(({ event, patient }) => event === "study-deleted" && patient === formula));
    assert.ok(records.every(({ chain, number }) => chain && number > 0));
  });

  seen("older entries can be reached page by page", async (page) => {
    for (let number = 0; number < searches; number++) await fetch(`${server.url}/dicom-web/studies?PatientID=PAGE-${number}`);
    await open(page, "?event=query");
    await says(page, new RegExp(`^${pageSize} entries`));
    assert.match(await rows(page).first().innerText(), new RegExp(`Searched\\s+PatientID=PAGE-${searches - 1}`));
    const newest = page.getByRole("button", { name: "Newest" });
    assert.ok(await newest.isDisabled());
    await page.getByRole("button", { name: "Older" }).click();
    await page.waitForURL(/event=query&after=/);
    await rows(page, "PatientID=PAGE-0").waitFor();
    await page.reload();
    await rows(page, "PatientID=PAGE-0").waitFor();
    await newest.click();
    await page.waitForURL(/#\/audit\?event=query$/);
    await rows(page, `PatientID=PAGE-${searches - 1}`).waitFor();
  });

  seen("nothing found, and nothing read, are said", async (page) => {
    await open(page, "?patient=nobody");
    await says(page, "The log has no entry that matches.");
    assert.ok(await page.locator("#audit-csv").isDisabled());
    assert.deepEqual(await faults(page), []);
    await open(page, "?event=nonsense");
    await says(page, "The log cannot be read: event is no name or code of an event");
    assert.deepEqual(await faults(page), []);
    await page.getByLabel("What").selectOption("");
    await rows(page).first().waitFor();
    await page.locator("#audit").getByLabel("From", { exact: true }).fill("2026-11-30");
    await page.locator("#audit").getByLabel("To", { exact: true }).fill("2026-11-01");
    await page.getByRole("button", { name: "Search the log" }).click();
    await page.getByText("The first day is later than the last.").waitFor();
    await page.getByRole("button", { name: "Clear" }).click();
    await page.route("**/audit?*", (route) => route.abort());
    await page.getByRole("button", { name: "Search the log" }).click();
    await says(page, "The log cannot be read: The server cannot be reached");
    assert.equal(await rows(page).count(), 0);
    await page.unroute("**/audit?*");
    await page.getByRole("button", { name: "Search the log" }).click();
    await rows(page).first().waitFor();
  });

  seen("a page that cannot be loaded is said", async (page) => {
    await page.route("**/audit-page.js", (route) => route.abort());
    await page.goto(`${server.url}/#/audit`);
    await page.locator("#toasts", { hasText: "A part of this page cannot be loaded. Load the page again." }).waitFor();
    await page.unroute("**/audit-page.js");
    await page.reload();
    await rows(page).first().waitFor();
  });

  seen("the opening of a shared link, and a wrong code, have words of their own", async (page) => {
    const post = async (path, body) => {
      const response = await fetch(server.url + path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      return { status: response.status, body: await response.json() };
    };
    const shared = uid();
    await store(server.url, [image({ name: "Shared^Link", id: "AUDIT-2", study: shared })]);
    const { body: share } = await post("/shares", { study: shared, code: "482913" });
    const secret = share.link.split("/s/")[1];
    assert.equal((await post("/s/open", { secret, code: "000000" })).status, 403);
    assert.equal((await post("/s/open", { secret, code: "482913" })).status, 200);
    await open(page, `?event=user-authentication&study=${shared}`);
    await rows(page, "Wrong code for a shared link").filter({ hasText: "refused" }).waitFor();
    await rows(page, "Opened a shared link").filter({ hasText: "done" }).waitFor();
    assert.equal(await rows(page).count(), 2);
  });

  seen("entries that are far back are looked for with a few requests, and then on request", async (page) => {
    let requests = 0;
    const at = Date.UTC(2026, 0, 15, 12);
    await page.route("**/audit?*", (route) => {
      requests += 1;
      const next = `${String(at).padStart(15, "0")}#${"0".repeat(32)}#000000000000`;
      return route.fulfill({ json: { records: [], next, more: true } });
    });
    await open(page, "?user=rare");
    await says(page, /^Nothing that matches was found back to Jan 15, 2026/);
    assert.equal(requests, 10);
    assert.ok(await page.getByRole("button", { name: "Older" }).isEnabled());
  });

  seen("on a phone, in Korean", async (page) => {
    await page.goto(server.url);
    await page.getByRole("link", { name: "감사 기록" }).click();
    await page.getByLabel("내용").selectOption({ label: "저장, 전송, 내려받기" });
    await rows(page, "영상 저장").first().waitFor();
    await rows(page, "AUDIT-1").first().waitFor();
    assert.ok(await isWithin(page));
    assert.deepEqual(await faults(page), []);
    await screenshot(page, "audit a phone in Korean");
    await page.goto(`${server.url}/#/studies/${study}`);
    await page.getByRole("link", { name: "이 검사를 본 사람" }).click();
    await page.getByRole("heading", { name: "이 검사를 본 사람" }).waitFor();
    await rows(page, "검사 조회").waitFor();
    // Another language, with the same entries.
    await page.locator("#language").selectOption("en");
    await rows(page, "Viewed the study").waitFor();
    await page.evaluate(() => localStorage.clear());
  }, () => phone);

  test("no script failed", () => assert.deepEqual(browser.errors, []));
});
