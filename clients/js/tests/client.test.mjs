// The library in Node: format, order of segments, decoding, growth, and broken connections.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

const require = createRequire(import.meta.url);
// The codec's glue looks for its own file by this name, which modules lack.
globalThis.require = require;
globalThis.__filename ??= require.resolve("@cornerstonejs/codec-openjpeg/decodewasmjs");
globalThis.__dirname ??= join(globalThis.__filename, "..");
const { Decoder } = await import("../dist/decoder.js");
const client = await import("../dist/index.js");
const { halfFloat } = client;

const whole = new Uint8Array(readFileSync(join(import.meta.dirname, "phantom.stream")));
// The same volume from the server, with `preview.codec = "htj2k"`.
const highThroughput = new Uint8Array(readFileSync(join(import.meta.dirname, "phantom_htj2k.stream")));
const module = await WebAssembly.compile(readFileSync(require.resolve("@cornerstonejs/codec-openjpeg/decodewasm")));

/** A worker without a thread. */
class DirectWorker {
  onmessage = null;
  onerror = null;
  async postMessage(message) {
    if (message.module) {
      this.decoder = Decoder.create(message.module);
      return;
    }
    const decoder = await this.decoder;
    try {
      this.onmessage?.({ data: { id: message.id, decoded: decoder.decode(message.job) } });
    } catch (error) {
      this.onmessage?.({ data: { id: message.id, error: String(error) } });
    }
  }
  terminate() {
    this.onmessage = null;
  }
}

function pool(count = 1) {
  return new client.Pool(Array.from({ length: count }, () => new DirectWorker()), module);
}

function parsed(bytes = whole) {
  const length = client.indexLength(bytes.subarray(0, client.HEADER_BYTES));
  return client.parseIndex(bytes.subarray(client.HEADER_BYTES, client.HEADER_BYTES + length));
}

/** The stream with another index, which keeps its length. */
function edited(change) {
  const length = client.indexLength(whole);
  const json = JSON.parse(new TextDecoder().decode(whole.subarray(16, 16 + length)));
  change(json);
  return new TextEncoder().encode(JSON.stringify(json));
}

/** The phantom of make_stream.py, without its rod, at a point of a slice. */
function isInBall(x, y, z) {
  return (4 * (z - 12)) ** 2 + (y - 40) ** 2 + (x - 48) ** 2 < 20 ** 2 && (4 * (z - 8)) ** 2 + (y - 30) ** 2 + (x - 36) ** 2 > 12 ** 2
    && (4 * (z - 16)) ** 2 + (y - 50) ** 2 + (x - 62) ** 2 > 10 ** 2;
}

