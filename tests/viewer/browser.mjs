// A browser that records each request, and functions that read OHIF's pages.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";

import { chromium } from "playwright-core";

// Rendering is done in software on every machine, and the browser makes no requests of its own.
const options = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-gl=angle",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
];
const patience = 60_000;
const pause = 250;
const shown = resolve(import.meta.dirname, "../../target/viewer-test");
// With CUSPID_CONSOLE=source, pages get the console's files as they are in the tree, and not those of the server: scripts
// can be changed without building the server again.
const console_ = resolve(import.meta.dirname, "../../src/http/web/console");
const isFromSource = process.env.CUSPID_CONSOLE === "source";

/** The page of the source tree with the parameters of the server's, if the console is served from there; else the server's. */
export function sourcePage(page) {
  if (!isFromSource) return page;
  const tag = /<html[^>]*>/;
  const [head] = tag.exec(page);
  return readFileSync(join(console_, "index.html"), "utf8").replace(tag, () => head);
}

/** Serves the console of a context from the source tree, if that is wanted. */
export async function serveSource(context) {
  if (!isFromSource) return;
  const type = { css: "text/css", js: "text/javascript" };
  await context.route(/\/console\/(\w+\/)?[\w-]+\.(js|css)$/, (route) => {
    const name = route.request().url().split("/").pop();
    return route.fulfill({ contentType: type[name.split(".").pop()], body: readFileSync(join(console_, name)) });
  });
  await context.route((url) => ["/", "/pacs/"].includes(url.pathname), async (route) => {
    if (route.request().resourceType() !== "document") return route.fallback();
    const response = await route.fetch();
    return route.fulfill({ response, body: sourcePage(await response.text()) });
  });
}

/**
 * Starts the browser; screenshots and the list of requests, under a name, are saved in `target/viewer-test`. `settings` are those
 * of a context, as `locale` and `colorScheme`.
 */
export async function start(name = "requests", settings = {}) {
  mkdirSync(shown, { recursive: true });
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: options });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...settings });
  await serveSource(context);
  context.setDefaultTimeout(patience);
  // OHIF shows a tour on the first visit.
  await context.addInitScript(() => {
    if (location.protocol.startsWith("http")) window.localStorage?.setItem("shownTours", '["basicViewerTour"]');
  });
  const outcomes = new Map();
  const errors = [];
  context.on("request", (request) => outcomes.set(request, "left"));
  context.on("response", (response) => outcomes.set(response.request(), response.status()));
  context.on("requestfailed", (request) => {
    // A page that is closed aborts its requests.
    const { errorText } = request.failure();
    if (errorText !== "net::ERR_ABORTED") outcomes.set(request, errorText);
  });
  context.on("weberror", (error) => errors.push(error.error().message));
  return {
    context,
    /** What pages threw and did not catch. */
    errors,
    /** Each request with its status, or with why there is none; `left` if the page was closed before. */
    requests() {
      return [...outcomes].map(([request, outcome]) => `${outcome} ${request.method()} ${request.url()}`);
    },
    async stop() {
      writeFileSync(join(shown, `${name}.txt`), this.requests().join("\n") + "\n");
      await browser.close();
    },
  };
}

/** Saves a screenshot of a page. */
export function screenshot(page, name) {
  return page.screenshot({ path: join(shown, `${name.replaceAll(/\W+/g, "-")}.png`) });
}

/** The number of the instance that is shown and its place in the series, which the viewport shows as `I:108 (1/108)`. */
export async function place(page) {
  const overlay = page.locator('[data-cy="viewport-overlay-bottom-right"]');
  await overlay.filter({ hasText: /\(\d+\/\d+\)/ }).waitFor();
  const [, number, index] = /I:\s*(\d+) \((\d+)\/\d+\)/.exec((await overlay.innerText()).replaceAll("\n", ""));
  return { number: Number(number), index: Number(index) };
}

