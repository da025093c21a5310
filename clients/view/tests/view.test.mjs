// What the viewer computes, in Node: planes, curves, thresholds, multipart bodies, and words.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, mock, test } from "node:test";

import { buildSync } from "esbuild";

const source = join(import.meta.dirname, "../src");
const outdir = mkdtempSync(join(tmpdir(), "cuspid-view-"));
const names = ["geometry", "curve", "histogram", "multipart", "viewer", "scene", "panorama"];
// What the modules of the page look for when they are loaded.
globalThis.localStorage ??= { getItem: () => null, setItem() {} };
Object.defineProperty(globalThis, "navigator", { configurable: true, value: { languages: ["en"] } });
const alias = { "@cuspid/client": join(source, "../../js/src/index.ts") };
buildSync({ alias, external: ["fs", "path"], logLevel: "error", entryPoints: names.map((name) => join(source, `${name}.ts`)), bundle: true, format: "esm", outdir, outExtension: { ".js": ".mjs" } });
const [geometry, { arch, resample }, { fromHalf, statistics }, { onlyPart }, { Viewer }, { Scene }, { PanoramaPlace }] = await Promise.all(names.map((name) => import(join(outdir, `${name}.mjs`))));

/** The directions of a screen's right and down in the patient, for a plane. */
function onScreen(plane, directions) {
  const of = (axis, sign) => directions[axis].map((value) => Math.round(value * sign) + 0);
  return [of(plane.right, plane.rightSign), of(plane.down, plane.downSign)];
}

describe("planes", () => {
  const [L, P, S] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const minus = (vector) => vector.map((value) => 0 - value);
  for (const [name, directions] of [
    ["axial slices", [L, P, S]],
    ["axial slices from the head down", [L, P, minus(S)]],
    ["sagittal slices", [P, minus(S), minus(L)]],
    ["coronal slices", [L, minus(S), P]],
    ["slices of a patient who lies prone", [minus(L), minus(P), S]],
    ["slices that are a little tilted", [L, [0, 0.98, -0.2], [0, 0.2, 0.98]]],
  ]) {
    test(`${name} are shown as people look at them`, () => {
      const found = geometry.planes(directions);
      assert.deepEqual(found.map((plane) => plane.name), ["axial", "coronal", "sagittal"]);
      assert.deepEqual(new Set(found.map(({ normal }) => normal)), new Set([0, 1, 2]));
      const [axial, coronal, sagittal] = found.map((plane) => onScreen(plane, directions));
      assert.deepEqual(axial, [L, P]);
      assert.deepEqual(coronal, [L, minus(S)]);
      assert.deepEqual(sagittal, [P, minus(S)]);
      assert.deepEqual(found.map(({ letters }) => letters.join("")), ["RLAP", "RLSI", "APSI"]);
    });
  }

  test("an image alone has the letters of its orientation, or none", () => {
    assert.deepEqual(geometry.imagePlane([1, 0, 0, 0, 0, -1]).letters, ["R", "L", "S", "I"]);
    assert.deepEqual(geometry.imagePlane(null).letters, ["", "", "", ""]);
  });

  test("lengths and angles", () => {
    assert.equal(geometry.distance([0, 0, 0], [3, 4, 0]), 5);
    assert.ok(Math.abs(geometry.angle([1, 0, 0], [0, 0, 0], [0, 2, 0]) - 90) < 1e-9);
    assert.ok(Math.abs(geometry.angle([1, 0, 0], [0, 0, 0], [5, 0, 0])) < 1e-9);
  });

  test("a turn keeps lengths and goes the right way", () => {
    const turned = geometry.turned([1, 0, 0], [0, 0, 1], Math.PI / 2);
    turned.forEach((value, axis) => assert.ok(Math.abs(value - [0, 1, 0][axis]) < 1e-9));
  });
});

describe("the curve of a panorama", () => {
  test("points are equally far apart, and go through the ends", () => {
    const points = arch([50, 10, 0], [1, 0, 0], [0, 1, 0], 40, 60);
    const { curve, across, length } = resample(points, [0, 0, 1], 128);
    assert.deepEqual(curve[0], points[0]);
    curve.at(-1).forEach((value, axis) => assert.ok(Math.abs(value - points.at(-1)[axis]) < 1e-6));
    const steps = curve.slice(1).map((point, at) => geometry.distance(point, curve[at]));
    assert.ok(Math.max(...steps) / Math.min(...steps) < 1.02, "steps differ");
    assert.ok(Math.abs(steps.reduce((sum, step) => sum + step) - length) / length < 0.01);
    across.forEach((vector) => assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-9 && vector[2] === 0));
  });
});