describe("the format", () => {
  test("the index says what the slices are", () => {
    const index = parsed();
    assert.equal(index.isComplete, true);
    assert.equal(index.slices.length, 24);
    assert.equal(index.slices[7].instance, "1.2.3.7");
    assert.deepEqual(index.slices[2].position.map((value) => Number(value.toFixed(3))), [-20, -16, 5.8]);
    assert.equal(index.slices[3].image.levels, 2);
    assert.equal(index.length, whole.length);
  });

  test("each segment begins where the one before ends, and each slice ends in level 0", () => {
    const { segments, slices } = parsed();
    segments.slice(1).forEach((segment, before) => assert.equal(segment.offset, segments[before].offset + segments[before].length));
    assert.deepEqual(new Set(segments.filter(({ level }) => level === 0).map(({ slice }) => slice)).size, slices.length);
  });

  test("strides, levels and images that are missing follow the rule of the format", () => {
    const image = { rows: 512, columns: 512, samples: 1, precision: 12, drop: 0, signed: false, photometric: "MONOCHROME2", binning: 1, lossless: false, head: "" };
    const all = { all: null };
    const others = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    for (const [first, stages] of [
      [0, [[3, 8, [0, 8, 16]], [2, 8, [0, 8, 16]], [2, 4, [4, 12]], [0, 1, others]]],
      // A part of a series has the strides of the series.
      [6, [[3, 8, [2, 10]], [2, 8, [2, 10]], [2, 4, [6, 14]], [0, 1, others]]],
    ]) {
    let end = 0;
    const json = {
      state: "partial", codec: "j2k", number_of_slices: 20, first_slice: first, count: 17, order: "space", slice_spacing: 1, instances: { prefix: "", rest: ["1"] },
      images: [{ ...image, levels: 4 }], instance: { all: 0 }, frame: { first: 1, step: 1 },
      image: { each: Array.from({ length: 17 }, (_, slice) => (slice === 5 ? null : 0)) },
      position: all, orientation: all, spacing: all, rescale: all, window: all, failures: [{ slice: 5, reason: "x" }],
      stages: stages.map(([level, stride, slices]) => ({ level, stride, end: (end += slices.length) })),
      lengths: Array(end).fill(1),
    };
    const index = client.parseIndex(new TextEncoder().encode(JSON.stringify(json)));
    assert.equal(index.isComplete, false);
    stages.forEach(([level, , slices], stage) => {
      const found = index.segments.filter((segment) => segment.stage === stage);
      assert.deepEqual(found.map(({ slice }) => slice), slices);
      assert.ok(found.every((segment) => segment.level === level));
    });
    }
  });

  test("what is no stream of version 2 is refused", () => {
    const head = whole.slice(0, 16);
    assert.throws(() => client.indexLength(head.subarray(0, 10)), client.FormatError);
    assert.throws(() => client.indexLength(new Uint8Array(16)), client.FormatError);
    for (const [at, value] of [[8, 1], [8, 3], [15, 0xff]]) {
      const changed = head.slice();
      changed[at] = value;
      assert.throws(() => client.indexLength(changed), client.FormatError);
    }
    for (const change of [
      (json) => (json.codec = "jxl"),
      (json) => (json.codec = 7),
      (json) => json.lengths.pop(),
      (json) => json.lengths.push(1),
      (json) => (json.lengths[0] = -1),
      (json) => (json.lengths[0] += 1),
      (json) => (json.stages[0].stride = 0),
      (json) => (json.image = { all: 7 }),
      (json) => (json.position = { each: [1] }),
      (json) => (json.images[0].rows = 0),
      (json) => delete json.count,
    ]) {
      assert.throws(() => client.parseIndex(edited(change)), client.FormatError, String(change));
    }
    assert.throws(() => client.parseIndex(new Uint8Array([0xff])), client.FormatError);
  });

  test("an index that is cut off or changed is read or refused, at once and by one error", () => {
    const length = client.indexLength(whole);
    const index = whole.slice(16, 16 + length);
    const look = (bytes, what) => {
      const start = performance.now();
      try {
        const found = client.parseIndex(bytes);
        assert.ok(found.slices.length <= found.segments.length + found.failures.length, what);
        for (const { position, orientation, spacing, rescale, window } of found.slices) {
          for (const [values, count] of [[position, 3], [orientation, 6], [spacing, 2], [rescale, 2], [window, 2]]) {
            assert.ok(values === null || (values.length === count && values.every(Number.isFinite)), what);
          }
        }
        client.layers(found);
        client.isVolume(found);
      } catch (error) {
        assert.ok(error instanceof client.FormatError && error.message, `${what}: ${error.stack}`);
      }
      assert.ok(performance.now() - start < 3000, `${what} takes ${performance.now() - start} ms`);
    };
    for (let end = 0; end < length; end++) look(index.subarray(0, end), `cut off at ${end}`);
    for (let at = 0; at < length; at++) {
      const changed = index.slice();
      for (const byte of [0x22, 0x2d, 0x39, 0x5b, 0x5d, 0xff]) {
        changed[at] = byte;
        look(changed, `${byte} at ${at}`);
      }
    }
    // Each value of the index, and each list and object in it, replaced by others.
    const text = new TextDecoder().decode(index);
    const others = [null, -1, 0, 0.5, 7, 2e9, 2 ** 53, "", "x", true, [], [null], [1, 2, 3], {}, { all: "x" }, { each: [] }, { first: [1, 2, 3] }];
    const places = [];
    const walk = (json, path) => {
      places.push(path);
      if (typeof json === "object" && json !== null) for (const key of Object.keys(json).slice(0, 20)) walk(json[key], [...path, key]);
    };
    walk(JSON.parse(text), []);
    assert.ok(places.length > 80, `${places.length} places`);
    for (const path of places) {
      for (const other of [...others, undefined]) {
        const holder = { index: JSON.parse(text) };
        const inner = ["index", ...path];
        const last = inner.pop();
        const parent = inner.reduce((found, key) => found[key], holder);
        if (other === undefined) delete parent[last];
        else parent[last] = other;
        const changed = holder.index === undefined ? "" : JSON.stringify(holder.index);
        look(new TextEncoder().encode(changed), `${path.join(".")} = ${JSON.stringify(other)}`);
      }
    }
    // Numbers that JSON can write, and a double cannot hold.
    look(new TextEncoder().encode(text.replace(/-?\d+\.\d+/, "1e999")), "1e999");
  });

  test("a distance that is not positive is none, and not a division by it", () => {
    const index = client.parseIndex(edited((json) => Object.assign(json, { spacing: { all: [0, 1] }, slice_spacing: 0 })));
    assert.deepEqual([index.slices[0].spacing, index.sliceSpacing, client.isVolume(index)], [null, null, false]);
  });
});

