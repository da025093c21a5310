// OHIF in a real browser against a real server: its lists, its images, its uploads, and that each of its requests is
// answered.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import * as browsers from "./browser.mjs";
import { hasLength, imageShows, place, screenshot, scrollTo, shows, showsPaper } from "./browser.mjs";
import * as servers from "./server.mjs";

// The least correlation of a right image that another program interpolated. Neighbouring slices correlate by 0.986.
const same = 0.995;
// The same where there are fine lines and letters.
const alike = 0.98;

const bars = servers.picture(join(import.meta.dirname, "..", "..", "testdata", "bars.png"));

let server;
let proxy;
let browser;

before(async () => {
  server = await servers.start();
  proxy = await servers.startProxy(server.url);
  browser = await browsers.start();
});

after(async () => {
  await browser?.stop();
  proxy?.stop();
  await server?.stop();
});

/** A test with a page of its own. */
function seen(name, look) {
  test(name, { timeout: 180_000 }, async () => {
    const page = await browser.context.newPage();
    try {
      await look(page);
    } finally {
      await screenshot(page, name);
      await page.close();
    }
  });
}

/** Opens a study by its URL, as the console does. */
function open(page, { study }) {
  return page.goto(`${server.url}/viewer/viewer?StudyInstanceUIDs=${study}`);
}

/** A name as OHIF writes it. */
function written(study) {
  return study.patient.replace("^", ", ");
}

