// The console in a real browser: what people click, with wrong input and broken lines.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { file, image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";

const pageSize = 25;
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
  test(name, { timeout: 120_000 }, async () => {
    const page = await browser.context.newPage();
    await page.setViewportSize(viewport);
    try {
      await look(page);
    } finally {
      await screenshot(page, `console ${name}`);
      await page.close();
    }
  });
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

async function search(page, field, text) {
  await page.getByLabel(field, { exact: true }).fill(text);
  await page.getByRole("button", { name: "Search" }).click();
}

describe("the console", { concurrency: 1 }, () => {
  seen("an empty archive says what to do", async (page) => {
    await page.goto(server.url);
    await page.getByText("No studies are stored yet.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Choose files" }).isVisible());
  });

  seen("all studies can be reached page by page, and the URL says where one is", async (page) => {
    const day = (number) => `2025${String(1 + Math.floor(number / 28)).padStart(2, "0")}${String(1 + (number % 28)).padStart(2, "0")}`;
    const images = Array.from({ length: others }, (_, number) => image({ name: `Other^${number}`, id: `O-${number}`, date: day(number) }));
    await store(server.url, images);
    await page.goto(server.url);
    const found = new Set();
    for (let place = 0; ; place += pageSize) {
      await page.locator("#page", { hasText: `${place + 1} to` }).waitFor();
      for (const text of await rows(page).locator("td:first-child").allInnerTexts()) found.add(text);
      if (!(await page.getByRole("button", { name: "Next" }).isEnabled())) break;
      await page.getByRole("button", { name: "Next" }).click();
    }
    assert.equal(found.size, others);
    assert.match(page.url(), /offset=50/);
    await page.reload();
    await page.locator("#page", { hasText: "51 to 60" }).waitFor();
    await page.getByRole("button", { name: "Previous" }).click();
    await page.locator("#page", { hasText: "26 to 50" }).waitFor();
    await page.goBack();
    await page.locator("#page", { hasText: "51 to 60" }).waitFor();
  });

  seen("a field that was typed into and not searched for changes no page", async (page) => {
    await page.goto(server.url);
    await page.locator("#page", { hasText: "1 to 25" }).waitFor();
    await page.getByLabel("Patient name").fill("nobody");
    await page.getByRole("button", { name: "Next" }).click();
    await page.locator("#page", { hasText: "26 to 50" }).waitFor();
  });

  seen("names are found as people type them, and are shown in their own script", async (page) => {
    await store(server.url, [
      image({ name: "Kim^Minjun=金^敏俊=김^민준", id: "D-2026-0042", date: "20261128" }),
      image({ name: "Müller^Zoë", id: "M-7" }),
    ]);
    await page.goto(server.url);
    await row(page, "김민준 (Kim Minjun)").waitFor();
    for (const text of ["Kim Minjun", "minjun kim", "kim", "민준", "김민준", "김민", "金敏俊"]) {
      await search(page, "Patient name", text);
      await page.locator("#page", { hasText: /^1 to 1$/ }).waitFor();
      assert.equal(await row(page, "김민준").count(), 1, text);
    }
    await page.getByRole("button", { name: "Clear" }).click();
    await page.locator("#page", { hasText: "1 to 25" }).waitFor();
    await search(page, "Patient ID", "2026");
    await page.locator("#page", { hasText: /^1 to 1$/ }).waitFor();
    assert.match(page.url(), /id=2026/);
    await row(page, "D-2026-0042").waitFor();
  });

  seen("a first day after the last one is a mistake, not an empty list", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    await page.getByLabel("From", { exact: true }).fill("2026-12-02");
    await page.getByLabel("To", { exact: true }).fill("2026-12-01");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("The first day is later than the last.").waitFor();
    assert.ok((await rows(page).count()) > 0);
  });

  seen("each button names its patient", async (page) => {
    await page.goto(server.url);
    const minjun = row(page, "김민준");
    await minjun.waitFor();
    for (const [role, name] of [["button", /Show series: 김민준/], ["link", /Open in viewer: 김민준/], ["link", /Download: 김민준/]]) {
      assert.equal(await minjun.getByRole(role, { name }).count(), 1, String(name));
    }
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
    await page.locator("h1").dispatchEvent("dragover", { dataTransfer: transfer });
    await page.locator("h1").dispatchEvent("drop", { dataTransfer: transfer });
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
    const images = Array.from({ length: 40 }, () => image({ name: "Long^Way", study, extra: 1_000_000 }));
    await page.goto(server.url);
    // A slow line, so that the server is killed in the middle.
    const session = await page.context().newCDPSession(page);
    const line = { offline: false, latency: 20, downloadThroughput: 12_000_000, uploadThroughput: 5_000_000 };
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", line);
    await send(page, images.map((bytes, index) => file(`${index}.dcm`, bytes)));
    await page.locator("#summary", { hasText: /^[1-9]\d* of 40 files stored/ }).waitFor();
    await server.kill();
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await server.start();
    await page.getByRole("button", { name: "Try now" }).click();
    await page.locator("#summary", { hasText: /MB\/s/ }).waitFor();
    await session.send("Network.emulateNetworkConditions", { ...line, offline: true });
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await says(page, "40 of 40 files stored");
    const found = await (await fetch(`${server.url}/dicom-web/studies/${study}/instances`)).json();
    assert.equal(found.length, 40);
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
    await page.getByRole("button", { name: "Cancel" }).click();
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
    await send(page, [1, 2, 3].map((index) => file(`${index}.dcm`, image({ name: "Never^Sent", study, extra: 9_000_000 }))));
    await page.locator("#hold", { hasText: "The server cannot be reached." }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await says(page, "0 of 3 files stored, 3 not stored");
    const found = await fetch(`${server.url}/dicom-web/studies/${study}/instances`);
    assert.deepEqual([found.status, await found.json()], [200, []]);
  });

  seen("a study is downloaded, and deleted after a question", async (page) => {
    await page.goto(server.url);
    await search(page, "Patient name", "Zip One");
    await page.locator("#page", { hasText: /^1 to 1$/ }).waitFor();
    const awaited = page.waitForEvent("download");
    await page.getByRole("link", { name: /Download: Zip One/ }).click();
    const download = await awaited;
    assert.equal(readFileSync(await download.path()).subarray(0, 2).toString(), "PK");
    page.once("dialog", (dialog) => dialog.dismiss());
    await page.getByRole("button", { name: /Delete: Zip One/ }).click();
    assert.equal(await rows(page).count(), 1);
    page.once("dialog", (dialog) => dialog.accept());
    await page.getByRole("button", { name: /Delete: Zip One/ }).click();
    await page.getByText("Deleted: Zip One").waitFor();
    assert.equal(await rows(page).count(), 0);
  });

  seen("it fits a phone", async (page) => {
    await page.goto(server.url);
    await rows(page).first().waitFor();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `${width} pixels wide`);
    const link = row(page, "김민준").getByRole("link", { name: /Open in viewer/ });
    const box = await link.boundingBox();
    assert.ok(box && box.x >= 0 && box.x + box.width <= 390, JSON.stringify(box));
  }, { width: 390, height: 844 });

  test("no script failed", () => assert.deepEqual(browser.errors, []));
});