describe("statistics", () => {
  test("thresholds part air, tissue and bone", () => {
    const classes = [[-1000, 5000], [50, 4000], [1200, 600]];
    const values = Float32Array.from(classes.flatMap(([value, count]) => Array.from({ length: count }, (_, at) => value + (at % 41) - 20)));
    const { lower, upper, min, max, window } = statistics(values);
    assert.ok(lower > -980 && lower < 30, `${lower}`);
    assert.ok(upper > 70 && upper < 1180, `${upper}`);
    assert.deepEqual([min, max], [-1020, 1220]);
    assert.ok(window[0] - window[1] / 2 >= -1100 && window[0] + window[1] / 2 <= 1300);
  });

  test("one value is no division by nothing", () => {
    const { window } = statistics(new Float32Array(10));
    assert.ok(window.every(Number.isFinite) && window[1] > 0);
  });

  test("half floats", () => {
    for (const [bits, value] of [[0, 0], [0x3c00, 1], [0xbc00, -1], [0x6800, 2048], [0x7bff, 65504]]) assert.equal(fromHalf(bits), value);
  });
});

describe("multipart", () => {
  const type = 'multipart/related; type="application/octet-stream"; boundary=abc';
  const message = (body) => Uint8Array.from(Buffer.concat([Buffer.from("--abc\r\nContent-Type: application/octet-stream\r\n\r\n"), body, Buffer.from("\r\n--abc--\r\n")]));

  test("the body of the part is given byte for byte", () => {
    for (const body of [Buffer.from([0, 13, 10, 45, 45, 255]), Buffer.alloc(0), Buffer.from("\r\n\r\n--ab")]) {
      assert.deepEqual(Buffer.from(onlyPart(message(body), type)), body);
    }
  });

  test("what is cut off is an error", () => {
    assert.throws(() => onlyPart(message(Buffer.from("x")).subarray(0, 52), type), /cut off/);
    assert.throws(() => onlyPart(new Uint8Array(9), type), /cannot be read/);
    assert.throws(() => onlyPart(message(Buffer.from("x")), "multipart/related"), /cannot be read/);
  });
});

describe("words", () => {
  const read = (language) => JSON.parse(readFileSync(join(source, "messages", `${language}.json`), "utf8"));
  const english = read("en");

  test("every language has every text, with the same values in it", () => {
    const values = (text) => [...text.matchAll(/\{\w+\}/g)].map(([value]) => value).sort();
    for (const [key, text] of Object.entries(read("ko"))) {
      assert.ok(key in english, key);
      assert.deepEqual(values(text), values(english[key]), key);
      assert.ok(text.trim(), key);
    }
    assert.deepEqual(Object.keys(read("ko")), Object.keys(english));
  });

  test("every text is used, and none is written in the code", () => {
    const code = readdirSync(source).filter((name) => name.endsWith(".ts")).map((name) => readFileSync(join(source, name), "utf8")).join("\n");
    for (const key of Object.keys(english)) assert.ok(code.includes(`"${key}"`) || ["axial", "coronal", "sagittal", "image", "volume"].includes(key), `${key} is not used`);
    assert.doesNotMatch(code, /[가-힣]{2,}.*text\(/);
  });
});

/** An element of a page without a browser. */
class Element {
  dataset = {};
  attributes = new Map();
  isHidden = false;
  size = [800, 600];
  get clientWidth() { return this.isHidden ? 0 : this.size[0]; }
  get clientHeight() { return this.isHidden ? 0 : this.size[1]; }
  getBoundingClientRect() { return { left: 0, top: 0, bottom: 600, right: 800, width: this.clientWidth, height: this.clientHeight }; }
  setAttribute(name, value) { this.attributes.set(name, value); }
  append() {}
  remove() {}
  replaceChildren() {}
}

/** A viewer of a volume with layers of 64 to 512 columns; renderings are recorded. */
function viewing(isSoftware) {
  Object.assign(globalThis, {
    window: globalThis, devicePixelRatio: 1, requestAnimationFrame: (draw) => setTimeout(draw, 1), ResizeObserver: class { observe() {} },
    document: { createElement: () => new Element(), createElementNS: () => new Element() },
  });
  const renderings = [];
  const painter = {
    isSoftware, canvas: { width: 800, height: 600 }, clear() {}, slice() {}, panorama() {},
    render: (area, { count }, bounds, { step }, width) => renderings.push({ columns: count[0], width }),
  };
  const sizes = [64, 128, 256, 512];
  const layers = sizes.map((columns) => ({ layer: { level: 512 / columns, columns }, samples: { count: [columns, columns, columns], density: [1, 1, 1] } }));
  const directions = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const scene = {
    isVolume: true, planes: geometry.planes(directions), box: { count: [512, 512, 512], spacing: [1, 1, 1], directions }, bounds: [[0, 0, 0], [511, 511, 511]],
    statistics: { min: -1000, lower: 0, upper: 500 }, offset: 0, index: { slices: [] }, isWholeOriginal: false,
    finest: (most = Infinity) => layers.findLast(({ layer }) => layer.columns <= most), samplesOf: () => layers[3].samples, boxOf: () => scene.box,
    boundsOf: () => scene.bounds, isSliceOriginal: () => false, hasStandIn: () => false, free() {},
  };
  const viewer = new Viewer(painter, new Element(), () => {});
  viewer.show(scene, false);
  return { viewer, renderings, scene };
}

/** Lets time go by, without waiting. */
function later(milliseconds) {
  for (let step = 0; step < milliseconds; step += 5) mock.timers.tick(5);
}

describe("a volume rendering", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
  afterEach(() => mock.timers.reset());

  test("is made once by the processor, after the last change", () => {
    const { viewer, renderings } = viewing(true);
    later(400);
    assert.deepEqual(renderings.splice(0), [{ columns: 128, width: 256 }]);
    for (let turn = 0; turn < 5; turn++) {
      viewer.turn(3, 0);
      later(20);
    }
    later(400);
    // What follows changes nothing in it.
    viewer.invalidate();
    viewer.invalidate("volume");
    later(400);
    assert.deepEqual(renderings, [{ columns: 128, width: 256 }]);
  });

  test("is coarse while a graphics processor turns it, and fine afterwards", () => {
    const { viewer, renderings } = viewing(false);
    later(100);
    assert.deepEqual(renderings.splice(0), [{ columns: 512, width: 800 }]);
    viewer.turn(3, 0);
    later(50);
    viewer.turn(3, 0);
    later(50);
    assert.deepEqual(renderings, [{ columns: 256, width: 512 }, { columns: 256, width: 512 }]);
    later(400);
    assert.deepEqual(renderings.slice(2), [{ columns: 512, width: 800 }]);
  });

  test("is made again when it comes back to a place where something else was drawn", () => {
    const { viewer, renderings } = viewing(false);
    later(100);
    const { element } = viewer.view("volume");
    element.isHidden = true;
    viewer.invalidate();
    later(50);
    element.isHidden = false;
    viewer.invalidate();
    later(50);
    assert.equal(renderings.length, 2);
  });

  test("of a series that was closed is not made", () => {
    const { viewer, renderings, scene } = viewing(true);
    viewer.show({ ...scene, finest: () => null }, true);
    later(400);
    assert.deepEqual(renderings, []);
  });
});