describe("OHIF", { concurrency: 1 }, () => {
  seen("the study list shows what is stored", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    for (const name of ["ct", "ultrasound", "cine", "pdf", "video"]) {
      await page.locator("tbody tr", { hasText: written(server.studies[name]) }).waitFor();
    }
  });

  seen("the study list is searched by name", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await page.locator("tbody tr", { hasText: written(server.studies.pdf) }).waitFor();
    await page.locator("thead input, table input").first().fill("head");
    await page.locator("tbody tr", { hasText: written(server.studies.pdf) }).waitFor({ state: "detached" });
    await page.locator("tbody tr", { hasText: written(server.studies.ct) }).waitFor();
  });

  seen("a CT opens, and slices are drawn as they are", async (page) => {
    await open(page, server.studies.ct);
    await scrollTo(page, 40);
    const { number } = await place(page);
    await shows(page, server.picture(`slice-${number}.png`), same);
    await scrollTo(page, 55);
    const { number: next } = await place(page);
    assert.equal(Math.abs(next - number), 15);
    await shows(page, server.picture(`slice-${next}.png`), same);
  });

  seen("thumbnails show", async (page) => {
    await open(page, server.studies.ct);
    const thumbnail = page.locator('[data-cy="study-browser-thumbnail"] img');
    await thumbnail.waitFor();
    assert.ok(await thumbnail.evaluate(async (image) => (await image.decode(), image.naturalWidth > 16)));
  });

  seen("a colour ultrasound is drawn in its colours", async (page) => {
    await open(page, server.studies.ultrasound);
    await shows(page, server.picture("ultrasound.png"), alike);
  });

  seen("a cine has its frames", async (page) => {
    await open(page, server.studies.cine);
    await shows(page, server.picture("cine-1.png"), same);
    await scrollTo(page, 10);
    await shows(page, server.picture("cine-10.png"), same);
  });

  seen("a PDF opens", async (page) => {
    const answered = page.waitForResponse((response) => response.url().endsWith("/rendered"));
    await open(page, server.studies.pdf);
    const response = await answered;
    assert.equal(response.status(), 200);
    assert.equal(response.headers()["content-type"], "application/pdf");
    await showsPaper(page);
  });

  seen("a video opens", async (page) => {
    await open(page, server.studies.video);
    await shows(page, bars, same);
    await page.waitForLoadState("networkidle");
  });

  seen("files are stored from the study list", async (page) => {
    await page.goto(`${server.url}/viewer/`);
    await page.getByText("Upload", { exact: true }).click();
    await page.locator('input[type="file"]').first().setInputFiles(server.files);
    const { study } = server.studies.upload;
    await hasLength(page, `${server.url}/dicom-web/studies/${study}/instances`, server.files.length);
    await open(page, server.studies.upload);
    await shows(page, server.picture("slice-53.png"), same);
  });

  seen("OHIF's own configuration works with nothing but the server's URL in it", async (page) => {
    const published = server.published("app-config.default.js");
    const body = published.replaceAll(/https:\/\/\w+\.cloudfront\.net\/dicomweb/g, `${server.url}/dicom-web`);
    assert.notEqual(body, published);
    await page.route("**/app-config.js", (route) => route.fulfill({ body, contentType: "text/javascript" }));
    await page.goto(`${server.url}/viewer/`);
    await page.locator("tbody tr", { hasText: written(server.studies.ct) }).waitFor();
    await open(page, server.studies.ct);
    await scrollTo(page, 40);
    await shows(page, server.picture(`slice-${(await place(page)).number}.png`), same);
    await open(page, server.studies.video);
    await shows(page, bars, same);
    await open(page, server.studies.pdf);
    await showsPaper(page);
  });

  seen("a study opens from the console", async (page) => {
    await page.goto(`${server.url}/`);
    const row = page.locator("tbody tr", { hasText: server.studies.ct.patient.replace("^", " ") });
    await row.getByRole("link", { name: "Open in viewer" }).click();
    await place(page);
    assert.ok(page.url().endsWith(`/viewer/viewer?StudyInstanceUIDs=${server.studies.ct.study}`));
  });

  seen("a series is scrubbed in the console by keys, wheel, slider and finger", async (page) => {
    await page.goto(`${server.url}/#/studies/${server.studies.ct.study}`);
    const at = (slice) => page.locator(".scrub output", { hasText: new RegExp(`^${slice} of 108$`) }).waitFor();
    await at(55);
    await imageShows(page, ".view img", server.picture("slice-55.png"), same);
    await page.locator(".view").focus();
    await page.keyboard.press("ArrowDown");
    await at(56);
    await imageShows(page, ".view img", server.picture("slice-56.png"), same);
    await page.keyboard.press("Home");
    await at(1);
    const box = await page.locator(".view").boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + 100];
    await page.mouse.move(x, y);
    for (let step = 0; step < 3; step++) await page.mouse.wheel(0, 100);
    await at(4);
    await page.mouse.down();
    await page.mouse.move(x, y + 300, { steps: 20 });
    await page.mouse.up();
    await page.locator(".scrub output", { hasText: /^(5|6)\d of 108$/ }).waitFor();
    await page.getByLabel("Image", { exact: true }).fill("40");
    await at(40);
    await imageShows(page, ".view img", server.picture("slice-40.png"), same);
  });

  seen("the frames of a moving ultrasound are pictures of the console", async (page) => {
    await page.goto(`${server.url}/#/studies/${server.studies.cine.study}`);
    await page.locator(".scrub output").waitFor();
    await page.getByLabel("Image", { exact: true }).fill("3");
    await imageShows(page, ".view img", server.picture("cine-3.png"), alike);
  });

  seen("a document and a video are shown in the console", async (page) => {
    await page.goto(`${server.url}/#/studies/${server.studies.video.study}`);
    const video = page.locator(".view video");
    await video.waitFor();
    await video.evaluate((video) => video.readyState >= 2 || new Promise((resolve) => video.addEventListener("loadeddata", resolve)));
    assert.equal(await video.evaluate((video) => video.videoWidth), 320);
    await page.goto(`${server.url}/#/studies/${server.studies.pdf.study}`);
    await page.locator(".view iframe").waitFor();
    await showsPaper(page, { x: 660, y: 350, width: 300, height: 300 });
  });

  seen("it works below any path, behind a proxy", async (page) => {
    await page.goto(`${proxy.url}/`);
    const row = page.locator("tbody tr", { hasText: server.studies.ultrasound.patient.replace("^", " ") });
    await row.getByRole("link", { name: "Open in viewer" }).click();
    await shows(page, server.picture("ultrasound.png"), alike);
    assert.ok(page.url().startsWith(`${proxy.url}/viewer/`));
    await page.waitForLoadState("networkidle");
  });

  test("every request is answered, and none goes elsewhere", () => {
    const requests = browser.requests();
    assert.ok(requests.length > 0);
    assert.deepEqual(requests.filter((request) => !/^([23]\d\d|left) /.test(request)), []);
    // Without the browser's own pages, which show a PDF.
    const urls = requests.map((request) => request.split(" ")[2]).filter((url) => url.startsWith("http"));
    const isHere = (url) => [server.url, proxy.url].some((place) => url.startsWith(`${place}/`));
    assert.deepEqual(urls.filter((url) => !isHere(url)), []);
    assert.deepEqual(browser.errors, []);
  });
});
