// What the viewer computes, in Node: planes, curves, thresholds, multipart bodies, and words.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { buildSync } from "esbuild";

const source = join(import.meta.dirname, "../src");
const outdir = mkdtempSync(join(tmpdir(), "cuspid-view-"));
const names = ["geometry", "curve", "histogram", "multipart"];
buildSync({ entryPoints: names.map((name) => join(source, `${name}.ts`)), bundle: true, format: "esm", outdir, outExtension: { ".js": ".mjs" } });
const [geometry, { arch, resample }, { fromHalf, statistics }, { onlyPart }] = await Promise.all(names.map((name) => import(join(outdir, `${name}.mjs`))));

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