describe("half floats", () => {
  test("integers up to 2048 are exact, and larger values are near", () => {
    const read = (bits) => {
      const exponent = (bits >> 10) & 31;
      const value = exponent ? 2 ** (exponent - 15) * (1 + (bits & 1023) / 1024) : 0;
      return bits & 0x8000 ? -value : value;
    };
    for (let value = -2048; value <= 2048; value++) assert.equal(read(halfFloat(value)), value);
    for (const value of [3001, -40000, 65504]) assert.ok(Math.abs(read(halfFloat(value)) - value) <= Math.abs(value) / 2048);
    assert.equal(read(halfFloat(1e9)), 65504);
  });
});

describe("layers", () => {
  const layer = { level: 1, step: 2, stride: 2, start: 0, firstStride: 4, columns: 1, rows: 1, planes: 5, firstStage: 0, lastStage: 1 };
  test("a slice stands in for the planes after it until they have their own", () => {
    const own = new Uint8Array(5);
    assert.deepEqual(client.planesOf(layer, 0, own), [0, 1]);
    assert.deepEqual(client.planesOf(layer, 4, own), [2, 3]);
    assert.deepEqual(client.planesOf(layer, 2, own), [1]);
    assert.deepEqual(client.planesOf(layer, 0, own), [0]);
    assert.deepEqual(client.planesOf(layer, 3, own), []);
  });

  test("a slice stands in for planes beside it that have no image, also for those before the first", () => {
    const gaps = (...slices) => (slice) => slices.includes(slice);
    const fine = { ...layer, firstStride: 2 };
    assert.deepEqual(client.planesOf(fine, 2, new Uint8Array(5), gaps(4, 6)), [1, 2, 3]);
    assert.deepEqual(client.planesOf(fine, 4, new Uint8Array(5), gaps(0, 2)), [2, 1, 0]);
    assert.deepEqual(client.planesOf(fine, 4, new Uint8Array(5), gaps(0)), [2]);
    assert.deepEqual(client.planesOf(layer, 0, new Uint8Array(5), gaps(4)), [0, 1, 2, 3]);
  });

  test("coarser levels that come late do not take away what stands in", () => {
    const standIns = new client.StandIns();
    const standIn = { slice: 3, level: 1 };
    standIns.note(3, 0, standIn);
    standIns.note(3, 2, null);
    assert.deepEqual([standIns.of(3), standIns.count], [standIn, 1]);
    standIns.note(4, 2, standIn);
    standIns.note(4, 0, null);
    assert.equal(standIns.of(4), null);
  });
});

