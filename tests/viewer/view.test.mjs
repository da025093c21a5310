// The Cuspid viewer in a real browser, on a desktop and on a phone: what is drawn, what people do, and each failure.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import * as browsers from "./browser.mjs";
import { screenshot } from "./browser.mjs";
import { image, store } from "./dicom.mjs";
import * as servers from "./server.mjs";

const desktop = { width: 1280, height: 800 };
const phone = { width: 390, height: 844 };
// The least correlation of a plane with the one that NumPy cuts from the originals; neighbouring slices have 0.991.
const same = 0.9945;
const references = join(import.meta.dirname, "references");
const streamed = "application/vnd.cuspid.stream";

let server;
let browser;
/** A context of a phone, which has fingers. */
let pocket;
let made;

before(async () => {
  server = await servers.start();
  browser = await browsers.start("requests of the viewer");
  made = mkdtempSync(join(tmpdir(), "cuspid-streams-"));
  const { series } = server.studies.ct;
  execFileSync(servers.python, [join(import.meta.dirname, "make_streams.py"), server.stored, series, made]);
  pocket = await browser.context.browser().newContext({ viewport: phone, hasTouch: true, isMobile: true, locale: "ko-KR" });
  pocket.setDefaultTimeout(60_000);
});

after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** A test with a page of its own. */
function seen(name, look, isPhone = false) {
  test(name, { timeout: 240_000 }, async () => {
    const page = await (isPhone ? pocket : browser.context).newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.stack));
    try {
      await look(page);
      assert.deepEqual(errors, []);
    } finally {
      await screenshot(page, `view ${name}`);
      await page.close();
    }
  });
}

/** Answers requests for the stream with one of make_streams.py. */
async function stream(page, name, state = { state: "ready", encoded: 108, slices: 108 }) {
  await page.route("**/stream/studies/**/state", (route) => route.fulfill({ json: state }));
  const body = readFileSync(join(made, name));
  await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => route.fulfill({ body, contentType: streamed, headers: { ETag: `"${name}"` } }));
}

function open(page, { study, series } = server.studies.ct) {
  return page.goto(`${server.url}/view/?study=${study}&series=${series}`);
}

function view(page, name) {
  return page.locator(`.view[data-view="${name}"]`);
}

/** Waits until a view shows a place, such as `55 / 108`. */
function place(page, name, text) {
  return view(page, name).locator(".place").filter({ hasText: text }).waitFor();
}

async function badge(page, name, state) {
  await view(page, name).locator(`.badge[data-state="${state}"]`).waitFor();
}

async function notice(page, kind) {
  await page.locator(`#notice[data-kind="${kind}"]`).waitFor();
  return (await page.locator("#notice").innerText()).replaceAll(/\s+/g, " ");
}

/** Opens the CT with the stream of make_streams.py, and waits until something is there. */
async function openCt(page) {
  await stream(page, "ct");
  await open(page);
  await place(page, "axial", "55 / 108");
}

/** Fails if two of the words over a view lie on each other. */
async function apart(page, name) {
  const boxes = await view(page, name).locator(".corner, .edge").evaluateAll((parts) =>
    parts.filter(({ textContent }) => textContent).map((part) => ({ text: part.textContent, box: part.getBoundingClientRect().toJSON() })));
  for (const one of boxes) {
    for (const other of boxes) {
      if (one === other) continue;
      const isApart = one.box.right <= other.box.left || other.box.right <= one.box.left || one.box.bottom <= other.box.top || other.box.bottom <= one.box.top;
      assert.ok(isApart, `${one.text} lies on ${other.text} in ${name}`);
    }
  }
}

