// Reading whose a DICOM file is, in Node: sequences of every form in front of the identity.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { identity } from "../../src/http/web/console/dicom-file.js";

const syntaxes = { explicit: "1.2.840.10008.1.2.1", implicit: "1.2.840.10008.1.2", big: "1.2.840.10008.1.2.2" };
const long = ["OB", "OW", "SQ", "UN", "UT"];
const none = 0xffffffff;

/** A writer of elements in a form: explicit, implicit, or big endian. */
function writer(form) {
  const isLittle = form !== "big";
  const number = (bytes, value) => {
    const buffer = Buffer.alloc(bytes);
    if (isLittle) buffer.writeUIntLE(value, 0, bytes);
    else buffer.writeUIntBE(value, 0, bytes);
    return buffer;
  };
  const tag = (value) => Buffer.concat([number(2, value >>> 16), number(2, value & 0xffff)]);
  const element = (at, vr, content, length = content.length) => {
    const bytes = Buffer.from(content);
    if (form === "implicit") return Buffer.concat([tag(at), number(4, length), bytes]);
    const rest = long.includes(vr) ? [Buffer.alloc(2), number(4, length)] : [number(2, length)];
    return Buffer.concat([tag(at), Buffer.from(vr), ...rest, bytes]);
  };
  const item = (content, hasLength) =>
    Buffer.concat(hasLength ? [tag(0xfffee000), number(4, content.length), content] : [tag(0xfffee000), number(4, none), content, tag(0xfffee00d), number(4, 0)]);
  const delimited = (at, vr, content) => Buffer.concat([element(at, vr, content, none), tag(0xfffee0dd), number(4, 0)]);
  return { element, item, delimited };
}

const even = (text, pad = "\0") => (text.length % 2 ? text + pad : text);

/** A sequence with the identity of something else in it, so deep. `lengths` says for sequences and items whether they have a length. */
function sequence({ element, item, delimited }, depth, lengths) {
  const inner = depth > 1 ? sequence({ element, item, delimited }, depth - 1, lengths) : Buffer.alloc(0);
  const wrong = Buffer.concat([element(0x00080018, "UI", even("9.9")), inner, element(0x00100010, "PN", "Wrong^One "), element(0x0020000d, "UI", even("9.9.9"))]);
  const items = Buffer.concat([item(wrong, lengths.item), item(wrong, lengths.item)]);
  return lengths.sequence ? element(0x00081110, "SQ", items) : delimited(0x00081110, "SQ", items);
}

function file(form, before) {
  const meta = writer("explicit");
  const { element } = writer(form);
  return new Uint8Array(Buffer.concat([
    Buffer.alloc(128), Buffer.from("DICM"), meta.element(0x00020010, "UI", even(syntaxes[form])),
    element(0x00080018, "UI", even("1.2.4")), before, element(0x00100010, "PN", "Right^One "), element(0x0020000d, "UI", even("1.2.3")), element(0x0020000e, "UI", even("1.2.3.1")),
  ]));
}

const right = { study: "1.2.3", instance: "1.2.4", patient: "Right^One", patientId: "", modality: "", date: "", charset: "" };

describe("whose a DICOM file is", () => {
  for (const form of ["explicit", "implicit", "big"]) {
    for (const lengths of [{ sequence: true, item: true }, { sequence: true, item: false }, { sequence: false, item: true }, { sequence: false, item: false }]) {
      test(`is said by its own elements, not by those of sequences: ${form}, with lengths ${JSON.stringify(lengths)}`, () => {
        for (let depth = 1; depth <= 5; depth++) assert.deepEqual(identity(file(form, sequence(writer(form), depth, lengths))), right, `depth ${depth}`);
      });
    }
  }

  test("a sequence of unknown representation is implicit", () => {
    const implicit = writer("implicit");
    const { delimited } = writer("explicit");
    const wrong = implicit.item(Buffer.concat([sequence(implicit, 2, { sequence: false, item: false }), implicit.element(0x0020000d, "UI", "9.9.9\0")]), false);
    assert.deepEqual(identity(file("explicit", delimited(0x00091010, "UN", wrong))), right);
  });

  test("a value that looks like the end of a sequence is none", () => {
    const explicit = writer("explicit");
    const looks = Buffer.from("fe ff dd e0 00 00 00 00 fe ff 0d e0 00 00 00 00".replaceAll(" ", ""), "hex");
    const wrong = explicit.item(Buffer.concat([explicit.element(0x00081110, "OB", looks), explicit.element(0x0020000d, "UI", "9.9.9\0")]), false);
    assert.deepEqual(identity(file("explicit", explicit.delimited(0x00081110, "SQ", wrong))), right);
  });

  test("what is cut off, changed or too deep says nothing, and takes no time", () => {
    const whole = file("explicit", sequence(writer("explicit"), 3, { sequence: false, item: false }));
    const start = performance.now();
    for (let end = 0; end < whole.length; end++) {
      const found = identity(whole.subarray(0, end));
      assert.ok(found === null || (found.study === "1.2.3".slice(0, found.study.length) && found.instance === "1.2.4"), `${end}: ${JSON.stringify(found)}`);
    }
    for (let at = 132; at < whole.length; at++) {
      for (const byte of [0, 1, 0xfe, 0xff]) {
        const changed = whole.slice();
        changed[at] = byte;
        identity(changed);
      }
    }
    assert.equal(identity(file("explicit", sequence(writer("explicit"), 12, { sequence: false, item: false })))?.study, "1.2.3");
    const deep = Buffer.concat(Array.from({ length: 5000 }, () => Buffer.from("08001011535100 00ffffffff feff00e0ffffffff".replaceAll(" ", ""), "hex")));
    assert.equal(identity(file("explicit", deep)), null);
    assert.ok(performance.now() - start < 5000);
  });
});
