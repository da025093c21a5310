// The console in a real browser: what people click, with wrong input and broken lines.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { file, image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const pageSize = 25;
const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const others = 60;

let server;
let browser;

before(async () => {
  server = await servers.startEmpty({ "ingest.max_instance_bytes": 20_000_000 });
  browser = await browsers.start("requests of the console");
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** A test with a page of its own. */
function seen(name, look, viewport = { width: 1280, height: 800 }) {
  test(name, { timeout: 300_000 }, async () => {
    const page = await browser.context.newPage();
    await page.setViewportSize(viewport);
    // What another test has not sent is not offered to this one.
    await page.goto(`${server.url}/healthz`);
    await page.evaluate(() => new Promise((resolve) => { indexedDB.deleteDatabase("cuspid.uploads").onsuccess = resolve; }));
    try {
      await look(page);
    } finally {
      await screenshot(page, `console ${name}`);
      await page.close();
    }
  });
}

/** Where an element is in the window. A row may be made anew at any time, so the element is found and measured at once. */
function box(locator) {
  return locator.evaluate((element) => element.getBoundingClientRect().toJSON());
}

function rows(page) {
  return page.locator("#rows > tr");
}

function row(page, text) {
  return page.locator("#rows > tr", { hasText: text });
}

async function send(page, files) {
  await page.locator("#files").setInputFiles(files);
}

async function says(page, text) {
  await page.locator("#summary", { hasText: text }).waitFor();
}

/** Types into the one box. */
async function search(page, text) {
  await page.getByRole("searchbox", { name: "Find studies" }).fill(text);
  const query = text && new URLSearchParams({ q: text }).toString();
  await page.waitForFunction((query) => location.hash.includes(query), query);
}

/** Waits until the list has so many studies in all. */
async function finds(page, count) {
  await page.locator("#table-box[aria-busy=false] ~ .pager #page", { hasText: new RegExp(`^1 to ${count} of ${count}$`) }).waitFor();
}

/** Runs a function in the page with a module of the console. */
function inModule(page, name, look, argument) {
  return page.evaluate(`(async () => (${look})(await import(document.querySelector("script").src.replace("main.js", ${JSON.stringify(name)})), ${JSON.stringify(argument)}))()`);
}

describe("the console", { concurrency: 1 }, () => {
  seen("an empty archive says what to do, and how to connect a device", async (page) => {
    await page.goto(server.url);
    await page.getByText("No studies are stored yet.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Choose files" }).isVisible());
    await page.locator(".connect", { hasText: `${server.url}/dicom-web` }).waitFor();
    // No phone reaches a loopback address.
    await page.getByText("This server can be reached on this computer only (127.0.0.1).").waitFor();
    assert.equal(await page.getByRole("img", { name: "This page on a phone" }).count(), 0);
  });

  seen("the status of an empty archive counts none, and says that devices cannot send", async (page) => {
    await page.goto(`${server.url}/#/status`);
    const fact = page.locator(".facts > div", { hasText: "Studies" });
    assert.equal(await fact.locator("dd").innerText(), "0");
    await page.getByText("Devices cannot send by DICOM (DIMSE): it is off.").waitFor();
    const answer = (change) => page.route("**/status", async (route) => {
      const status = await (await route.fetch()).json();
      return route.fulfill({ json: { ...status, ...change } });
    });
    await answer({ studies: null });
    await page.reload();
    await fact.getByText("not counted; “cuspid check --repair” on the server counts them").waitFor();
    const devices = [{ name: "PAX-1", last_received_ms: Date.UTC(2026, 10, 30, 3), instances: 42 }];
    await page.unrouteAll({ behavior: "wait" });
    await answer({ studies: 12_345, dimse: { ae_title: "CUSPID", port: 11112 }, devices });
    await page.reload();
    await fact.getByText("12,345").waitFor();
    assert.match(await page.getByRole("row", { name: "PAX-1" }).innerText(), /Nov 30, 2026.*\t42$/s);
    await page.getByText("11112").waitFor();
    assert.equal(await page.getByText("it is off").count(), 0);
  });

  seen("an archive with an address in the network has a picture of it for phones", async (page) => {
    await page.route("http://pacs.example/**", async (route) => {
      const url = new URL(route.request().url());
      // As the browser's tests do it for every address: the console of the source tree.
      if (url.pathname.startsWith("/console/") && process.env.CUSPID_CONSOLE === "source") return route.fallback();
      const response = await route.fetch({ url: server.url + url.pathname + url.search });
      return route.fulfill({ response, ...(url.pathname === "/" && { body: browsers.sourcePage(await response.text()) }) });
    });
    await page.goto("http://pacs.example/#/status");
    await page.getByRole("img", { name: "This page on a phone" }).waitFor();
    assert.equal(await page.getByText("on this computer only").count(), 0);
  });

  seen("all studies can be reached page by page, and the URL says where one is", async (page) => {
    const day = (number) => `2025${String(1 + Math.floor(number / 28)).padStart(2, "0")}${String(1 + (number % 28)).padStart(2, "0")}`;
    const images = Array.from({ length: others }, (_, number) => image({ name: `Other^${number}`, id: `O-${number}`, date: day(number) }));
    await store(server.url, images);
    await page.goto(`${server.url}/#/?size=25`);
    const found = new Set();
    for (let place = 0; ; place += pageSize) {
      await page.locator("#page", { hasText: `${place + 1} to` }).waitFor();
      for (const text of await rows(page).locator("td:first-child").allInnerTexts()) found.add(text);
      if (!(await page.getByRole("button", { name: "Next" }).isEnabled())) break;
      await page.getByRole("button", { name: "Next" }).click();
    }
    assert.equal(found.size, others);
    assert.match(page.url(), /page=3/);
    await page.reload();
    await page.locator("#page", { hasText: "51 to 60 of 60" }).waitFor();
    await page.getByRole("button", { name: "Previous" }).click();
    await page.locator("#page", { hasText: "26 to 50" }).waitFor();
    await page.goBack();
    await page.locator("#page", { hasText: "51 to 60" }).waitFor();
    await page.goto(`${server.url}/#/?size=25`);
    await page.locator("#page", { hasText: "1 to 25 of 60" }).waitFor();
    await page.getByLabel("Studies a page").selectOption("100");
    await finds(page, others);
    assert.match(page.url(), /size=100/);
  });

  seen("pages of several searches together have each study once, in order", async (page) => {
    await page.goto(`${server.url}/#/?q=O-&size=25`);
    const found = [];
    for (let place = 0; place < others; place += pageSize) {
      await page.locator("#page", { hasText: `${place + 1} to` }).waitFor();
      for (const text of await rows(page).locator("td:nth-child(4)").allInnerTexts()) found.push(text);
      if (place + pageSize < others) await page.getByRole("button", { name: "Next" }).click();
    }
    assert.equal(found.length, others);
    assert.deepEqual(found, [...found].sort().reverse());
  });

  seen("names are found as people type them, and are shown in the script of the reader", async (page) => {
    await store(server.url, [
      image({ name: "Kim^Minjun=金^敏俊=김^민준", id: "D-2026-0042", date: "20261128" }),
      image({ name: "Müller^Zoë", id: "M-7" }),
    ]);
    await page.goto(server.url);
    await row(page, "Kim Minjun").locator(".other", { hasText: "김민준" }).waitFor();
    const typed = [
      "Kim Minjun", "minjun kim", "kim", "injun", "minjunkim", "민준", "김민준", "김민", "김ㅁ", "ㄱㅁㅈ", "ㅁㅈ", "김ㅁㅈ", "金敏俊", "俊", "0042", "d-2026", "kim 0042",
      "D-2026",
    ];
    for (const text of typed) {
      await search(page, text);
      await finds(page, 1);
      assert.equal(await row(page, "김민준").count(), 1, text);
    }
    assert.match(page.url(), /q=D-2026/);
    await page.reload();
    await finds(page, 1);
    assert.equal(await page.getByRole("searchbox", { name: "Find studies" }).inputValue(), "D-2026");
    await search(page, "nobody at all");
    await page.getByText("No studies found.").waitFor();
    await page.goBack();
    await page.locator("#page", { hasText: "1 to" }).waitFor();
  });

  seen("a search that is typed on is not sent letter by letter, and an old answer is not shown", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    const asked = [];
    page.on("request", (request) => request.url().includes("PatientName") && asked.push(new URL(request.url()).searchParams.get("PatientName")));
    // The answer to the first search comes late.
    await page.route(/PatientName=muller/, async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await route.continue().catch(() => {});
    });
    const box = page.getByRole("searchbox", { name: "Find studies" });
    await box.evaluate((box) => {
      for (const text of ["m", "mu", "mul", "mull", "mulle", "muller"]) {
        box.value = text;
        box.dispatchEvent(new InputEvent("input"));
      }
    });
    while (!asked.includes("muller")) await page.waitForTimeout(20);
    await box.fill("kim");
    await finds(page, 1);
    await page.waitForTimeout(1800);
    // The list looks again for what has arrived.
    assert.deepEqual([...new Set(asked)], ["muller", "kim"]);
    assert.equal(await row(page, "Kim Minjun").count(), 1);
  });

  seen("days and modalities are words in the box, and chips", async (page) => {
    const now = new Date();
    const today = `${now.getFullYear()}${String(now.getMonth() + 1).padStart(2, "0")}${String(now.getDate()).padStart(2, "0")}`;
    await store(server.url, [image({ name: "Arrived^Today", date: today })]);
    await page.goto(server.url);
    for (const text of ["today", "오늘", today, `${today.slice(0, 4)}-${today.slice(4, 6)}-${today.slice(6)}`, "arrived OT", "today ot arrived"]) {
      await search(page, text);
      await finds(page, 1);
      await row(page, "Arrived Today").waitFor();
    }
    await search(page, "2025-01");
    await finds(page, 28);
    await search(page, "2025-01-27..2025-02-02");
    await finds(page, 4);
    await search(page, "");
    await page.getByRole("button", { name: "Today", exact: true }).click();
    await finds(page, 1);
    assert.match(page.url(), /days=today/);
    assert.equal(await page.getByRole("button", { name: "Today", exact: true }).getAttribute("aria-pressed"), "true");
    await page.getByRole("button", { name: "CT", exact: true }).click();
    await page.getByText("No studies found.").waitFor();
    await page.getByRole("button", { name: "CT", exact: true }).click();
    await page.getByRole("button", { name: "OT", exact: true }).click();
    await finds(page, 1);
  });

  for (const [screen, viewport] of [["desk", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }]]) {
    seen(`what arrived today is a chip on a ${screen}, whatever the date of the study`, async (page) => {
      const study = uid();
      await store(server.url, [image({ name: `Late^${screen}`, date: "20200102", study })]);
      await page.goto(`${server.url}/#/?q=${screen}`);
      await finds(page, 1);
      await page.getByRole("button", { name: "Arrived today", pressed: false }).click();
      await page.getByRole("button", { name: "Arrived today", pressed: true }).waitFor();
      assert.match(page.url(), /arrived=today/);
      await finds(page, 1);
      await page.reload();
      await finds(page, 1);
      await page.getByLabel("Language").selectOption("ko");
      await page.getByRole("button", { name: "오늘 수신", pressed: true }).waitFor();
      await page.getByLabel("언어").selectOption("en");
      // On the next day, none of them arrived today.
      await page.addInitScript(() => {
        const tomorrow = () => Today.now() + 24 * 60 * 60 * 1000;
        const Today = Date;
        window.Date = class extends Today {
          constructor(...parts) {
            super(...(parts.length ? parts : [tomorrow()]));
          }
          static now() {
            return tomorrow();
          }
        };
      });
      await page.reload();
      await page.getByText("No studies found.").waitFor();
      await page.getByRole("button", { name: "Arrived today", pressed: true }).click();
      await finds(page, 1);
      assert.doesNotMatch(page.url(), /arrived/);
      assert.ok((await fetch(`${server.url}/dicom-web/studies/${study}`, { method: "DELETE" })).ok);
    }, viewport);
  }

  seen("a first day after the last one is a mistake, not an empty list", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    await page.getByLabel("To", { exact: true }).fill("2026-12-01");
    await page.getByLabel("From", { exact: true }).fill("2026-12-02");
    await page.getByText("The first day is later than the last.").waitFor();
    assert.ok((await rows(page).count()) > 0);
  });

  seen("the list is sorted by its columns", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    const names = () => rows(page).locator("a.open").allInnerTexts();
    await page.getByRole("button", { name: "Patient", exact: true }).click();
    await page.getByRole("columnheader", { name: "Patient", exact: true }).and(page.locator("[aria-sort=ascending]")).waitFor();
    await row(page, "Arrived Today").and(page.locator(":first-child")).waitFor();
    const up = await names();
    assert.equal(up[1], "Kim Minjun");
    await page.getByRole("button", { name: "Patient", exact: true }).click();
    await page.locator("[aria-sort=descending]").waitFor();
    await row(page, "Other 9").and(page.locator(":first-child")).waitFor();
    assert.match(page.url(), /sort=-PatientName/);
    await page.reload();
    await row(page, "Other 9").and(page.locator(":first-child")).waitFor();
  });

  seen("each button names its patient", async (page) => {
    await page.goto(server.url);
    const minjun = row(page, "김민준");
    await minjun.waitFor();
    for (const [role, name] of [["link", /Open: Kim Minjun/], ["link", /Open in viewer: Kim Minjun/], ["link", /Download: Kim Minjun/], ["button", /Delete: Kim Minjun/]]) {
      assert.equal(await minjun.getByRole(role, { name }).count(), 1, String(name));
    }
  });

  seen("a study opens in the viewers that are installed", async (page) => {
    await page.route(`${server.url}/`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: browsers.sourcePage(await response.text()).replace('data-view=""', 'data-view="view/"') });
    });
    await page.goto(server.url);
    const minjun = row(page, "Kim Minjun");
    const uids = await minjun.locator("a.open").getAttribute("href");
    const study = uids.split("/").pop();
    assert.equal(await minjun.getByRole("link", { name: /^View: Kim Minjun/ }).getAttribute("href"), `view/?study=${study}`);
    assert.equal(await minjun.getByRole("link", { name: /^Open in viewer: / }).getAttribute("href"), `viewer/viewer?StudyInstanceUIDs=${study}`);
  });

  /** Opens the list, and waits until the line on which changes come is open. */
  async function listening(page, url = server.url) {
    const open = page.waitForResponse((response) => response.url().endsWith("/events"));
    await page.goto(url);
    await rows(page).first().waitFor();
    assert.equal((await open).status(), 200);
    // What came before the line was open is looked for once.
    await page.waitForTimeout(1500);
  }

  const erase = (study) => fetch(`${server.url}/dicom-web/studies/${study}`, { method: "DELETE" });

  seen("what arrives and goes shows by itself, and nothing is asked for until then", async (page) => {
    const study = uid();
    await listening(page);
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.waitForTimeout(6000);
    assert.deepEqual(asked, []);
    await store(server.url, [image({ name: "Just^Now", study, date: "20261130" })]);
    await row(page, "Just Now").locator(".badge", { hasText: "just arrived" }).waitFor();
    assert.equal((await erase(study)).status, 204);
    await row(page, "Just Now").waitFor({ state: "detached" });
  });

  seen("a study that is still arriving says so, with the number of its images so far", async (page) => {
    const study = uid();
    await listening(page);
    const arriving = row(page, "On Theway").locator(".badge.arriving", { hasText: /^arriving, [1-9]\d* images$/ });
    let isEnough = false;
    const send = async () => {
      let count = 0;
      for (; !isEnough; count++) {
        await store(server.url, [image({ name: "On^Theway", study, series: `${study}.1`, date: "20261130" })]);
        await page.waitForTimeout(250);
      }
      return count;
    };
    const sending = send();
    await arriving.waitFor();
    await screenshot(page, "console a study arrives");
    await page.setViewportSize({ width: 390, height: 844 });
    await arriving.waitFor();
    await screenshot(page, "console a study arrives on a phone");
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
    isEnough = true;
    const count = await sending;
    await row(page, "On Theway").locator(".badge.new", { hasText: "just arrived" }).waitFor();
    await row(page, "On Theway").locator("td.number").last().filter({ hasText: new RegExp(`^${count}$`) }).waitFor({ state: "attached" });
    await erase(study);
  });

  for (const [name, breakLine] of [
    ["breaks again and again", (route) => route.fulfill({ status: 200, contentType: "text/event-stream", body: ": and no more\n\n" })],
    ["cannot be opened", (route) => route.abort()],
    ["is not allowed", (route) => route.fulfill({ status: 403, json: {} })],
  ]) {
    seen(`what arrives and goes shows by itself when the line to the server ${name}`, async (page) => {
      const [first, second] = [uid(), uid()];
      await page.route("**/events", breakLine);
      await page.goto(`${server.url}/#/?size=25`);
      await rows(page).nth(24).waitFor();
      await store(server.url, [image({ name: "Without^Line", study: first, date: "20261130" })]);
      await row(page, "Without Line").locator(".badge", { hasText: "just arrived" }).waitFor();
      await store(server.url, [image({ name: "Other^Line", study: second, date: "20261130" })]);
      await row(page, "Other Line").locator(".badge", { hasText: "just arrived" }).waitFor();
      // Those that move up to the end of the page have not arrived.
      await erase(first);
      await row(page, "Without Line").waitFor({ state: "detached" });
      await erase(second);
      await row(page, "Other Line").waitFor({ state: "detached" });
      assert.equal(await rows(page).count(), 25);
      assert.deepEqual(await page.locator("#rows .badge").allInnerTexts(), []);
    });
  }

  seen("studies of a list that comes late have not just arrived", async (page) => {
    let release;
    let held = new Promise((resolve) => { release = resolve; });
    await page.route("**/events", (route) => route.fulfill({ status: 200, contentType: "text/event-stream", body: ": and no more\n\n" }));
    await page.route("**/studies?**", async (route) => {
      const own = held;
      held = null;
      await own;
      await route.continue();
    });
    await page.goto(`${server.url}/#/?size=25`);
    // A later look has its answer first.
    await rows(page).nth(24).waitFor();
    release();
    await page.unrouteAll({ behavior: "wait" });
    assert.deepEqual(await page.locator("#rows .badge").allInnerTexts(), []);
  });

  seen("a page that is not seen listens to nothing", async (page) => {
    await listening(page);
    const ended = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/events"));
    const hide = (isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event("visibilitychange"));
    };
    await page.evaluate(hide, true);
    await ended;
    const study = uid();
    await store(server.url, [image({ name: "Came^Unseen", study, date: "20261130" })]);
    const again = page.waitForRequest((request) => request.url().endsWith("/events"));
    await page.evaluate(hide, false);
    assert.ok((await again).headers()["last-event-id"], "the line goes on where it was");
    await row(page, "Came Unseen").locator(".badge").waitFor();
    await erase(study);
  });

  seen("the page speaks Korean, by a switch that is kept", async (page) => {
    await page.goto(server.url);
    await row(page, "Kim Minjun").waitFor();
    await page.getByLabel("Language").selectOption("ko");
    await page.getByRole("heading", { name: "검사 목록" }).waitFor();
    await row(page, "김민준").locator(".other", { hasText: "Kim Minjun" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "ko");
    await page.reload();
    await page.getByRole("heading", { name: "검사 목록" }).waitFor();
    await page.getByLabel("언어").selectOption("en");
    await page.getByRole("heading", { name: "Studies" }).waitFor();
  });

  test("the browser's language is that of the page", async () => {
    const korean = await browsers.start("requests in Korean", { locale: "ko-KR", colorScheme: "dark" });
    const page = await korean.context.newPage();
    try {
      await page.goto(server.url);
      await row(page, "김민준").waitFor();
      assert.equal(await page.getByRole("button", { name: "파일 선택" }).count(), 1);
      await screenshot(page, "console in Korean and dark");
    } finally {
      await korean.stop();
    }
  });

  seen("a row opens its study, and a link to it can be copied", async (page) => {
    const study = uid();
    await store(server.url, [
      ...["1", "2", "3"].map((series) => image({ name: "Open^Me", id: "OPEN-1", study, series: `${study}.${series}`, date: "20261127" })),
      image({ name: "Open^Me", id: "OPEN-1", date: "20251127" }),
    ]);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.goto(`${server.url}/#/?q=OPEN-1`);
    await finds(page, 2);
    await rows(page).first().locator("td").nth(3).click();
    await page.getByRole("heading", { name: "Open Me" }).waitFor();
    assert.ok(page.url().endsWith(`#/studies/${study}`));
    await page.locator(".cards li").nth(2).waitFor();
    await page.locator(".view img").waitFor();
    // The other study of the patient is one click away.
    await page.locator(".timeline a", { hasText: "2025-11-27" }).click();
    await page.locator(".timeline a[aria-current]", { hasText: "2025-11-27" }).waitFor();
    await page.goBack();
    await page.locator(".cards li").nth(2).getByRole("link").click();
    assert.match(page.url(), /series=.*\.3$/);
    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByText("Copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), page.url());
    await page.getByRole("link", { name: "All studies" }).click();
    await finds(page, 2);
    // Back to the list as it was typed.
    await search(page, "OPEN");
    await rows(page).first().locator("a.open").click();
    await page.getByRole("link", { name: "All studies" }).click();
    await finds(page, 2);
    assert.match(page.url(), /q=OPEN$/);
  });

  seen("the link that skips to the content leaves the list as it is", async (page) => {
    await page.goto(`${server.url}/#/?q=OPEN-1`);
    await finds(page, 2);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator("#main:focus").waitFor();
    assert.match(page.url(), /q=OPEN-1$/);
    await finds(page, 2);
  });

  seen("the attributes of an instance can be searched", async (page) => {
    await page.goto(`${server.url}/#/?q=OPEN-1`);
    await page.getByRole("link", { name: /^Open: Open Me/ }).first().click();
    await page.locator(".view img").waitFor();
    await page.locator(".below summary").click();
    await page.getByRole("searchbox", { name: "Search the attributes" }).fill("patientid");
    await page.locator(".attributes tbody tr", { hasText: "OPEN-1" }).waitFor();
    assert.equal(await page.locator(".attributes tbody tr").count(), 1);
    assert.match(await page.locator(".attributes tbody tr").innerText(), /\(0010,0020\)\s+PatientID\s+LO\s+OPEN-1/);
  });

  seen("a document, a video and a report are shown as such when one comes back to them", async (page) => {
    const study = uid();
    const instances = [1, 2, 3, 4].map((number) => `${study}.1.${number}`);
    await store(server.url, instances.map((instance) => image({ name: "Mixed^Kinds", study, series: `${study}.1`, instance })));
    const kinds = [["application/pdf", "iframe:not([sandbox]), .view a"], ["video/mp4", "video"], ["text/html", "iframe[sandbox]"], ["image/png", "img"]];
    const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
    await page.route("**/rendered*", (route) => {
      const [contentType] = kinds[instances.findIndex((instance) => route.request().url().includes(`/${instance}/`))];
      return route.fulfill({ contentType, body: contentType === "image/png" ? png : "some text" });
    });
    await page.goto(`${server.url}/#/studies/${study}`);
    await page.locator(".view").focus();
    const seen = async (number) => {
      await page.locator(".scrub output", { hasText: `${number + 1} of 4` }).waitFor();
      await page.locator(`.view[aria-busy=false]`).waitFor();
      await page.locator(".view").locator(kinds[number][1].replace(".view a", "a")).waitFor();
      assert.equal(await page.locator(".view img").count(), number === 3 ? 1 : 0, kinds[number][0]);
    };
    await page.locator(".view img, .view video, .view iframe, .view a").first().waitFor();
    await page.keyboard.press("Home");
    await seen(0);
    for (const next of [1, 2, 3]) {
      await page.keyboard.press("ArrowDown");
      await seen(next);
    }
    for (const next of [2, 1, 0]) {
      await page.keyboard.press("ArrowUp");
      await seen(next);
    }
    await erase(study);
  });

  seen("a study that is not there is said to be not there", async (page) => {
    await page.goto(`${server.url}/#/studies/1.2.3.4`);
    await page.getByRole("heading", { name: "This study is not here." }).waitFor();
  });

  seen("URLs of the service lead people to the console", async (page) => {
    const [study] = await (await fetch(`${server.url}/dicom-web/studies?PatientID=OPEN-1&StudyDate=20261127`)).json();
    await page.goto(`${server.url}/dicom-web/studies/${study["0020000D"].Value[0]}`);
    await page.getByRole("heading", { name: "Open Me" }).waitFor();
    await page.goto(`${server.url}/dicom-web/`);
    await rows(page).first().waitFor();
    await page.goto(`${server.url}/nonsense`);
    await page.getByRole("link", { name: "All studies" }).click();
    await rows(page).first().waitFor();
  });

  seen("the status page says how the server is, and how to reach it", async (page) => {
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.goto(server.url);
    await page.getByRole("link", { name: "Status" }).click();
    await page.getByRole("heading", { name: "Status" }).waitFor();
    for (const text of ["Version", "Running for", "Disk", "Largest file", "No device has sent anything"]) {
      await page.getByText(text).first().waitFor();
    }
    assert.match(await page.locator("#facts").innerText(), /20 MB/);
    await page.getByRole("button", { name: "Copy: DICOMweb" }).click();
    await page.getByText("Copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${server.url}/dicom-web`);
  });

  seen("a zip file and files in it are stored", async (page) => {
    const directory = mkdtempSync(join(tmpdir(), "cuspid-zip-"));
    writeFileSync(join(directory, "one.dcm"), image({ name: "Zip^One" }));
    writeFileSync(join(directory, "two.dcm"), image({ name: "Zip^Two" }));
    execFileSync("python3", ["-m", "zipfile", "-c", join(directory, "both.zip"), join(directory, "one.dcm"), join(directory, "two.dcm")]);
    await page.goto(server.url);
    await send(page, [join(directory, "both.zip")]);
    await says(page, "1 of 1 file stored");
    await row(page, "Zip One").waitFor();
    await row(page, "Zip Two").waitFor();
    // Whose images they were, with links, and how many.
    const lines = page.locator("#arrivals li");
    await lines.filter({ hasText: "both.zip" }).getByText("1 of 1 file stored, 2 images in it").waitFor();
    await lines.filter({ hasText: "Zip Two" }).getByText("1 of 1 file stored, all there, counted").waitFor();
    await lines.filter({ hasText: "Zip One, 2026-01-01, OT" }).getByRole("link").click();
    await page.getByRole("heading", { name: "Zip One" }).waitFor();
  });

  for (const [name, files, why] of [
    ["other bytes", (one, other) => [one, other], /other data with the same identity are stored already/],
    ["a cut copy, first", (one) => [one.subarray(0, one.length - 40), one], /damaged, or not a DICOM file/],
    ["a cut copy, last", (one) => [one, one.subarray(0, one.length - 40)], /damaged, or not a DICOM file/],
  ]) {
    seen(`of two files with one identity, only the one that is stored is said to be: ${name}`, async (page) => {
      const of = { instance: uid(), study: uid() };
      const sent = files(image({ name: "Twin^One", ...of }), image({ name: "Twin^Two", ...of }));
      await page.goto(server.url);
      await send(page, sent.map((bytes, index) => file(`${index}.dcm`, bytes)));
      await says(page, "1 of 2 files stored, 1 not stored");
      const failures = await page.locator("#uploads li").allInnerTexts();
      assert.equal(failures.length, 1);
      assert.match(failures[0], why);
      assert.equal(await page.getByText("all there, counted").count(), 0);
      await erase(of.study);
    });
  }

  seen("the same file twice is stored once, and there already", async (page) => {
    const of = { instance: uid(), study: uid() };
    const bytes = image({ name: "Twice^Same", ...of });
    await page.goto(server.url);
    await send(page, [file("0.dcm", bytes), file("1.dcm", bytes), file("notes.txt", Buffer.from("what a text"))]);
    await says(page, "2 of 3 files stored, 1 of them there already, 1 not stored");
    await erase(of.study);
  });

  seen("files dropped beside the box are stored", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    const bytes = image({ name: "Dropped^Beside" }).toString("base64");
    const transfer = await page.evaluateHandle((bytes) => {
      const transfer = new DataTransfer();
      const array = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
      transfer.items.add(new File([array], "dropped.dcm"));
      return transfer;
    }, bytes);
    await page.locator("#studies h1").dispatchEvent("dragover", { dataTransfer: transfer });
    assert.ok(await page.locator("#drop-hint").isVisible());
    await page.locator("#studies h1").dispatchEvent("drop", { dataTransfer: transfer });
    await says(page, "1 of 1 file stored");
    await row(page, "Dropped Beside").waitFor();
  });

  seen("what cannot be stored says why, file by file", async (page) => {
    const instance = uid();
    const good = image({ name: "Good^File" });
    await store(server.url, [image({ name: "Taken^Before", instance })]);
    await page.goto(server.url);
    await send(page, [
      file("good.dcm", good),
      file("cut.dcm", image({ name: "Cut^Off" }).subarray(0, 500)),
      file("letter.pdf", Buffer.from("%PDF-1.4 and so on")),
      file("notes.txt", Buffer.from("what a text")),
      file("other.dcm", image({ name: "Other^Bytes", instance })),
      file("large.dcm", image({ name: "Too^Large", extra: 20_000_000 })),
      file(".DS_Store", Buffer.from("of a Mac")),
    ]);
    await says(page, "1 of 6 files stored, 5 not stored");
    const failures = await page.locator("#uploads li").allInnerTexts();
    for (const [name, why] of [
      ["cut.dcm", /damaged, or not a DICOM file/],
      ["letter.pdf", /a PDF file, and not DICOM/],
      ["notes.txt", /damaged, or not a DICOM file/],
      ["other.dcm", /other data with the same identity are stored already/],
      ["large.dcm", /larger than the server takes: 20 MB/],
    ]) {
      assert.ok(failures.some((text) => text.includes(name) && why.test(text)), `${name}: ${failures}`);
    }
    assert.equal(await page.locator("progress.failed").count(), 1);
    await page.reload();
    await send(page, [file("again.dcm", good)]);
    await says(page, "1 of 1 file stored, 1 of them there already");
  });

  seen("an upload outlives a killed server and a broken line", async (page) => {
    const study = uid();
    const directory = mkdtempSync(join(tmpdir(), "cuspid-upload-"));
    const paths = Array.from({ length: 100 }, (_, index) => join(directory, `${index}.dcm`));
    for (const path of paths) writeFileSync(path, image({ name: "Long^Way", study, extra: 1_000_000 }));
    await page.goto(server.url);
    // A slow line, so that the server is killed in the middle.
    const session = await page.context().newCDPSession(page);
    const line = { offline: false, latency: 20, downloadThroughput: 12_000_000, uploadThroughput: 5_000_000 };
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", line);
    await send(page, paths);
    await page.locator("#summary", { hasText: /^[1-9]\d* of 100 files stored/ }).waitFor();
    await server.kill();
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await server.start();
    await session.send("Network.emulateNetworkConditions", { ...line, uploadThroughput: 1_000_000 });
    // The page may have tried by itself before.
    await page.getByRole("button", { name: "Try now" }).click({ timeout: 5000 }).catch(() => {});
    await page.locator("#summary", { hasText: /MB\/s/ }).waitFor();
    await session.send("Network.emulateNetworkConditions", { ...line, offline: true });
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await says(page, "100 of 100 files stored");
    const found = await (await fetch(`${server.url}/dicom-web/studies/${study}/instances`)).json();
    assert.equal(found.length, 100);
    await page.locator("#arrivals li", { hasText: "Long Way" }).getByText("all there, counted").waitFor();
  });

  seen("an upload can be paused, and cancelled", async (page) => {
    await page.goto(server.url);
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 2_000_000 });
    const images = Array.from({ length: 8 }, (_, index) => file(`${index}.dcm`, image({ name: "Stop^Go", extra: 4_000_000 })));
    await send(page, images);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("Paused.").waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await says(page, /\d of 8 files stored, \d not stored/);
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await page.getByRole("button", { name: "Send again what failed" }).click();
    await says(page, "8 of 8 files stored");
  });

  seen("files that wait for the connection are not sent after Cancel", async (page) => {
    await page.goto(server.url);
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", { offline: true, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    const study = uid();
    await send(page, [1, 2, 3, 4, 5].map((index) => file(`${index}.dcm`, image({ name: "Never^Sent", study, extra: 5_000_000 }))));
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await says(page, "0 of 5 files stored, 5 not stored");
    const found = await fetch(`${server.url}/dicom-web/studies/${study}/instances`);
    assert.deepEqual([found.status, await found.json()], [200, []]);
    // A reload does not offer what was given up.
    await page.waitForTimeout(300);
    await page.reload();
    await rows(page).first().waitFor();
    assert.ok(await page.locator("#upload").isHidden());
  });

  seen("each study that is stored has its line, and can be cancelled alone", async (page) => {
    await page.goto(server.url);
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 400_000 });
    const [first, second] = [uid(), uid()];
    const of = (name, study) => Array.from({ length: 4 }, (_, index) => file(`${name}${index}.dcm`, image({ name, study, extra: 4_000_000 })));
    await send(page, [...of("Wanted^One", first), ...of("Unwanted^Two", second)]);
    await page.getByRole("button", { name: /Cancel: Unwanted Two/ }).click();
    await page.locator("#arrivals li", { hasText: "Unwanted Two" }).getByText(/0 of 4 files stored, 4 not stored/).waitFor();
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await page.locator("#arrivals li", { hasText: "Wanted One" }).getByText(/4 of 4 files stored, all there, counted/).waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await page.locator("#upload").waitFor({ state: "hidden" });
  });

  seen("files of a folder that were not sent before a reload are sent after it", async (page) => {
    const study = uid();
    const files = [0, 1, 2].map((index) => [`${index}.dcm`, image({ name: "After^Reload", study, extra: 2_000_000 + index }).toString("base64")]);
    // A folder of the browser's own stands for one that a person chooses.
    await page.addInitScript(() => { window.showDirectoryPicker = async () => (await navigator.storage.getDirectory()).getDirectoryHandle("chosen"); });
    await page.goto(server.url);
    await rows(page).first().waitFor();
    await page.evaluate(async (files) => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("chosen", { create: true });
      for (const [name, text] of files) {
        const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
        await stream.write(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
        await stream.close();
      }
    }, files);
    await page.route(/dicom-web\/studies$/, (route) => (route.request().method() === "POST" ? route.abort() : route.continue()));
    await page.getByRole("button", { name: "Choose a folder" }).click();
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    page.on("dialog", (dialog) => dialog.accept());
    await page.unroute(/dicom-web\/studies$/);
    await page.reload();
    await page.getByText("3 files were not sent before the page was closed.").waitFor();
    await page.getByRole("button", { name: "Send the rest" }).click();
    await says(page, "3 of 3 files stored");
    await page.waitForTimeout(500);
    await page.reload();
    await rows(page).first().waitFor();
    assert.ok(await page.locator("#upload").isHidden());
  });

  seen("files that were not sent before a reload are not asked for when they are chosen again", async (page) => {
    const study = uid();
    const directory = join(mkdtempSync(join(tmpdir(), "cuspid-rest-")), "chosen");
    mkdirSync(directory);
    for (const index of [0, 1, 2]) writeFileSync(join(directory, `${index}.dcm`), image({ name: "Chosen^Again", study, extra: 2_000_000 + 2 * index }));
    await page.addInitScript(() => { delete window.showDirectoryPicker; });
    page.on("dialog", (dialog) => dialog.accept());
    await page.goto(server.url);
    await page.route(/dicom-web\/studies$/, (route) => (route.request().method() === "POST" ? route.abort() : route.continue()));
    await page.locator("#folder").setInputFiles(directory);
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await page.unroute(/dicom-web\/studies$/);
    await page.reload();
    await page.getByText("3 files were not sent before the page was closed. Choose the folder again").waitFor();
    await send(page, [join(directory, "1.dcm")]);
    await page.getByText("2 files were not sent before the page was closed. Choose the folder again").waitFor();
    await page.locator("#folder").setInputFiles(directory);
    await says(page, "4 of 4 files stored");
    await page.locator("#resume-line").waitFor({ state: "hidden" });
    await page.waitForTimeout(500);
    await page.reload();
    await rows(page).first().waitFor();
    assert.ok(await page.locator("#upload").isHidden());
    await erase(study);
  });

  seen("a study is downloaded, and deleted after a question that names the patient", async (page) => {
    await page.goto(server.url);
    await search(page, "Zip One");
    await finds(page, 1);
    const awaited = page.waitForEvent("download");
    await page.getByRole("link", { name: /Download: Zip One/ }).click();
    const download = await awaited;
    assert.equal(download.suggestedFilename(), "Zip_One_2026-01-01_OT.zip");
    assert.equal(readFileSync(await download.path()).subarray(0, 2).toString(), "PK");
    const dialog = page.getByRole("dialog", { name: "Delete this study?" });
    await page.getByRole("button", { name: /Delete: Zip One/ }).click();
    await dialog.getByText("Zip One, 2026-01-01, 1 image").waitFor();
    await dialog.getByRole("button", { name: "Cancel", exact: true }).click();
    assert.equal(await rows(page).count(), 1);
    // Undone.
    await page.getByRole("button", { name: /Delete: Zip One/ }).click();
    await dialog.getByRole("button", { name: "Delete" }).click();
    await rows(page).first().waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    await row(page, "Zip One").waitFor();
    // Gone.
    const gone = page.waitForResponse((response) => response.request().method() === "DELETE");
    await page.getByRole("button", { name: /Delete: Zip One/ }).click();
    await dialog.getByRole("button", { name: "Delete" }).click();
    await page.getByText("Will be deleted in 8 seconds: Zip One").waitFor();
    await screenshot(page, "console a study will be deleted");
    assert.equal((await gone).status(), 204);
    await page.getByText("Gone for good: Zip One").waitFor();
    assert.equal(await rows(page).count(), 0);
  });

  for (const [name, leave] of [
    ["a reload", (page) => page.reload()],
    ["another page", (page) => page.goto(`${server.url}/healthz`)],
    ["the end of the tab", (page) => page.close({ runBeforeUnload: true })],
  ]) {
    seen(`a study is deleted although the page is left before: ${name}`, async (page) => {
      const tab = await page.context().newPage();
      const study = uid();
      await store(server.url, [image({ name: "Leave^Early", id: "LEAVE-1", study }), image({ name: "Stay^Here", id: "LEAVE-2" })]);
      await tab.goto(`${server.url}/#/?q=LEAVE-`);
      await finds(tab, 2);
      await row(tab, "Leave Early").getByRole("button").click();
      await tab.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
      await tab.getByText("Will be deleted in 8 seconds: Leave Early").waitFor();
      // What is not shown is not counted.
      await finds(tab, 1);
      const start = Date.now();
      await leave(tab);
      for (;;) {
        const left = await (await fetch(`${server.url}/dicom-web/studies?StudyInstanceUID=${study}`)).json().catch(() => []);
        if (left.length === 0) break;
        assert.ok(Date.now() - start < 6000, "it is still there");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      if (!tab.isClosed()) await tab.close();
      const [other] = await (await fetch(`${server.url}/dicom-web/studies?PatientID=LEAVE-2`)).json();
      await erase(other["0020000D"].Value[0]);
    });
  }

  seen("a list that could not be had is shown when it can, without a word of the failure", async (page) => {
    await page.route(/dicom-web\/studies\?/, (route) => route.abort("connectionrefused"));
    await page.route("**/events", (route) => route.abort("connectionrefused"));
    await page.goto(server.url);
    await page.getByText("The studies cannot be listed: The server cannot be reached").waitFor();
    await page.getByLabel("Language").selectOption("ko");
    await page.getByText("목록을 가져오지 못했습니다: 서버에 연결할 수 없습니다").waitFor();
    await page.unroute(/dicom-web\/studies\?/);
    await rows(page).first().waitFor();
    assert.equal(await page.locator("#message").innerText(), "");
    // The same rows as before, after another failure.
    await page.route(/dicom-web\/studies\?/, (route) => route.abort("connectionrefused"));
    await page.evaluate(() => { location.hash = "#/?page=1"; });
    await page.locator("#message.failed").waitFor();
    await page.unroute(/dicom-web\/studies\?/);
    await page.locator("#message:not(.failed)").waitFor({ state: "attached" });
    assert.deepEqual(await page.locator("#rows .badge").allInnerTexts(), []);
    await page.getByLabel("언어").selectOption("en");
  });

  seen("it fits a phone", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `${width} pixels wide`);
    const link = row(page, "김민준").getByRole("link", { name: /Open in viewer/ });
    const place = await box(link);
    assert.ok(place && place.x >= 0 && place.x + place.width <= 390, JSON.stringify(place));
    assert.ok(place.width >= 44 && place.height >= 44, JSON.stringify(place));
    await page.getByLabel("Sort by").selectOption("PatientName");
    await row(page, "After Reload").and(page.locator(":first-child")).waitFor();
    await page.goto(`${server.url}/#/?q=OPEN-1`);
    await finds(page, 2);
    await row(page, "Open Me").first().getByRole("link", { name: /^Open: / }).click();
    await page.locator(".view img").waitFor();
    await screenshot(page, "console study on a phone");
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
  }, { width: 390, height: 844 });

  seen("words of the search box become keys of searches", async (page) => {
    await page.goto(server.url);
    const days = { from: "", to: "" };
    for (const [text, expected] of [
      ["", [{}]],
      ["kim", [{ PatientName: "kim", fuzzymatching: "true" }, { PatientID: "*kim*" }, { AccessionNumber: "*kim*" }]],
      ["kim minjun", [{ PatientName: "kim minjun", fuzzymatching: "true" }]],
      ["kim*", [{ PatientName: "kim*" }, { PatientID: "kim*" }, { AccessionNumber: "kim*" }]],
      ["today", [{ StudyDate: "20261130" }]],
      ["어제 초음파", [{ StudyDate: "20261129", ModalitiesInStudy: "US" }]],
      ["2026-2", [{ StudyDate: "20260201-20260228" }]],
      ["2024년2월", [{ StudyDate: "20240201-20240229" }]],
      ["2026.11.05", [{ StudyDate: "20261105" }]],
      ["20261101", [{ StudyDate: "20261101" }, { PatientID: "*20261101*" }, { AccessionNumber: "*20261101*" }]],
      ["20261301", [{ PatientName: "20261301", fuzzymatching: "true" }, { PatientID: "*20261301*" }, { AccessionNumber: "*20261301*" }]],
      ["2026-11-01..", [{ StudyDate: "20261101-" }]],
      ["~2026-11", [{ StudyDate: "-20261130" }]],
      ["2026년 11월", [{ StudyDate: "20261101-20261130" }]],
      ["2026년 11월 5일 초음파", [{ StudyDate: "20261105", ModalitiesInStudy: "US" }]],
      ["2025년", [{ StudyDate: "20250101-20251231" }]],
      ["11월", [{ StudyDate: "20261101-20261130" }]],
      ["12월", [{ StudyDate: "20251201-20251231" }]],
      ["11월 28일", [{ StudyDate: "20261128" }]],
      ["28.11.2026", [{ StudyDate: "20261128" }]],
      ["1.11.2026..5.11.2026", [{ StudyDate: "20261101-20261105" }]],
      ["20261127-20261128", [{ StudyDate: "20261127-20261128" }]],
      ["2026-13-01", [{ PatientName: "2026-13-01", fuzzymatching: "true" }, { PatientID: "*2026-13-01*" }, { AccessionNumber: "*2026-13-01*" }]],
      ["1.2.840.10008.1", [{ StudyInstanceUID: "1.2.840.10008.1" }]],
      ["kim d-42", [{ PatientName: "kim d-42", fuzzymatching: "true" }, ...["*d-42*", "*D-42*"].flatMap((number) => (
        [{ PatientID: number }, { AccessionNumber: number }].map((keys) => ({ PatientName: "kim", fuzzymatching: "true", ...keys }))))]],
      ["kim 42 43", [{ PatientName: "kim 42 43", fuzzymatching: "true" }]],
    ]) {
      const look = `({ searches }, text) => searches({ text, modality: "", days: ${JSON.stringify(days)} }, new Date(2026, 10, 30))`;
      assert.deepEqual(await inModule(page, "search.js", look, text), expected, text);
    }
    const look = "({ searches }, arrived) => searches({ text: '', modality: 'CT', days: { from: '', to: '' }, arrived }, new Date(2026, 10, 30, 12))";
    const [{ arrived, ...rest }, ...more] = await inModule(page, "search.js", look, "today");
    assert.match(arrived, /^20261130000000[+-]\d{4}-$/);
    assert.deepEqual([rest, more], [{ ModalitiesInStudy: "CT" }, []]);
    assert.deepEqual(await inModule(page, "search.js", look, "whenever"), [{ ModalitiesInStudy: "CT" }]);
  });

  seen("what looks like a day and is none is not understood in silence", async (page) => {
    await page.goto(server.url);
    for (const [text, expected] of [
      ["2026-13-01", { word: "2026-13-01", isBackwards: false }],
      ["kim 31.11.2026", { word: "31.11.2026", isBackwards: false }],
      ["13월", { word: "13월", isBackwards: false }],
      ["2026-11-01..2026-13", { word: "2026-11-01..2026-13", isBackwards: false }],
      ["2026-11-28..2026-11-01", { word: "2026-11-28..2026-11-01", isBackwards: true }],
      ["20261128-20261101", { word: "20261128-20261101", isBackwards: true }],
      ["2026-11-28", null], ["2026년 11월 5일", null], ["D-2026-0001", null], ["2026-0001", null], ["1.2.840.10008.1", null], ["kim", null], ["", null],
    ]) {
      assert.deepEqual(await inModule(page, "search.js", "({ misread }, text) => misread(text, new Date(2026, 10, 30))", text), expected, text);
    }
    await search(page, "2026-13-01");
    await page.getByText("“2026-13-01” is no date. It is searched for as a name or number.").waitFor();
    await page.getByText("No studies found.").waitFor();
    await screenshot(page, "console a day that is none");
    await search(page, "2026-11-28..2026-11-01");
    await page.getByText("The first day is later than the last.").waitFor();
    await search(page, "");
    await page.locator("#days-problem:empty").waitFor({ state: "attached" });
  });

  for (const [name, viewport] of [["a desktop", { width: 1280, height: 800 }], ["a phone", { width: 390, height: 844 }]]) {
    seen(`no word of the list is cut in two on ${name}`, async (page) => {
      const names = ["Namgoong^Minseo Alexandra=南宮^敏瑞=남궁^민서알렉산드라", "Wolfeschlegelsteinhausen^Hubert Blaine"];
      const studies = names.map(() => uid());
      await store(server.url, names.map((name, at) => image({ name, id: `WORDS-2026-000${at}-ABC`, study: studies[at], birth: "19800101", sex: "M", description: "CBCT Implant planning Unterkieferzahnextraktion" })));
      for (const language of ["en", "ko"]) {
        await page.goto(`${server.url}/#/?q=WORDS-`);
        await page.locator("#language").selectOption(language);
        await rows(page).nth(1).waitFor();
        const cut = await page.evaluate(() => {
          const found = [];
          const walker = document.createTreeWalker(document.querySelector("#rows"), NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            for (const { 0: word, index } of node.textContent.matchAll(/[^\s·]+/g)) {
              const range = document.createRange();
              range.setStart(node, index);
              range.setEnd(node, index + word.length);
              if (new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1) found.push(word);
            }
          }
          return found;
        });
        assert.deepEqual(cut, []);
        const person = row(page, "Wolfe").locator(".born span");
        assert.deepEqual(await person.evaluateAll((spans) => spans.map((span) => span.getClientRects().length)), [1, 1]);
        const button = await box(row(page, "Wolfe").getByRole("button"));
        assert.ok(button.x >= 0 && button.x + button.width <= viewport.width, JSON.stringify(button));
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= viewport.width);
        await screenshot(page, `console words in ${language} on ${name}`);
      }
      await page.locator("#language").selectOption("en");
      for (const study of studies) await erase(study);
    }, viewport);
  }

  seen("arrow keys go through a series at once, and do what they do elsewhere", async (page) => {
    const study = uid();
    await store(server.url, [1, 2, 3, 4].map((number) => image({ name: "Arrow^Keys", id: "ARROW-1", study, series: `${study}.1`, instance: `${study}.1.${number}` })));
    await page.goto(`${server.url}/#/?q=ARROW-1`);
    await row(page, "Arrow Keys").locator("a.open").click();
    const at = (number) => page.locator(".scrub output", { hasText: `${number} of 4` }).waitFor();
    await at(3);
    await page.keyboard.press("ArrowDown");
    await at(4);
    await page.keyboard.press("ArrowLeft");
    await at(3);
    await page.locator(".below summary").click();
    await page.getByRole("searchbox", { name: "Search the attributes" }).fill("pat");
    await page.keyboard.press("ArrowLeft");
    await page.getByRole("button", { name: /^Delete/ }).click();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Escape");
    await at(3);
    // The other keys belong to the page, until the image has the focus.
    await page.locator("#main").focus();
    await page.keyboard.press("End");
    await at(3);
    await page.locator(".view").focus();
    await page.keyboard.press("Home");
    await at(1);
    await erase(study);
  });

  seen("links of pages are read as RFC 8288 writes them", async (page) => {
    await page.goto(server.url);
    for (const [field, next] of [
      [null, ""],
      ['<a?offset=2>; rel="next"', "a?offset=2"],
      ['<a?x=1,2>; rel="prev", <b>; rel="next"', "b"],
      ["<b>; rel=next", "b"],
      ['<b>; title="rel=next"; rel="prev"', ""],
      ['<b>; type="text/plain"; rel="last next"', "b"],
    ]) {
      assert.equal(await inModule(page, "dicomweb.js", '({ linked }, field) => linked(field, "next")', field), next, String(field));
    }
  });

  seen("a DICOM file says whose it is", async (page) => {
    await page.goto(server.url);
    const bytes = [...image({ name: "Kim^Minjun=金^敏俊=김^민준", id: "D-1", study: "1.2.3", instance: "1.2.4", date: "20261130" })];
    const look = "({ identity }, bytes) => identity(new Uint8Array(bytes))";
    const found = await inModule(page, "dicom-file.js", look, bytes);
    const expected = { charset: "ISO_IR 192", instance: "1.2.4", date: "20261130", modality: "OT", patient: "Kim^Minjun=金^敏俊=김^민준", patientId: "D-1", study: "1.2.3" };
    assert.deepEqual(found, expected);
    for (const broken of [[], bytes.slice(0, 140), bytes.slice(0, 300), Array(500).fill(255), Array(500).fill(0)]) {
      assert.equal(await inModule(page, "dicom-file.js", look, broken), null);
    }
  });

  for (const [name, settings, viewport] of [
    ["light", {}, { width: 1280, height: 800 }],
    ["dark, in Korean, on a phone", { locale: "ko-KR", colorScheme: "dark" }, { width: 390, height: 844 }],
  ]) {
    test(`no page has a fault that axe finds: ${name}`, { timeout: 300_000 }, async () => {
      const other = await browsers.start(`requests of axe ${name}`, { ...settings, viewport });
      const page = await other.context.newPage();
      const check = async (state) => {
        // What waits for an answer is pale.
        await page.locator("#table-box.waiting").waitFor({ state: "detached" });
        await page.evaluate(readFileSync(axe, "utf8"));
        const { violations } = await page.evaluate(() => window.axe.run());
        await screenshot(page, `console ${state} ${name}`);
        assert.deepEqual(violations.map(({ id, nodes }) => `${state}: ${id}: ${nodes.map(({ html }) => html).join(" ")}`), []);
      };
      try {
        await page.goto(server.url);
        await rows(page).first().waitFor();
        await check("list");
        await send(page, [file("letter.pdf", Buffer.from("%PDF-1.4 and so on")), file("fine.dcm", image({ name: "Axe^Study" }))]);
        await page.locator("#summary", { hasText: /1/ }).waitFor();
        await page.locator("#uploads li").waitFor();
        await check("uploads");
        await page.goto(`${server.url}/#/?q=nobody`);
        await page.locator("#message", { hasText: /./ }).waitFor();
        await check("nothing found");
        await page.goto(`${server.url}/#/?q=OPEN-1`);
        await rows(page).nth(1).waitFor();
        await rows(page).first().getByRole("button").click();
        await page.getByRole("dialog").waitFor();
        await check("question");
        await page.keyboard.press("Escape");
        await rows(page).first().locator("a.open").click();
        await page.locator(".view img").waitFor();
        await page.locator(".below summary").click();
        await page.locator(".attributes tbody tr").first().waitFor();
        await check("study");
        await page.goto(`${server.url}/#/status`);
        await page.locator(".facts").waitFor();
        await check("status");
      } finally {
        await other.stop();
      }
    });
  }

  seen("the first rows are there soon, and nothing moves afterwards", async (page) => {
    await page.addInitScript(() => {
      window.shift = 0;
      window.shifted = [];
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          if (entry.hadRecentInput) continue;
          window.shift += entry.value;
          window.shifted.push(...entry.sources.map(({ node, previousRect, currentRect }) => `${node?.id || node?.nodeName} ${JSON.stringify([previousRect, currentRect])}`));
        }
      }).observe({ type: "layout-shift", buffered: true });
    });
    await page.goto(server.url);
    await rows(page).first().waitFor();
    await page.waitForTimeout(1000);
    assert.ok((await page.evaluate(() => window.shift)) < 0.02, await page.evaluate(() => `${window.shift}: ${window.shifted}`));
    const weight = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/console/")).reduce((sum, { transferSize }) => sum + transferSize, 0));
    // Files of the source tree are not compressed.
    assert.ok(weight < (process.env.CUSPID_CONSOLE ? 250_000 : 100_000), `${weight} bytes`);
  });

  test("no script failed", () => assert.deepEqual(browser.errors, []));
});