describe("a view that changes its size", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
  afterEach(() => mock.timers.reset());

  /** A viewer, and a function that gives a view another size; nothing else tells the viewer. */
  function sized() {
    const { viewer } = viewing(false);
    later(50);
    const view = viewer.view("axial");
    const resize = (width, height) => {
      view.element.size = [width, height];
      view.element.isHidden = width === 0;
      viewer.invalidate();
      later(50);
    };
    return { viewer, view, resize };
  }

  test("shows all of the image again if it showed all of it", () => {
    const { view, resize } = sized();
    assert.equal(view.zoom, 600 / 512);
    for (const [width, height, zoom] of [[1600, 1200, 1200 / 512], [0, 0, 1200 / 512], [400, 300, 300 / 512], [300, 900, 300 / 512]]) {
      resize(width, height);
      assert.equal(view.zoom, zoom);
    }
  });

  test("keeps what was enlarged, and where that is", () => {
    const { view, resize } = sized();
    view.zoomBy(3, 100, 100);
    const [zoom, middle] = [view.zoom, view.middle];
    resize(0, 0);
    resize(1600, 1200);
    assert.deepEqual([view.zoom, view.middle], [zoom * 2, middle]);
  });

  test("has measurements that outlive a reset of zoom and position", () => {
    const { viewer, view } = sized();
    viewer.measurements.push({ kind: "length", plane: "axial", points: [[0, 0, 0], [1, 0, 0]] });
    view.zoomBy(2);
    viewer.reset();
    assert.deepEqual([view.zoom, viewer.measurements.length], [600 / 512, 1]);
  });
});

