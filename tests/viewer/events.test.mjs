// The reader of server-sent events that the console and the viewer share, over lines that break, and the marks that the console makes of
// them. In Node.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { Arrivals, Looks } from "../../src/http/web/console/arrivals.js";
import { ChangeLine, EventParser } from "../../src/http/web/console/events.js";

const quick = { first: 5, longest: 20, silence: 2000 };

/** A server whose n-th answer is the n-th of `answers`; the last one stays. */
async function serve(...answers) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request.headers);
    answers[Math.min(requests.length, answers.length) - 1](response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/events`, requests, stop: () => (server.closeAllConnections(), server.close()) };
}

function event(number, id = number) {
  return `event: stored\ndata: {"event":"stored","study":"1.${number}"}\n${id === null ? "" : `id: ${id}\n`}\n`;
}

/** Begins a stream, and ends it as is said: `open`, `ended` or `broken`. */
function stream(text, end = "open") {
  return (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(text);
    if (end === "ended") response.end();
    if (end === "broken") globalThis.setTimeout(() => response.destroy(), 30);
  };
}

const refuse = (status, headers = {}) => (response) => response.writeHead(status, headers).end();

/** Follows a server until `enough` says so. */
async function follow(answers, enough, options = {}) {
  const server = await serve(...answers);
  const seen = { studies: [], opened: [], breaks: 0, refused: [], requests: server.requests };
  const line = new ChangeLine({
    url: server.url, pauses: quick, headers: async () => ({ Authorization: "Bearer one" }),
    refused: (sent) => seen.refused.push(sent.Authorization),
    onChange: ({ study }) => seen.studies.push(study), onOpen: (isFresh) => seen.opened.push(isFresh), onBreak: () => seen.breaks++, ...options,
  });
  seen.line = line;
  line.start();
  try {
    for (let waited = 0; !enough(seen); waited += 5) {
      assert.ok(waited < 5000, JSON.stringify({ ...seen, line: undefined }));
      await setTimeout(5);
    }
  } finally {
    line.stop();
    server.stop();
  }
  return seen;
}

describe("server-sent events", () => {
  test("are the same in any pieces, and with any ends of lines", () => {
    const text = `retry: 3000\nid: 0\n\n: a comment\n${event(1, null)}${event(2)}id: 3\n\ndata:a\ndata: b\nid\n\n`;
    const expected = [
      { id: "0", data: "" }, { id: null, data: '{"event":"stored","study":"1.1"}' }, { id: "2", data: '{"event":"stored","study":"1.2"}' }, { id: "3", data: "" },
      { id: "", data: "a\nb" },
    ];
    for (const end of ["\n", "\r\n", "\r"]) {
      const bytes = text.replaceAll("\n", end) + (end === "\r" ? ":" : "");
      for (let size = 1; size < 40; size++) {
        const parser = new EventParser();
        const found = [];
        for (let at = 0; at < bytes.length; at += size) found.push(...parser.take(bytes.slice(at, at + size)));
        assert.deepEqual(found, expected, `${size} at a time, ${JSON.stringify(end)}`);
      }
    }
  });

  test("an event without an end is not collected for ever", () => {
    const parser = new EventParser();
    assert.throws(() => {
      for (let at = 0; at < 100; at++) parser.take(`data: ${"x".repeat(1 << 15)}\n`);
    }, RangeError);
  });

  test("a line that breaks is opened again where it was", async () => {
    const { studies, requests, opened, breaks } = await follow(
      [stream(`id: 0\n\n${event(1)}data: {"half`, "broken"), stream(event(2), "ended"), refuse(500), stream(event(3))], ({ studies }) => studies.length === 3);
    assert.deepEqual(studies, ["1.1", "1.2", "1.3"]);
    assert.deepEqual(requests.map((headers) => headers["last-event-id"]), [undefined, "1", "2", "2"]);
    assert.deepEqual(opened, [true, false, false]);
    // A refusal breaks nothing that was not open. The third is `stop`.
    assert.equal(breaks, 3);
  });

  test("a line that ends before it has a place misses what came between, and says so", async () => {
    const { opened } = await follow([stream("", "ended"), stream("id: 5\n\n", "ended"), stream(event(6))], ({ studies }) => studies.length === 1);
    assert.deepEqual(opened, [true, true, false]);
  });

  test("a place that is gone is forgotten", async () => {
    const { requests, opened } = await follow([stream(event(1), "ended"), refuse(410), stream(event(9))], ({ studies }) => studies.length === 2);
    assert.deepEqual(requests.map((headers) => headers["last-event-id"]), [undefined, "1", undefined]);
    assert.deepEqual(opened, [true, true]);
  });

  test("a token that has ended is said, and the next one is sent", async () => {
    let count = 0;
    const headers = async () => ({ Authorization: `Bearer ${++count}` });
    const { requests, refused } = await follow([refuse(401), stream(event(1))], ({ studies }) => studies.length === 1, { headers });
    assert.deepEqual(refused, ["Bearer 1"]);
    assert.deepEqual(requests.map(({ authorization }) => authorization), ["Bearer 1", "Bearer 2"]);
  });

  test("a server that has no place now is left alone as long as it says", async () => {
    const times = [];
    const now = (next) => (response) => (times.push(Date.now()), next(response));
    await follow([now(refuse(429, { "Retry-After": "1" })), now(stream(event(1)))], ({ studies }) => studies.length === 1);
    assert.ok(times[1] - times[0] >= 990, `${times[1] - times[0]} ms`);
  });

  test("without the right, or without such a resource, there is one request", async () => {
    for (const status of [403, 404]) {
      const { requests, opened } = await follow([refuse(status)], ({ requests }) => requests.length === 1);
      await setTimeout(60);
      assert.deepEqual([requests.length, opened.length], [1, 0]);
    }
  });

  test("a line on which nothing comes is taken for broken", async () => {
    const { requests } = await follow([stream(event(1)), stream(event(2))], ({ studies }) => studies.length === 2, { pauses: { ...quick, silence: 60 } });
    assert.equal(requests[1]["last-event-id"], "1");
  });

  test("a server that is away is tried again, less and less often", async () => {
    const server = await serve(stream(event(1)));
    server.stop();
    let tries = 0;
    const line = new ChangeLine({ url: server.url, pauses: { first: 20, longest: 1000, silence: 1000 }, headers: async () => (tries++, {}), onChange() {} });
    line.start();
    await setTimeout(400);
    line.stop();
    await setTimeout(100);
    // 20, 40, 80, 160 ms between them.
    assert.ok(tries >= 3 && tries <= 6, `${tries}`);
    assert.equal(line.isOpen, false);
  });

  test("a closed line goes on where it was when it is opened again", async () => {
    let isAgain = false;
    const { requests } = await follow([stream(event(1)), stream(event(2))], (seen) => {
      if (seen.studies.length === 1 && !isAgain) {
        isAgain = true;
        seen.line.stop();
        seen.line.start();
        seen.line.start();
      }
      return seen.studies.length === 2;
    });
    assert.deepEqual(requests.map((headers) => headers["last-event-id"]), [undefined, "1"]);
  });
});