/** Waits until a view looks like an image: until they correlate by at least `least`. */
async function looksLike(page, name, picture, least) {
  const deadline = Date.now() + 90_000;
  for (let found = 0; ; await setTimeout(500)) {
    // Without the words over it.
    const hide = (isHidden) => document.querySelectorAll(".corner, .edge").forEach((element) => (element.hidden = isHidden));
    await page.evaluate(hide, true);
    const shot = (await view(page, name).screenshot()).toString("base64");
    await page.evaluate(hide, false);
    found = await page.evaluate(correlation, [`data:image/png;base64,${shot}`, picture]);
    if (found >= least) return;
    if (Date.now() > deadline) throw new Error(`${name} correlates by ${found} at last, and not by ${least}`);
  }
}

/** The correlation of a screenshot with an image in its middle, as large as fits or smaller, where it is best. Runs in the page. */
async function correlation([shot, picture]) {
  const decode = (url) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = url;
  });
  const [seen, wanted] = [await decode(shot), await decode(picture)];
  const grey = (source, width, height, w = width, h = height, [dx, dy] = [0, 0]) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(source, (width - w) / 2 + dx, (height - h) / 2 + dy, w, h);
    return context.getImageData(0, 0, width, height).data.filter((_, index) => index % 4 === 1);
  };
  const { width, height } = seen;
  const of = (a, b) => {
    let [sumA, sumB, ab, aa, bb] = [0, 0, 0, 0, 0];
    for (let index = 0; index < a.length; index++) [sumA, sumB] = [sumA + a[index], sumB + b[index]];
    for (let index = 0; index < a.length; index++) {
      const [x, y] = [a[index] - sumA / a.length, b[index] - sumB / b.length];
      [ab, aa, bb] = [ab + x * y, aa + x * x, bb + y * y];
    }
    return ab / Math.sqrt(aa * bb || 1);
  };
  const samples = grey(seen, width, height);
  const fits = Math.min(width / wanted.width, height / wanted.height);
  // A screenshot of a view begins at a whole pixel, and the view may begin between two.
  const shifts = [-0.5, 0, 0.5].flatMap((dx) => [-0.5, 0, 0.5].map((dy) => [dx, dy]));
  const whole = shifts.map((shift) => of(samples, grey(wanted, width, height, wanted.width * fits, wanted.height * fits, shift)));
  const scales = [0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9].map((factor) => fits * factor);
  return Math.max(...whole, ...scales.map((scale) => of(samples, grey(wanted, width, height, wanted.width * scale, wanted.height * scale))));
}

/** Compares the page with its reference; `UPDATE_REFERENCES=1` writes it anew, which is to be looked at. */
async function matches(page, name) {
  const file = join(references, `${name}.png`);
  // Without focus and without the words that change while the page works.
  await page.evaluate(() => document.activeElement?.blur());
  const shot = await page.screenshot({ mask: [page.locator("#progress")] });
  if (process.env.UPDATE_REFERENCES || !existsSync(file)) {
    assert.ok(process.env.UPDATE_REFERENCES, `${file} is missing`);
    mkdirSync(references, { recursive: true });
    writeFileSync(file, shot);
  }
  const found = await page.evaluate(correlation, [`data:image/png;base64,${shot.toString("base64")}`, servers.picture(file)]);
  assert.ok(found > 0.985, `the page correlates with ${name}.png by ${found} only`);
}