/** Turns the wheel over the viewport, step by step, until the place in the series is `index`. */
export async function scrollTo(page, index) {
  const box = await page.locator("canvas").first().boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  for (let at = (await place(page)).index; at !== index; at += Math.sign(index - at)) {
    const next = at + Math.sign(index - at);
    await page.mouse.wheel(0, 100 * (next - at));
    await page
      .locator('[data-cy="viewport-overlay-bottom-right"]')
      .filter({ hasText: new RegExp(`\\(${next}/`) })
      .waitFor();
  }
}

/** Waits until the number that `look` returns is at least `least`. */
async function until(least, look) {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found >= least) return;
    if (Date.now() > deadline) throw new Error(`found ${found} at last, and not ${least}`);
    await setTimeout(pause);
  }
}

/** Waits until the viewport shows an image: until the correlation of their samples is at least `least`. */
export function shows(page, picture, least) {
  return until(least, () => page.evaluate(likeness, picture));
}

/** Waits until a URL answers with a list of `length`. */
export function hasLength(page, url, length) {
  return until(length, () => page.evaluate(async (url) => (await (await fetch(url)).json()).length, url));
}

/** Waits until most of a part of a page, its middle, is white. */
export function showsPaper(page, clip = { x: 640, y: 200, width: 500, height: 500 }) {
  return until(0.9, async () => {
    const picture = (await page.screenshot({ clip })).toString("base64");
    return page.evaluate(shareOfWhite, `data:image/png;base64,${picture}`);
  });
}

/** Waits until an image element shows a picture: until the correlation of their samples is at least `least`. */
export function imageShows(page, selector, picture, least) {
  return until(least, () => page.evaluate(imageLikeness, { selector, picture }));
}

/** The correlation of an image element with an image of the same shape. Runs in the page. */
async function imageLikeness({ selector, picture }) {
  const shown = document.querySelector(selector);
  if (!shown?.complete || !shown.naturalWidth) return 0;
  // The policy of the page lets it show such a URL, and not fetch it.
  const other = new Image();
  other.src = picture;
  await other.decode();
  const side = 128;
  const samples = (source) => {
    const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
    context.drawImage(source, 0, 0, side, side);
    return [...context.getImageData(0, 0, side, side).data.filter((_, index) => index % 4 === 0)];
  };
  const [a, b] = [samples(shown), samples(other)];
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((value, index) => {
    const [x, y] = [value - meanA, b[index] - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  });
  return ab / Math.sqrt(aa * bb || 1);
}

/** Runs in the page. */
async function shareOfWhite(picture) {
  // The policy of a page may let it show such a URL, and not fetch it.
  const image = new Image();
  image.src = picture;
  await image.decode();
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  return data.filter((sample) => sample === 255).length / data.length;
}

/**
 * The correlation of the first canvas with an image, at the scale where it is best. Runs in the page. An image is
 * shown in the middle of the canvas, about as large as it fits.
 */
async function likeness(picture) {
  const canvas = document.querySelector("canvas");
  if (!canvas?.width) return 0;
  const image = await createImageBitmap(await (await fetch(picture)).blob());
  const samples = (source, scale) => {
    const width = canvas.width >> 1;
    const height = canvas.height >> 1;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    const [w, h] = scale ? [image.width * scale, image.height * scale] : [width, height];
    context.drawImage(source, (width - w) / 2, (height - h) / 2, w, h);
    return context.getImageData(0, 0, width, height).data.filter((_, index) => index % 4 < 3);
  };
  const correlation = (a, b) => {
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [meanA, meanB] = [mean(a), mean(b)];
    let [ab, aa, bb] = [0, 0, 0];
    for (let index = 0; index < a.length; index++) {
      const [x, y] = [a[index] - meanA, b[index] - meanB];
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    return ab / Math.sqrt(aa * bb || 1);
  };
  const seen = samples(canvas);
  const fits = Math.min(canvas.width / image.width, canvas.height / image.height) / 2;
  const scales = [0.9, 0.95, 0.98, 1, 1.02, 1.04, 1.06, 1.1].map((factor) => factor * fits);
  return Math.max(...scales.map((scale) => correlation(seen, samples(image, scale))));
}