describe("marks of studies that arrive", () => {
  const listed = (...studies) => studies.map(([uid, images]) => ({ uid, images }));
  const marked = (arrivals, now, ...studies) => studies.filter((study) => arrivals.state(study, now));

  test("a study that moves up from the next page has not arrived", () => {
    for (const [before, after, hadNext, expected] of [
      // Deleted elsewhere: c moves up.
      [listed(["a", 1], ["b", 1]), listed(["b", 1], ["c", 1]), true, []],
      [listed(["a", 1], ["b", 1]), listed(["b", 1], ["c", 1]), false, ["c"]],
      [listed(["a", 1], ["b", 1]), listed(["n", 1], ["a", 1]), true, ["n"]],
      [listed(["a", 1], ["b", 1]), listed(["a", 2], ["b", 1]), true, ["a"]],
      // Some of its images were deleted.
      [listed(["a", 2], ["b", 1]), listed(["a", 1], ["b", 1]), true, []],
      [listed(), listed(["a", 1]), false, ["a"]],
    ]) {
      const arrivals = new Arrivals();
      arrivals.compare(before, after, hadNext, 1000);
      assert.deepEqual(marked(arrivals, 1001, "a", "b", "c", "n"), expected, JSON.stringify([before, after, hadNext]));
    }
  });

  test("a study is arriving until all of its series are complete, or nothing has come for some time", () => {
    const arrivals = new Arrivals();
    const take = (event, series, now) => arrivals.take({ event, study: "s", series, time: "" }, now);
    take("stored", "1", 0);
    take("stored", "2", 1000);
    take("complete", "1", 2000);
    assert.equal(arrivals.state("s", 2000), "arriving");
    take("stored", "2", 3000);
    take("complete", "2", 5000);
    assert.equal(arrivals.state("s", 5000), "new");
    take("stored", "3", 6000);
    assert.equal(arrivals.state("s", 15_999), "arriving");
    assert.equal(arrivals.nextEnd(15_999), 16_000);
    assert.equal(arrivals.state("s", 16_000), "new");
    assert.equal(arrivals.nextEnd(16_000), 66_000);
    assert.equal(arrivals.state("s", 66_000), "");
    assert.equal(arrivals.nextEnd(66_000), Infinity);
  });

  test("a study that is deleted is not marked, and one that is marked by hand stays marked beside others", () => {
    const arrivals = new Arrivals();
    arrivals.mark("own", 0);
    arrivals.take({ event: "stored", study: "s", series: "1", time: "" }, 10);
    assert.deepEqual(marked(arrivals, 20, "own", "s"), ["own", "s"]);
    arrivals.take({ event: "deleted", study: "s", series: "1", gone: "study", time: "" }, 30);
    assert.deepEqual(marked(arrivals, 40, "own", "s"), ["own"]);
  });

  test("what came between two lists is said by a line only if it was open all the time", () => {
    const looks = new Looks();
    const isSaidAfter = (isOpenAtFirst, between, isOpenAtLast) => {
      looks.show(looks.begin(isOpenAtFirst));
      between();
      return looks.isAllSaid(isOpenAtLast);
    };
    looks.opened();
    assert.equal(isSaidAfter(true, () => {}, true), true);
    assert.equal(isSaidAfter(true, () => {}, false), false);
    assert.equal(isSaidAfter(false, () => looks.opened(), true), false);
    assert.equal(isSaidAfter(true, () => looks.opened(), true), false);
  });

  test("the answer of an earlier look does not replace that of a later one", () => {
    const looks = new Looks();
    const [first, second] = [looks.begin(false), looks.begin(false)];
    assert.equal(looks.isPast(first), false);
    looks.show(second);
    assert.equal(looks.isPast(first), true);
    assert.equal(looks.isPast(second), false);
  });
});