describe("the Cuspid viewer", { concurrency: 1 }, () => {
  seen("a CT opens in its middle with a bone window, and planes are where NumPy says", async (page) => {
    await openCt(page);
    await place(page, "coronal", "129 / 256");
    await place(page, "sagittal", "129 / 256");
    assert.equal(await page.locator('[data-tool="preset-bone"]').getAttribute("aria-pressed"), "true");
    await page.keyboard.press("x");
    for (const name of ["axial", "coronal", "sagittal"]) await looksLike(page, name, servers.picture(join(made, `${name}.png`)), same);
  });

  seen("a skull looks like a skull", async (page) => {
    await openCt(page);
    await page.locator('[data-view="volume"][data-rendered="128"]').waitFor();
    await view(page, "volume").dblclick();
    await looksLike(page, "volume", servers.picture(join(made, "shadow.png")), 0.8);
  });

  seen("the badge says preview first, and original when the frames are there", async (page) => {
    const accepts = [];
    let release;
    const held = new Promise((resolve) => (release = resolve));
    page.on("request", (request) => request.url().includes("/frames/") && accepts.push(request.headers().accept));
    await page.route("**/frames/*", async (route) => {
      await held;
      await route.continue();
    });
    await openCt(page);
    for (const name of ["axial", "coronal", "sagittal"]) {
      await badge(page, name, "preview");
      assert.equal(await view(page, name).locator(".badge").innerText(), "Preview: lossy, for viewing, not for diagnosis");
    }
    release();
    for (const name of ["axial", "coronal", "sagittal"]) await badge(page, name, "original");
    await page.getByText("All images are original").waitFor();
    assert.equal(accepts.length, 108);
    assert.deepEqual(new Set(accepts), new Set(['multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1']));
    await page.keyboard.press("x");
    await looksLike(page, "axial", servers.picture(join(made, "axial.png")), same);
  });

  seen("wheel, keys and mouse move through the volume and change the window", async (page) => {
    await openCt(page);
    const box = await view(page, "axial").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.wheel(0, 100);
    await place(page, "axial", "56 / 108");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("PageUp");
    await place(page, "axial", "45 / 108");
    // A click takes the cross-hair along.
    await page.mouse.click(box.x + box.width / 2 + 60, box.y + box.height / 2);
    await view(page, "sagittal").locator(".place").filter({ hasNotText: "129 / 256" }).waitFor();
    await page.keyboard.press("w");
    const before = await view(page, "axial").locator(".values").innerText();
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 2 + 160, box.y + box.height / 2 + 20, { steps: 4 });
    await page.mouse.up();
    await view(page, "axial").locator(".values").filter({ hasNotText: before }).waitFor();
    await page.getByRole("button", { name: "Soft tissue" }).click();
    await view(page, "axial").locator(".values").filter({ hasText: "C 40 W 400" }).waitFor();
    await page.keyboard.press("+");
    await view(page, "axial").locator(".values").filter({ hasText: /17\d %/ }).waitFor();
    await page.keyboard.press("r");
    await view(page, "axial").locator(".values").filter({ hasText: "C 500 W 2,500" }).filter({ hasText: /13\d %/ }).waitFor();
  });

  seen("lengths are in millimetres and angles in degrees", async (page) => {
    await openCt(page);
    const box = await view(page, "axial").boundingBox();
    await page.keyboard.press("l");
    await page.mouse.move(box.x + 200, box.y + 150);
    await page.mouse.down();
    await page.mouse.move(box.x + 300, box.y + 150, { steps: 3 });
    await page.mouse.up();
    const text = await page.locator("text.measurement").innerText().catch(() => page.locator("text.measurement").textContent());
    // All of the height, 256 pixels of 0.957 mm, fits into the view.
    const expected = (100 * 256 * 0.95703125) / box.height;
    assert.ok(Math.abs(parseFloat(text) - expected) < 0.5 && text.endsWith(" mm"), `${text}, and not ${expected} mm`);
    await page.keyboard.press("a");
    for (const [x, y] of [[400, 100], [400, 200], [500, 200]]) await page.mouse.click(box.x + x, box.y + y);
    await page.locator("text.measurement", { hasText: "90.0°" }).waitFor();
    // A measurement belongs to its slice.
    await page.keyboard.press("ArrowDown");
    await page.locator("text.measurement").first().waitFor({ state: "detached" });
    await page.keyboard.press("ArrowUp");
    await page.locator("text.measurement").nth(1).waitFor();
    await page.keyboard.press("Delete");
    await page.locator("text.measurement", { hasText: "90.0°" }).waitFor({ state: "detached" });
  });

  seen("a panorama is cut along a curve, which can be moved", async (page) => {
    await openCt(page);
    await page.keyboard.press("Home");
    await page.getByRole("button", { name: "Panorama" }).click();
    await view(page, "panorama").locator(".place").filter({ hasText: "170 mm" }).waitFor();
    assert.equal(await page.locator(".handle").count(), 9);
    const handle = await page.locator(".handle").first().boundingBox();
    await page.mouse.move(handle.x + handle.width / 2, handle.y + handle.height / 2);
    await page.mouse.down();
    await page.mouse.move(handle.x - 30, handle.y + 30, { steps: 3 });
    await page.mouse.up();
    await view(page, "panorama").locator(".place").filter({ hasNotText: "170 mm" }).waitFor();
    await page.getByRole("button", { name: "Panorama" }).click();
    await view(page, "volume").waitFor();
  });

  seen("the tools do in a panorama what they say, or say that they cannot", async (page) => {
    await openCt(page);
    await page.getByText("All images are original").waitFor();
    await page.keyboard.press("Home");
    await page.getByRole("button", { name: "Panorama" }).click();
    const panorama = view(page, "panorama");
    await panorama.locator(".place").filter({ hasText: "170 mm" }).waitFor();
    // A rendering, even of originals.
    await badge(page, "panorama", "preview");
    assert.equal(await panorama.locator(".badge").innerText(), "Rendering, not for diagnosis");
    const box = await panorama.boundingBox();
    const drag = async (dx, dy) => {
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width / 2 + dx, box.y + box.height / 2 + dy, { steps: 3 });
      await page.mouse.up();
    };
    const shot = async () => (await panorama.screenshot()).toString("base64");
    const values = await view(page, "axial").locator(".values").innerText();
    for (const tool of ["Length", "Angle"]) {
      await page.getByRole("button", { name: tool, exact: true }).click();
      await drag(60, 30);
      await panorama.getByText("Lengths and angles cannot be measured in a panorama.").waitFor();
      assert.equal(await page.locator(".measurement").count(), 0);
    }
    await screenshot(page, "view no length in a panorama");
    await panorama.locator(".hint:empty").waitFor({ state: "attached" });
    for (const tool of ["Move", "Zoom"]) {
      const before = await shot();
      await page.getByRole("button", { name: tool, exact: true }).click();
      await drag(0, tool === "Zoom" ? -60 : 30);
      await setTimeout(500);
      assert.notEqual(await shot(), before, tool);
    }
    await screenshot(page, "view a panorama enlarged");
    assert.equal(await view(page, "axial").locator(".values").innerText(), values);
    await page.getByRole("button", { name: "Reset" }).click();
    // The planes go to the point.
    await page.getByRole("button", { name: "Point", exact: true }).click();
    await drag(0, 0);
    await view(page, "axial").locator(".place").filter({ hasText: /^5[345] \/ 108/ }).waitFor();
    await page.getByRole("button", { name: "Brightness" }).click();
    await drag(60, 30);
    await view(page, "axial").locator(".values").filter({ hasNotText: values }).waitFor();
  });

  seen("a view that becomes larger or smaller shows all of its image", async (page) => {
    await openCt(page);
    const percent = async (name) => Number(/(\d+) %/.exec(await view(page, name).locator(".values").innerText())[1]);
    const small = await percent("axial");
    await view(page, "axial").dblclick();
    await page.locator("#stage[data-single]").waitFor();
    await page.waitForFunction((small) => Number(/(\d+) %/.exec(document.querySelector('[data-view="axial"] .values').textContent)[1]) > 1.8 * small, small);
    await screenshot(page, "view one view");
    // Another size while the others are hidden.
    await page.setViewportSize({ width: 1000, height: 560 });
    await page.keyboard.press("v");
    await page.locator("#stage:not([data-single])").waitFor();
    await setTimeout(500);
    for (const name of ["axial", "coronal", "sagittal"]) assert.ok((await percent(name)) < small, name);
    assert.equal(await percent("coronal"), await percent("sagittal"));
    await screenshot(page, "view four views after another size");
    await page.setViewportSize(desktop);
  });

  seen("measurements outlive a reset, have a button that deletes them, and are not left without a question", async (page) => {
    await openCt(page);
    const box = await view(page, "axial").boundingBox();
    const remove = page.getByRole("button", { name: "Delete measurement" });
    assert.equal(await remove.isVisible(), false);
    await page.keyboard.press("l");
    await page.mouse.move(box.x + 200, box.y + 150);
    await page.mouse.down();
    await page.mouse.move(box.x + 300, box.y + 150, { steps: 3 });
    await page.mouse.up();
    await page.locator("text.measurement", { hasText: "mm" }).waitFor();
    await page.getByRole("button", { name: "Reset" }).click();
    await setTimeout(300);
    assert.equal(await page.locator("text.measurement").count(), 1);
    const asked = [];
    page.on("dialog", (dialog) => (asked.push(dialog.type()), dialog.dismiss()));
    const warned = page.waitForEvent("dialog");
    await page.close({ runBeforeUnload: true });
    await warned;
    assert.deepEqual(asked, ["beforeunload"]);
    await remove.click();
    await page.locator("text.measurement").waitFor({ state: "detached" });
    await remove.waitFor({ state: "hidden" });
  });

  seen("no two buttons have one name, and no letter lies under a badge", async (page) => {
    await openCt(page);
    await page.getByRole("button", { name: "Bone", exact: true }).waitFor();
    await page.getByRole("button", { name: "3D: bone", exact: true }).click();
    await page.getByRole("button", { name: "3D: soft tissue", exact: true }).waitFor();
    for (const width of [1280, 900, 700]) {
      await page.setViewportSize({ width, height: 700 });
      const names = await page.locator("#tools button:visible").allInnerTexts();
      assert.equal(new Set(names).size, names.length, String(names));
      for (const name of ["axial", "coronal", "sagittal"]) await apart(page, name);
    }
    await page.setViewportSize(desktop);
  });

  seen("on a phone the header has all of the name, the ID and the date", async (page) => {
    const { study } = server.studies.ct;
    await openCt(page);
    await page.locator("#patient", { hasText: "Head" }).waitFor();
    const [words, isCut] = await page.locator("#patient").evaluate((element) => [element.innerText, element.scrollWidth > element.clientWidth]);
    assert.match(words, /Head.* · .+ · \d{4}-\d\d-\d\d$/);
    assert.equal(isCut, false, study);
    await apart(page, "axial");
  }, true);

  seen("a colour image is shown as it is, alone", async (page) => {
    await stream(page, "colours");
    await open(page, server.studies.ultrasound);
    await place(page, "image", "1 / 1");
    const shot = (await view(page, "image").screenshot()).toString("base64");
    const colour = await page.evaluate(async (url) => {
      const image = new Image();
      await new Promise((resolve) => { image.onload = resolve; image.src = url; });
      const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
      context.drawImage(image, 0, 0);
      return [0.4, 0.6].map((part) => [...context.getImageData(image.width * part, image.height * 0.3, 1, 1).data.slice(0, 3)]);
    }, `data:image/png;base64,${shot}`);
    const expected = [[200, 40, 40], [40, 200, 40]];
    colour.flat().forEach((value, at) => assert.ok(Math.abs(value - expected.flat()[at]) < 16, String(colour)));
    assert.equal(await page.locator("#tabs").isVisible(), false);
  });

  seen("the page looks as it did on a desktop", async (page) => {
    await stream(page, "phantom");
    await page.route("**/frames/*", (route) => route.abort());
    await open(page);
    await place(page, "axial", "49 / 96");
    await page.locator('[data-view="volume"][data-rendered="128"]').waitFor();
    await setTimeout(1000);
    await matches(page, "desktop");
  });

  seen("the page looks as it did on a phone", async (page) => {
    await stream(page, "phantom");
    await page.route("**/frames/*", (route) => route.abort());
    await open(page);
    await place(page, "axial", "49 / 96");
    await matches(page, "phone");
  }, true);

  seen("on a phone a swipe goes through slices, two fingers enlarge, and tabs change the view", async (page) => {
    await openCt(page);
    const session = await pocket.newCDPSession(page);
    const touch = (type, ...points) => session.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
    await touch("touchStart", [200, 400]);
    for (let y = 410; y <= 490; y += 10) await touch("touchMove", [200, y]);
    await touch("touchEnd");
    await view(page, "axial").locator(".place").filter({ hasText: /^6\d \/ 108/ }).waitFor();
    const before = await view(page, "axial").locator(".values").innerText();
    await touch("touchStart", [150, 400], [250, 400]);
    for (let step = 1; step <= 5; step++) await touch("touchMove", [150 - 10 * step, 400], [250 + 10 * step, 400]);
    await touch("touchEnd");
    await view(page, "axial").locator(".values").filter({ hasNotText: before }).waitFor();
    await page.getByRole("tab", { name: "시상면" }).tap();
    await place(page, "sagittal", "/ 256");
    assert.equal(await view(page, "axial").isVisible(), false);
    await page.getByRole("tab", { name: "3D" }).tap();
    await page.locator('[data-view="volume"][data-rendered]').waitFor();
  }, true);

  seen("words are Korean or English, and the choice stays", async (page) => {
    await openCt(page);
    await page.getByRole("button", { name: "Brightness" }).waitFor();
    await page.locator("#language").selectOption("ko");
    await page.getByRole("button", { name: "밝기" }).waitFor();
    await page.reload();
    await page.getByRole("button", { name: "밝기" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "ko");
    await page.locator("#language").selectOption("en");
  });

  seen("a preview that is being made shows how far it is, and then the images", async (page) => {
    await page.route(/\/series\/[^/]+\/state$/, (route) => route.fulfill({ json: { state: "pending", encoded: 0, slices: 108 } }));
    await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => route.fulfill({ status: 503, headers: { "Retry-After": "1" }, json: { detail: "to be made" } }));
    await open(page);
    assert.match(await notice(page, "pending"), /being made 0 of 108 images are ready/);
    await page.locator("#notice-image").waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await stream(page, "ct");
    await place(page, "axial", "55 / 108");
    assert.equal(await page.locator("#notice").isVisible(), false);
  });

  seen("a preview that is half made is shown, and replaced when it is whole", async (page) => {
    await stream(page, "partial", { state: "partial", encoded: 54, slices: 108 });
    await open(page);
    await place(page, "axial", "28 / 54");
    await page.getByText("54 of 108 images so far").waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await stream(page, "ct");
    await place(page, "axial", "55 / 108");
    await page.getByText("All images are original").waitFor();
  });

  seen("a preview that is being made is waited for while the server cannot be asked", async (page) => {
    let asked = 0;
    await page.route(/\/series\/[^/]+\/state$/, (route) => {
      asked += 1;
      if (asked === 2) return route.abort("connectionrefused");
      if (asked === 3) return route.fulfill({ status: 500, json: { detail: "not now" } });
      return route.fulfill({ json: { state: asked < 5 ? "pending" : "ready", encoded: 3, slices: 108 } });
    });
    const body = readFileSync(join(made, "ct"));
    await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => (asked < 5 ? route.fulfill({ status: 503, json: {} }) : route.fulfill({ body, contentType: streamed })));
    await open(page);
    await notice(page, "pending");
    await place(page, "axial", "55 / 108");
  });

  seen("a preview is not waited for without an end: the page says so, and one can try again", async (page) => {
    // The state fails for good, while the stream is being made.
    let asked = 0;
    await page.route(/\/series\/[^/]+\/state$/, (route) => (asked++ === 0 ? route.fulfill({ json: { state: "pending", encoded: 0, slices: 108 } }) : route.abort("connectionrefused")));
    await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => route.fulfill({ status: 503, json: { detail: "to be made" } }));
    await open(page);
    await notice(page, "pending");
    assert.match(await notice(page, "offline"), /cannot be reached/);
    const before = asked;
    // A server that says that the preview is there, and does not give it.
    await page.unrouteAll({ behavior: "ignoreErrors" });
    let streams = 0;
    await page.route(/\/series\/[^/]+\/state$/, (route) => route.fulfill({ json: { state: "ready", encoded: 108, slices: 108 } }));
    await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => {
      streams += 1;
      return route.fulfill({ status: 503, json: { detail: "no room now" } });
    });
    await page.getByRole("button", { name: "Try again" }).click();
    assert.match(await notice(page, "error"), /no room now/);
    assert.ok(before <= 12 && streams <= 8, `${before} and ${streams} requests`);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await stream(page, "ct");
    await page.getByRole("button", { name: "Try again" }).click();
    await place(page, "axial", "55 / 108");
  });

  seen("a preview that is made is shown when the server says so, and not asked for every second", async (page) => {
    const { study, series, patient } = server.studies.ultrasound;
    let state = { state: "pending", encoded: 0, slices: 108 };
    const asked = [];
    const line = page.waitForResponse((response) => response.url().includes("/events?study="));
    await page.route(/\/series\/[^/]+\/state$/, (route) => (asked.push(Date.now()), route.fulfill({ json: state })));
    const body = readFileSync(join(made, "ct"));
    await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => (state.state === "ready" ? route.fulfill({ body, contentType: streamed }) : route.fulfill({ status: 503, json: {} })));
    await open(page, server.studies.ultrasound);
    assert.equal((await line).status(), 200);
    await setTimeout(1500);
    const before = asked.length;
    await setTimeout(6000);
    assert.ok(asked.length - before <= 2, `${asked.length - before} in 6 seconds`);
    state = { state: "ready", encoded: 108, slices: 108 };
    const start = Date.now();
    await store(server.url, [image({ name: patient, study, series })]);
    await place(page, "axial", "55 / 108");
    assert.ok(Date.now() - start < 4500, `${Date.now() - start} ms`);
  });

  seen("an image that cannot be decoded is marked, and the others are shown finely", async (page) => {
    await stream(page, "damaged");
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.route("**/frames/*", async (route) => {
      await held;
      await route.continue();
    });
    await open(page);
    await place(page, "axial", "55 / 108");
    await page.getByText("Images that cannot be decoded: 1").waitFor();
    await badge(page, "axial", "preview");
    await page.keyboard.press("x");
    await looksLike(page, "axial", servers.picture(join(made, "axial.png")), same);
    await page.keyboard.press("ArrowDown");
    await badge(page, "axial", "stand-in");
    assert.equal(await view(page, "axial").locator(".badge").innerText(), "Cannot be decoded: a stand-in is shown");
    // What is shown is nearly the image, and not black.
    await looksLike(page, "axial", servers.picture(join(made, "axial.png")), 0.9);
    await screenshot(page, "view a damaged image");
    await page.setViewportSize(phone);
    await badge(page, "axial", "stand-in");
    await screenshot(page, "view a damaged image on a phone");
    await page.setViewportSize(desktop);
    release();
    await badge(page, "axial", "original");
  });

  seen("a decoder that does not start is said, and another viewer is offered", async (page) => {
    await page.route(/\/view\/openjpeg\.[0-9a-f]+\.wasm$/, (route) => route.fulfill({ contentType: "application/wasm", body: "no module" }));
    await stream(page, "ct");
    await open(page);
    assert.match(await notice(page, "codec"), /decoder for images does not start/);
    await page.locator("#notice-image").waitFor();
    await page.getByRole("link", { name: "Open in OHIF" }).waitFor();
    await page.getByRole("button", { name: "Load again" }).waitFor();
  });

  seen("the series of a study are asked for once, and all of their pages", async (page) => {
    const { study, series } = server.studies.ct;
    await stream(page, "ct");
    const asked = [];
    const one = (uid, number) => ({ "0020000D": { vr: "UI", Value: [study] }, "0020000E": { vr: "UI", Value: [uid] }, "00080060": { vr: "CS", Value: ["CT"] }, "00200011": { vr: "IS", Value: [number] } });
    await page.route(/\/studies\/[\d.]+\/series\?/, (route) => {
      const url = new URL(route.request().url());
      asked.push(url.search);
      const place = Number(url.searchParams.get("offset") ?? 0);
      const headers = place < 2 ? { Link: `<http://elsewhere.example/dicom-web/studies/${study}/series?offset=${place + 1}>; rel="next"` } : {};
      return route.fulfill({ headers, contentType: "application/dicom+json", json: [one(place === 2 ? series : `1.2.${place}`, 9 - place)] });
    });
    await page.goto(`${server.url}/view/?study=${study}`);
    await place(page, "axial", "55 / 108");
    await page.locator("#series option").nth(2).waitFor({ state: "attached" });
    assert.deepEqual(await page.locator("#series option").evaluateAll((options) => options.map(({ value }) => value)), [series, "1.2.1", "1.2.0"]);
    assert.equal(asked.length, 3, String(asked));
  });

  for (const [status, kind, state, expected] of [
    [401, "sign-in", null, /Sign in to see this study/],
    [403, "forbidden", null, /no right to see this study/],
    [404, "missing", null, /no such series/],
    [404, "nothing", { state: "none", encoded: 0, slices: 1 }, /nothing that can be shown/],
    [404, "failed", { state: "failed", encoded: 0, slices: 1, reason: "not decodable" }, /could not be made not decodable/],
    [500, "error", null, /cannot be loaded/],
  ]) {
    seen(`status ${status} of a series in state ${state?.state} is explained`, async (page) => {
      await page.route("**/stream/**/state", (route) => (state ? route.fulfill({ json: state }) : route.fulfill({ status: 404, json: { detail: "no" } })));
      await page.route(/\/stream\/studies\/[^/]+\/series\/[^/]+$/, (route) => route.fulfill({ status, json: { detail: "it is so" } }));
      await open(page);
      assert.match(await notice(page, kind), expected);
      await page.getByRole("link", { name: "To the list of studies" }).waitFor();
    });
  }

  seen("a server that is away can be tried again", async (page) => {
    await page.route("**/stream/**", (route) => route.abort("connectionrefused"));
    await open(page);
    assert.match(await notice(page, "offline"), /cannot be reached/);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await stream(page, "ct");
    await page.getByRole("button", { name: "Try again" }).click();
    await place(page, "axial", "55 / 108");
  });

  seen("a stream of another version is no riddle", async (page) => {
    const body = Buffer.from("CUSPIDST\x01\0\0\0\x02\0\0\0{}", "latin1");
    await page.route(/\/stream\//, (route) => route.fulfill({ body, contentType: streamed }));
    await open(page);
    assert.match(await notice(page, "version"), /another version/);
  });

  seen("a browser without WebGL2 shows the thumbnail and says what is missing", async (page) => {
    await page.addInitScript(() => {
      const original = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
        return kind === "webgl2" ? null : original.call(this, kind, ...rest);
      };
    });
    await open(page);
    assert.match(await notice(page, "webgl"), /WebGL2 is missing/);
    await page.locator("#notice-image").waitFor();
    await page.getByRole("link", { name: "Open in OHIF" }).waitFor();
  });

  seen("no study is no error", async (page) => {
    await page.goto(`${server.url}/view/`);
    assert.match(await notice(page, "no-series"), /No study was chosen/);
  });

  seen("the console has a link to the viewer, which finds the series itself", async (page) => {
    await stream(page, "ct");
    await page.goto(`${server.url}/`);
    const row = page.locator("tbody tr", { hasText: server.studies.ct.patient.replace("^", " ") });
    await row.getByRole("link", { name: /^View/ }).click();
    await place(page, "axial", "55 / 108");
    await page.locator("#patient", { hasText: "Head Real" }).waitFor();
  });

  seen("the server's own stream is shown", async (page) => {
    await open(page);
    await place(page, "axial", "55 / 108");
    await page.keyboard.press("x");
    for (const name of ["axial", "coronal", "sagittal"]) await looksLike(page, name, servers.picture(join(made, `${name}.png`)), same);
  });
});