/** A server of a stream that can break: `break` bytes are sent of each response. */
async function serve({ body = whole, breakAfter = Infinity, etags = ['"1"'], status = 200, headers = {} } = {}) {
  const requests = [];
  const server = createServer((request, response) => {
    const etag = etags[Math.min(requests.length, etags.length - 1)];
    requests.push(request.headers);
    if (status !== 200) {
      response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
      return response.end(JSON.stringify({ detail: "no" }));
    }
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const isRange = range && request.headers["if-range"] === etag;
    const from = isRange ? Number(range[1]) : 0;
    const rest = body.subarray(from);
    response.writeHead(isRange ? 206 : 200, { "Content-Length": rest.length, ETag: etag });
    if (rest.length <= breakAfter) return response.end(rest);
    response.write(rest.subarray(0, breakAfter), () => setTimeout(() => response.destroy(), 20));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, requests, stop: () => (server.closeAllConnections(), server.close()) };
}

describe("loading", () => {
  let shared;
  before(() => (shared = pool(2)));
  after(() => shared.close());

  async function load(options, serving = {}) {
    const server = await serve(serving);
    const seen = { slices: [], stages: [], progress: null, failures: [] };
    try {
      const loading = new client.SeriesLoad(server.url, {
        pool: shared,
        backoffMs: 5,
        onSlice: (slice) => seen.slices.push(slice),
        onStage: (_, number) => seen.stages.push(number),
        onProgress: (progress) => (seen.progress = { ...progress }),
        onFailure: (slice) => seen.failures.push(slice.number),
        ...options,
      });
      seen.index = await loading.run();
      seen.load = loading;
      if (options.then) await options.then(loading, seen, server);
    } finally {
      server.stop();
    }
    return { ...seen, requests: server.requests };
  }

  for (const [codec, body] of [["j2k", whole], ["htj2k", highThroughput]]) {
    test(`every slice in ${codec} is decoded, and the volume is the phantom`, async () => {
      const { slices, index, progress, stages } = await load({}, { body });
      assert.equal(slices.filter(({ level }) => level === 0).length, 24);
      assert.deepEqual(stages.toSorted(), index.stages.map((_, number) => number));
      assert.deepEqual([progress.bytes, progress.totalBytes, progress.decoded], [body.length, body.length, index.segments.length]);
      const volume = new client.GrowingVolume(index);
      assert.equal(volume.finest(), null);
      for (const slice of slices) volume.put(slice);
      const { data, geometry, hasOwn } = volume.finest();
      assert.deepEqual(geometry.dimensions, [137, 115, 24]);
      assert.deepEqual(geometry.spacing.map((value) => Number(value.toFixed(3))), [0.4, 0.4, 0.4]);
      assert.ok(hasOwn.every(Boolean));
      let [count, worst] = [0, 0];
      for (let z = 0; z < 24; z++) for (let y = 0; y < 115; y++) for (let x = 0; x < 137; x++) {
        if (!isInBall(x, y, z)) continue;
        const value = data[(z * 115 + y) * 137 + x];
        if (value > 2000) continue; // The rod.
        count++;
        worst = Math.max(worst, Math.abs(value - 1100));
      }
      assert.ok(count > 3000 && worst < 500, `${count} samples, ${worst} from what was written`);
    });
  }

  test("the fixtures are of the codecs that they are named after", () => {
    const codec = (bytes) => JSON.parse(new TextDecoder().decode(bytes.subarray(16, 16 + client.indexLength(bytes)))).codec;
    assert.deepEqual([codec(whole), codec(highThroughput)], ["j2k", "htj2k"]);
  });

  test("half floats hold the values after the rescale", async () => {
    const { slices } = await load({ half: () => ({ slope: 1, intercept: -1000, offset: 100 }) });
    const middle = slices.find(({ slice, level }) => slice.number === 12 && level === 0);
    // 1100 − 1000 − 100, give or take the loss of the codec.
    const bits = middle.data[40 * 137 + 44];
    assert.ok((bits & 0x7fff) < halfFloat(150), bits.toString(16));
  });

  test("a broken line is mended by Range, and nothing is loaded twice", async () => {
    const { slices, requests, progress } = await load({}, { breakAfter: 5000 });
    assert.equal(slices.filter(({ level }) => level === 0).length, 24);
    assert.equal(requests.length, Math.ceil(whole.length / 5000));
    assert.ok(requests.slice(1).every((headers) => headers.range && headers["if-range"] === '"1"'));
    assert.equal(progress.bytes, whole.length);
  });

  test("a stream that changes while it is loaded is said to have changed", async () => {
    await assert.rejects(load({}, { breakAfter: 5000, etags: ['"1"', '"2"'] }), client.ChangedError);
  });

  test("an answer that is no stream is an error with its status, at once", async () => {
    for (const status of [401, 403, 404, 503]) {
      const refused = load({}, { status, headers: { "Retry-After": "7" } });
      await assert.rejects(refused, (error) => error.status === status && error.detail === "no" && error.retryAfter === 7);
    }
  });

  test("a line that is gone for good is an error after the last attempt", async () => {
    const server = await serve();
    server.stop();
    const loading = new client.SeriesLoad(server.url, { pool: shared, backoffMs: 1, maxAttempts: 3 });
    await assert.rejects(loading.run(), TypeError);
  });

  test("loading can be aborted", async () => {
    const stop = new AbortController();
    const aborted = load({ onIndex: () => setTimeout(() => stop.abort()), signal: stop.signal }, { breakAfter: 3000 });
    await assert.rejects(aborted, { name: "AbortError" });
  });

  test("few stages at first, and the rest later by Range", async () => {
    const { requests, slices, index } = await load({
      stages: () => 1,
      async then(loading, seen) {
        seen.before = seen.slices.length;
        await loading.extend(99);
      },
    });
    assert.ok(index.stages.length > 1, "the fixture has several stages");
    assert.ok(slices.filter(({ level }) => level === 0).length === 24);
    assert.ok(requests.length <= 2);
  });

  test("a slice that cannot be decoded costs nothing but itself", async () => {
    const original = whole.slice();
    try {
      const { segments } = parsed();
      const { offset, length } = segments[5];
      whole.fill(0, offset, offset + length);
      const { slices, failures } = await load({});
      assert.deepEqual(new Set(failures), new Set([segments[5].slice]));
      assert.ok(slices.every(({ slice, standIn }) => (slice.number === segments[5].slice) === (standIn !== null)));
      assert.equal(slices.length, segments.length);
    } finally {
      whole.set(original);
    }
  });

  /** The stream with segments that cannot be decoded. */
  async function damaged(choose, options = {}) {
    const original = whole.slice();
    try {
      const index = parsed();
      for (const { offset, length } of index.segments.filter(choose)) whole.fill(0, offset, offset + length);
      const found = await load(options);
      const volume = new client.GrowingVolume(index);
      for (const slice of found.slices) volume.put(slice);
      return { ...found, volume };
    } finally {
      whole.set(original);
    }
  }

  test("a level with a slice that cannot be decoded is shown, with a coarser level of the slice in its place", async () => {
    const { volume, stages, index } = await damaged(({ slice, level }) => slice === 12 && level === 0);
    const { layer, data, hasOwn } = volume.finest();
    assert.equal(layer.level, 0);
    assert.deepEqual(stages.toSorted(), index.stages.map((_, number) => number));
    assert.deepEqual(volume.standIns.of(12), { slice: 12, level: 1 });
    assert.deepEqual([volume.standIns.count, hasOwn[12]], [1, 1]);
    const value = data[(12 * 115 + 40) * 137 + 44];
    assert.ok(Math.abs(value - 1100) < 300, `${value} in the ball`);
    assert.ok(data[(12 * 115 + 2) * 137 + 2] < 300, "the edge is dark");
  });

  test("a slice of which nothing can be decoded is shown by the one beside it, as half floats too", async () => {
    for (const half of [undefined, () => ({ slope: 1, intercept: 0, offset: 0 })]) {
      const { volume } = await damaged(({ slice }) => slice === 12, { half });
      assert.equal(volume.finest().layer.level, 0);
      assert.ok(Math.abs(volume.standIns.of(12).slice - 12) <= 4, JSON.stringify(volume.standIns.of(12)));
      assert.equal(volume.finest().hasOwn[12], 0);
      const value = volume.finest().data[(12 * 115 + 40) * 137 + 44];
      assert.ok(half ? value > halfFloat(800) && value < halfFloat(1400) : Math.abs(value - 1100) < 300, `${value} in the ball`);
    }
  });

  test("a series of which nothing can be decoded is black, and ends", async () => {
    const { volume, failures, slices, index } = await damaged(() => true);
    assert.equal(failures.length, index.segments.length);
    assert.equal(slices.length, index.segments.length);
    assert.ok(volume.finest().data.every((value) => value === 0));
    assert.equal(volume.standIns.count, 24);
    assert.deepEqual(volume.standIns.of(3), { slice: null, level: 0 });
  });

  test("a codestream of another size than it was described is not taken for one", async () => {
    const length = client.indexLength(whole);
    const index = edited((json) => (json.images[0].columns = 138));
    const bytes = new Uint8Array(16 + index.length + whole.length - 16 - length);
    bytes.set(whole.subarray(0, 16));
    new DataView(bytes.buffer).setUint32(12, index.length, true);
    bytes.set(index, 16);
    bytes.set(whole.subarray(16 + length), 16 + index.length);
    const failures = [];
    const answer = async () => new Response(bytes);
    await new client.SeriesLoad("http://127.0.0.1/", { pool: shared, fetch: answer, onFailure: (_, error) => failures.push(error.message) }).run();
    assert.ok(failures.length > 0 && failures.every((text) => /another size|not as its description/.test(text)), String(failures));
  });

  test("what waits to be decoded for a load that was aborted is dropped", async () => {
    const jobs = [];
    const worker = { postMessage({ job }) { if (job) jobs.push(job); }, terminate() {}, onmessage: null, onerror: null };
    const slow = new client.Pool([worker], module);
    const stop = new AbortController();
    const answer = async () => new Response(whole);
    const first = new client.SeriesLoad("http://127.0.0.1/", { pool: slow, fetch: answer, signal: stop.signal });
    const outcome = assert.rejects(first.run(), { name: "AbortError" });
    while (jobs.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    await outcome;
    const before = jobs.length;
    let own = 0;
    slow.decode(() => (own++, { codestream: new Uint8Array(1) }), () => 1e9).catch(() => {});
    // The two that are with the worker end; the next job is not one of the aborted load.
    for (let id = 0; id < 2; id++) worker.onmessage({ data: { id, error: "late" } });
    assert.deepEqual([own, jobs.length], [1, before + 1]);
    slow.close();
  });

  test("a load without a codec fails, and says so", async () => {
    // A module whose import is not there.
    const imports = await WebAssembly.compile(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 2, 7, 1, 1, 120, 1, 121, 0, 0));
    await assert.rejects(Decoder.create(imports), (error) => error instanceof WebAssembly.LinkError || error instanceof TypeError);
    // The worker as it is built, without a thread.
    const code = readFileSync(join(import.meta.dirname, "../dist/worker.js"), "utf8");
    const worker = { onmessage: null, onerror: null, terminate() {} };
    const scope = { onmessage: null, postMessage: (data) => worker.onmessage?.({ data }) };
    new Function("self", code)(scope);
    worker.postMessage = (data) => void scope.onmessage({ data });
    const broken = new client.Pool([worker], imports);
    const loading = new client.SeriesLoad("http://127.0.0.1/", { pool: broken, fetch: async () => new Response(whole) });
    await assert.rejects(loading.run(), (error) => error instanceof client.PoolError && /does not start/.test(error.message));
  });
});

describe("the pool", () => {
  test("what is nearest to the focus is decoded first", async () => {
    const order = [];
    const worker = { postMessage(message) { if (message.job) order.push(message.job.level); }, terminate() {}, onmessage: null, onerror: null };
    const made = new client.Pool([worker], Promise.resolve(module));
    for (const level of [9, 3, 5, 1]) made.decode(() => ({ codestream: new Uint8Array(1), level }), () => level).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(order, [1, 3]);
    made.close();
  });

  test("a closed pool and a codec that cannot be loaded fail all that wait", async () => {
    const worker = () => ({ postMessage() {}, terminate() {}, onmessage: null, onerror: null });
    const closed = new client.Pool([worker()], module);
    const waiting = closed.decode(() => ({ codestream: new Uint8Array(1) }), () => 0);
    closed.close();
    await assert.rejects(waiting, { name: "AbortError" });
    const broken = new client.Pool([worker()], Promise.reject(new Error("no codec")));
    await assert.rejects(broken.decode(() => ({ codestream: new Uint8Array(1) }), () => 0), /no codec/);
  });
});