describe("a panorama", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
  afterEach(() => mock.timers.reset());

  test("is never marked as original", () => {
    const { viewer, scene } = viewing(false);
    scene.isWholeOriginal = true;
    viewer.startCurve();
    viewer.invalidate();
    later(50);
    const { element } = viewer.view("panorama");
    assert.equal(element.dataset.state, "preview");
  });

  const area = { x: 100, y: 50, width: 400, height: 200 };
  const curve = [[0, 0, 0], [50, 50, 0], [100, 0, 0]];
  /** A panorama of 200 mm by 50 mm, with two pixels of the canvas per CSS pixel. */
  const drawn = (place) => (place.drawn = { curve, axis: 2, extent: [0, 50], area, inner: place.inner(area, 200, 50, 2), ratio: 2 });

  test("lies in the middle of its view, and is moved and enlarged about a place", () => {
    const place = new PanoramaPlace();
    assert.deepEqual(place.inner(area, 200, 50, 2), { x: 100, y: 100, width: 400, height: 100 });
    place.pan(10, 5);
    assert.deepEqual(place.inner(area, 200, 50, 2), { x: 120, y: 90, width: 400, height: 100 });
    drawn(place);
    const before = place.pointAt(110, 60);
    place.zoomBy(2, 10, 10);
    drawn(place);
    assert.deepEqual(place.pointAt(110, 60), before);
    place.zoomBy(1e9, 0, 0);
    const { width, height } = place.inner({ ...area, width: 4000, height: 2000 }, 200, 50, 2);
    assert.ok(width <= 8192 && height <= 8192);
    place.reset();
    assert.deepEqual(place.inner(area, 200, 50, 2), { x: 100, y: 100, width: 400, height: 100 });
  });

  test("leads to the points that it shows", () => {
    const place = new PanoramaPlace();
    assert.equal(place.pointAt(0, 0), null);
    drawn(place);
    assert.deepEqual(place.pointAt(0, 75), [0, 0, 0]);
    assert.deepEqual(place.pointAt(100, 50), [50, 50, 25]);
    assert.deepEqual(place.pointAt(200, 25), [100, 0, 50]);
    assert.equal(place.pointAt(100, 10), null);
  });
});

describe("a scene with a slice that cannot be decoded", () => {
  const image = { rows: 4, columns: 4, samples: 1, precision: 12, drop: 0, signed: false, photometric: "MONOCHROME2", binning: 1, lossless: true, levels: 2 };
  const slices = Array.from({ length: 6 }, (_, number) => ({
    number, instance: `1.${number}`, frame: 1, image: number === 4 ? null : image, position: [0, 0, number], orientation: [1, 0, 0, 0, 1, 0], spacing: [1, 1], rescale: [1, 0], window: null,
  }));
  const numbers = [0, 1, 2, 3, 5];
  const stages = [1, 0].map((level) => ({ level, stride: 1, end: 0, segments: numbers.length }));
  const index = { isComplete: true, numberOfSlices: 6, firstSlice: 0, sliceSpacing: 1, psnr: null, slices, failures: [{ slice: 4, reason: "" }], stages, segments: [], length: 0 };

  /** A scene into which all is put; slice 2 of level 0 is a stand-in. */
  function filled(isInSpace, standIn) {
    const uploads = new Map();
    const painter = { max3D: 2048, texture: (count) => ({ count }), upload: ({ count }, plane, data) => uploads.set(`${count[0]} ${plane}`, data[0]), free() {} };
    const scene = new Scene({ ...index, isInSpace }, painter);
    stages.forEach(({ level }, stage) => {
      for (const number of numbers) {
        const side = 4 >> level;
        const isDamaged = number === 2 && level === 0;
        const data = new Uint16Array(side * side).fill(number === 2 && isDamaged ? 99 : number + 10);
        scene.put({ slice: slices[number], level, stage, standIn: isDamaged ? standIn : null, width: side, height: side, samples: 1, data, milliseconds: 0 });
      }
    });
    return { scene, uploads };
  }

  test("shows its finest level, and says which slices are not what they seem", () => {
    for (const standIn of [{ slice: 2, level: 1 }, { slice: 1, level: 0 }, { slice: null, level: 0 }]) {
      const { scene, uploads } = filled(true, standIn);
      assert.equal(scene.finest().layer.level, 0);
      assert.deepEqual(slices.map(({ number }) => scene.hasStandIn(number)), [false, false, true, false, true, false]);
      // Lossless slices are original, but not what stands in for one.
      assert.deepEqual(numbers.map((number) => scene.isSliceOriginal(number)), [true, true, false, true, true]);
      assert.equal(scene.isWholeOriginal, false);
      assert.ok(scene.statistics);
      // The slice without an image shows the one before.
      assert.deepEqual([uploads.get("4 2"), uploads.get("4 4")], [99, 13]);
      scene.putOriginal(slices[2], { columns: 4, rows: 4, data: new Uint16Array(16), isColour: false }, true);
      assert.deepEqual([scene.hasStandIn(2), scene.isSliceOriginal(2)], [false, true]);
    }
  });

  test("is shown in the coarser level where images are no volume, and never by another image", () => {
    const { scene } = filled(false, { slice: 1, level: 0 });
    assert.deepEqual([scene.levelOf(2), scene.levelOf(3), scene.hasStandIn(2), scene.isSliceOriginal(2)], [1, 0, true, false]);
    assert.equal(scene.levelOf(4), -1);
  });
});
