// Documents, photos, images and models that are stored for a patient: the form in a real browser, and the files as others read them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { image, store, uid } from "./dicom.mjs";
import * as servers from "./server.mjs";
import { readJpeg } from "../../src/http/web/console/jpeg.js";
import { wrap } from "../../src/http/web/console/wrap.js";

const axe = join(import.meta.dirname, "node_modules/axe-core/axe.min.js");
const [red, green, blue, white] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];

let server;
let browser;
let directory;

before(async () => {
  server = await servers.startEmpty();
  browser = await browsers.start("requests of wrapping");
  directory = mkdtempSync(join(tmpdir(), "cuspid-wrap-"));
  execFileSync(servers.python, [join(import.meta.dirname, "make_pictures.py"), directory]);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

const paths = (...names) => names.map((name) => join(directory, name));
const bytesOf = (name) => readFileSync(join(directory, name));

/** What others make of DICOM files, by the names of the descriptions of their series. */
function check(files) {
  const names = files.map((bytes, index) => {
    const path = join(directory, `${index}.dcm`);
    writeFileSync(path, bytes);
    return path;
  });
  return JSON.parse(execFileSync(servers.python, [join(import.meta.dirname, "check_wrapped.py"), ...names]));
}

/** The instances of a patient as they are stored. */
async function stored(id) {
  const found = await (await fetch(`${server.url}/dicom-web/instances?PatientID=${id}&limit=100`)).json();
  const files = await Promise.all(found.map(async (one) => {
    const [study, series, instance] = ["0020000D", "0020000E", "00080018"].map((tag) => one[tag].Value[0]);
    const accept = 'multipart/related; type="application/dicom"; transfer-syntax=*';
    const body = Buffer.from(await (await fetch(`${server.url}/dicom-web/studies/${study}/series/${series}/instances/${instance}`, { headers: { Accept: accept } })).arrayBuffer());
    const start = body.indexOf("\r\n\r\n") + 4;
    return body.subarray(start, body.lastIndexOf("\r\n--"));
  }));
  return check(files);
}

function near(found, expected, name) {
  const [a, b] = [found.flat(), expected.flat()];
  assert.equal(a.length, b.length, name);
  a.forEach((value, at) => assert.ok(Math.abs(value - b[at]) < 24, `${name}: ${JSON.stringify(found)}`));
}

function seen(name, look, viewport = { width: 1280, height: 800 }) {
  test(name, { timeout: 200_000 }, async () => {
    const page = await browser.context.newPage();
    await page.setViewportSize(viewport);
    try {
      await look(page);
    } finally {
      await screenshot(page, `wrap ${name}`);
      await page.close();
    }
  });
}

describe("storing what is no DICOM", { concurrency: 1 }, () => {
  seen("files that were refused are stored for a patient who is typed by hand", async (page) => {
    await page.goto(server.url);
    await page.getByText("No studies are stored yet.").waitFor();
    await page.locator("#files").setInputFiles(paths("letter.pdf", "plain.jpg", "turned.jpg", "progressive.jpg", "grey.jpg", "print.jpg", "colours.png", "palette.png", "grey.png", "clear.png",
      "deep.png", "tooth.stl", "words.stl"));
    await page.locator("#summary", { hasText: "13 not stored" }).waitFor();
    assert.match(await page.locator("#uploads").innerText(), /letter\.pdf\s+a PDF file, and not DICOM/);
    await page.getByRole("button", { name: "Store for a patient" }).click();
    const dialog = page.getByRole("dialog", { name: "Store for a patient" });
    // Without a patient nothing is stored.
    await dialog.getByRole("button", { name: "Store" }).click();
    assert.ok(await dialog.isVisible());
    await dialog.getByLabel("Family name").fill("Kim^=\\");
    await dialog.getByLabel("Given name").fill("민준");
    await dialog.getByLabel("Patient ID").fill("W-1");
    await dialog.getByLabel("Born").fill("1990-02-03");
    await dialog.getByLabel("Sex").selectOption("F");
    await dialog.getByLabel("Date").fill("2026-11-28");
    await page.evaluate(readFileSync(axe, "utf8"));
    assert.deepEqual((await page.evaluate(() => window.axe.run())).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), []);
    await screenshot(page, "wrap form");
    await page.setViewportSize({ width: 390, height: 844 });
    await screenshot(page, "wrap form on a phone");
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
    await page.setViewportSize({ width: 1280, height: 800 });
    await dialog.getByRole("button", { name: "Store" }).click();
    await page.getByText("deep.png cannot be stored: images of 16 bits a sample cannot be stored here").waitFor();
    await page.locator("#summary", { hasText: /^12 of 13 files stored, 1 not stored$/ }).waitFor();
    await page.locator("#arrivals li", { hasText: "all there, counted" }).waitFor();

    const found = await stored("W-1");
    assert.equal(found.length, 12);
    const by = new Map(found.map((one) => [`${one.title} ${one.series[0]}`, one]));
    for (const one of found) {
      assert.deepEqual(one.errors, [], JSON.stringify(one));
      assert.deepEqual(one.patient, ["Kim^민준", "W-1", "19900203", "F"]);
      assert.deepEqual([one.study[1], one.date], ["20261128", "20261128"]);
    }
    assert.equal(new Set(found.map(({ study }) => study[0])).size, 1);
    assert.deepEqual([...new Set(found.map(({ series }) => `${series[0]} ${series[1]}`))].sort(), ["DOC 1", "M3D 4", "OT 3", "XC 2"]);

    // One description for each series: that of its only file, or none.
    for (const [modality, description] of [["DOC", "letter"], ["XC", null], ["OT", null], ["M3D", null]]) {
      assert.deepEqual([...new Set(found.filter(({ series }) => series[0] === modality).map(({ series }) => series[3]))], [description], modality);
    }

    const pdf = by.get("letter DOC");
    assert.equal(pdf.sop_class, "Encapsulated PDF Storage");
    assert.deepEqual(pdf.document.slice(0, 2), ["application/pdf", "letter"]);
    // An odd length is padded; what follows the last line means nothing in a PDF.
    assert.equal(pdf.pdf.slice(0, 2 * bytesOf("letter.pdf").length), bytesOf("letter.pdf").toString("hex"));
    for (const name of ["tooth", "words"]) {
      const model = by.get(`${name} M3D`);
      assert.deepEqual([model.sop_class, model.document[0]], ["Encapsulated STL Storage", "model/stl"]);
      assert.equal(model.document[2].slice(0, 2 * bytesOf(`${name}.stl`).length), bytesOf(`${name}.stl`).toString("hex"));
    }
    for (const [name, samples, syntax, photometric] of [
      ["plain", 3, "JPEG Baseline (Process 1)", "YBR_FULL_422"], ["grey", 1, "JPEG Baseline (Process 1)", "MONOCHROME2"],
      ["turned", 3, "Explicit VR Little Endian", "RGB"], ["progressive", 3, "Explicit VR Little Endian", "RGB"], ["print", 3, "Explicit VR Little Endian", "RGB"],
    ]) {
      const photo = by.get(`${name} XC`);
      assert.deepEqual([photo.sop_class, photo.syntax, photo.photometric, photo.lossy], ["VL Photographic Image Storage", syntax, photometric, "01"], name);
      assert.deepEqual(photo.shape, samples === 1 ? [24, 40] : [24, 40, 3], name);
      if (samples === 3 && photometric === "RGB" && name !== "print") near(photo.corners, [red, green, blue, white], name);
    }
    // The codestream is the file's own, without the camera.
    const plain = Buffer.from(by.get("plain XC").bytes, "hex");
    assert.ok(plain.includes(bytesOf("plain.jpg").subarray(-200)) && !plain.includes("Secret"));
    for (const [name, photometric] of [["colours", "RGB"], ["palette", "RGB"], ["clear", "RGB"], ["grey", "MONOCHROME2"]]) {
      const capture = by.get(`${name} OT`);
      assert.deepEqual([capture.sop_class, capture.photometric, capture.errors], ["Secondary Capture Image Storage", photometric, []], name);
      if (name === "colours") assert.deepEqual(capture.corners, [red, green, blue, white]);
      if (name === "clear") assert.deepEqual(capture.corners, [white, green, blue, white]);
    }
    // And the console shows them.
    const [{ study }] = found;
    await page.goto(`${server.url}/#/studies/${study[0]}`);
    await page.locator(".cards li").nth(3).waitFor();
    await page.locator(".cards a", { hasText: "XC" }).click();
    await page.locator(".view img").waitFor();
    await screenshot(page, "wrap photos in the console");
  });

  seen("a photo and a document are added to the study that is open", async (page) => {
    const study = uid();
    await store(server.url, [image({ name: "Lee^Sua=李^秀雅=이^수아", id: "W-2", study, date: "20261101" })]);
    await page.goto(`${server.url}/#/studies/${study}`);
    await page.locator(".view img").waitFor();
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Add a document or photo" }).click();
    await (await chooser).setFiles(paths("plain.jpg", "letter.pdf"));
    const dialog = page.getByRole("dialog", { name: "Store for a patient" });
    assert.equal(await dialog.getByLabel("Family name").isVisible(), false);
    await dialog.getByLabel("Description").fill("Before \\ treatment");
    await dialog.getByLabel("Date").fill("2026-11-30");
    await screenshot(page, "wrap form for a study");
    await dialog.getByRole("button", { name: "Store" }).click();
    await page.locator(".cards li").nth(2).waitFor();
    const found = (await stored("W-2")).filter(({ series }) => series[0] !== "OT");
    assert.deepEqual(found.map(({ series }) => series[0]).sort(), ["DOC", "XC"]);
    for (const one of found) {
      assert.deepEqual([one.errors, one.patient[0], one.study], [[], "Lee^Sua=李^秀雅=이^수아", [study, "20261101"]]);
      assert.deepEqual([one.series[3], one.date], ["Before / treatment", "20261130"]);
      assert.ok(one.series[1] >= 1, String(one.series));
    }
    await screenshot(page, "wrap added to a study");
  });

  seen("another patient can be typed from the page of a study, and nothing is stored after Cancel", async (page) => {
    const study = uid();
    await store(server.url, [image({ name: "Park^Jiho", id: "W-3", study })]);
    await page.goto(`${server.url}/#/studies/${study}`);
    await page.locator(".view img").waitFor();
    await page.locator("#files").setInputFiles(paths("grey.png"));
    const offer = page.getByRole("button", { name: "Store for a patient" });
    await offer.click();
    const dialog = page.getByRole("dialog", { name: "Store for a patient" });
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await offer.click();
    await dialog.locator("select[name=whose]").selectOption({ label: "Another patient" });
    await dialog.getByLabel("Family name").fill("Choi");
    await dialog.getByLabel("Patient ID").fill("W-4");
    await screenshot(page, "wrap form for another patient");
    await dialog.getByRole("button", { name: "Store" }).click();
    await page.locator("#summary", { hasText: "1 of 1 file stored" }).waitFor();
    assert.equal((await stored("W-3")).length, 1);
    const [one] = await stored("W-4");
    assert.deepEqual([one.patient, one.errors], [["Choi", "W-4", "", ""], []]);
    assert.notEqual(one.study[0], study);
  });

  test("a JPEG that is cut off or changed is read or refused", async () => {
    const whole = new Uint8Array(bytesOf("turned.jpg"));
    assert.equal(readJpeg(whole).isTurned, true);
    for (let end = 0; end < whole.length; end++) readJpeg(whole.slice(0, end));
    for (let at = 0; at < whole.length; at++) {
      for (const byte of [0, 1, 0x7f, 0xff]) {
        const changed = whole.slice();
        changed[at] = byte;
        readJpeg(changed);
      }
    }
    const about = { patient: {}, study: {}, series: {}, number: 1, date: "", time: "", title: "", description: "" };
    await assert.rejects(wrap(new File([whole.subarray(0, 100)], "a.jpg"), "JPEG", { ...about, patient: { name: "", id: "", birthDate: "", sex: "" },
      study: { uid: "1.2", date: "", time: "", id: "", accession: "", referrer: "", description: "" }, series: { uid: "1.3", number: 1 } }), { why: "whyDamagedImage" });
  });

  test("no script failed", () => assert.deepEqual(browser.errors, []));
});
