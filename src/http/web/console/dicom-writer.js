// Writes DICOM files (PS3.10 §7), in Explicit VR Little Endian. Knows no page.
// @ts-check

/**
 * @typedef {[tag: number, vr: string, value: string | number[] | Element[][]]} Element A text, numbers of US, or the items of a sequence.
 * @typedef {{ tag: number, parts: BlobPart[], length: number, isEncapsulated: boolean }} Bulk A value of OB, of so many bytes.
 */

export const explicitLittleEndian = "1.2.840.10008.1.2.1";
/** Representations with four bytes of length (PS3.5 §7.1.2). */
const long = ["OB", "SQ", "UT"];
const undefinedLength = 0xffffffff;
/** The programs that write these files (PS3.7 §D.3.3.2). */
const implementation = "2.25.208301542384962098562913817384602174209";

/** A new UID (PS3.5 §B.2). */
export function newUid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `2.25.${BigInt(`0x${hex}`)}`;
}

/**
 * A text as a value: one line without backslashes, which would make several values of it, and not too long.
 * @param {string} text @param {number} [most] Characters.
 */
export function line(text, most = 64) {
  const clean = text.replaceAll(/\p{Cc}+/gu, " ").replaceAll("\\", "/").trim();
  return [...clean].slice(0, most).join("").trim();
}

/** A part of a name (PS3.5 §6.2.1). @param {string} text */
export function namePart(text) {
  return line(text.replaceAll(/[\^=\\\s]+/g, " "), 30);
}

/**
 * A DICOM file. The bulk value is not read: the file is made of its parts.
 * @param {string} name
 * @param {{ sopClass: string, instance: string, syntax?: string }} meta
 * @param {Element[]} elements
 * @param {Bulk} bulk
 */
export function dicomFile(name, { sopClass, instance, syntax = explicitLittleEndian }, elements, bulk) {
  const group = encode([[0x00020002, "UI", sopClass], [0x00020003, "UI", instance], [0x00020010, "UI", syntax], [0x00020012, "UI", implementation]]);
  // File Meta Information Version, and the length of the group before.
  const version = Uint8Array.of(2, 0, 1, 0, 79, 66, 0, 0, 2, 0, 0, 0, 0, 1);
  const length = new Uint8Array(12);
  new DataView(length.buffer).setUint32(0, 2, true);
  length.set([85, 76, 4, 0], 4);
  new DataView(length.buffer).setUint32(8, version.length + group.length, true);
  const all = [[0x00080016, "UI", sopClass], [0x00080018, "UI", instance], ...elements].map((one) => /** @type {Element} */ (one));
  const [before, after] = [all.filter(([tag]) => tag < bulk.tag), all.filter(([tag]) => tag > bulk.tag)];
  const padding = bulk.length % 2 ? [Uint8Array.of(0)] : [];
  const even = bulk.length + padding.length;
  const value = bulk.isEncapsulated
    // An empty table of offsets, one fragment, and the end (PS3.5 §A.4).
    ? [head(bulk.tag, "OB", undefinedLength), item(0xfffee000, 0), item(0xfffee000, even), ...bulk.parts, ...padding, item(0xfffee0dd, 0)]
    : [head(bulk.tag, "OB", even), ...bulk.parts, ...padding];
  const start = [new Uint8Array(128), "DICM", length, version, group];
  return new File([...start, encode(before), ...value, encode(after)], name, { type: "application/dicom" });
}

/** @param {Element[]} elements @returns {Uint8Array<ArrayBuffer>} */
function encode(elements) {
  const sorted = [...elements].sort(([one], [other]) => one - other);
  return joined(sorted.flatMap(([tag, vr, value]) => {
    const bytes = valueBytes(vr, value);
    return [head(tag, vr, bytes.length), bytes];
  }));
}

/** @param {string} vr @param {Element[2]} value */
function valueBytes(vr, value) {
  if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value);
    return bytes.length % 2 ? joined([bytes, Uint8Array.of(vr === "UI" ? 0 : 32)]) : bytes;
  }
  if (vr === "SQ") {
    return joined(/** @type {Element[][]} */ (value).flatMap((elements) => {
      const content = encode(elements);
      return [item(0xfffee000, content.length), content];
    }));
  }
  const numbers = /** @type {number[]} */ (value);
  const view = new DataView(new ArrayBuffer(2 * numbers.length));
  numbers.forEach((number, index) => view.setUint16(2 * index, number, true));
  return new Uint8Array(view.buffer);
}

/** @param {number} tag @param {string} vr @param {number} length */
function head(tag, vr, length) {
  const isLong = long.includes(vr);
  const view = new DataView(new ArrayBuffer(isLong ? 12 : 8));
  view.setUint16(0, tag >>> 16, true);
  view.setUint16(2, tag & 0xffff, true);
  view.setUint8(4, vr.charCodeAt(0));
  view.setUint8(5, vr.charCodeAt(1));
  if (isLong) view.setUint32(8, length, true);
  else view.setUint16(6, length, true);
  return new Uint8Array(view.buffer);
}

/** The head of an item, or a delimiter (PS3.5 §7.5). @param {number} tag @param {number} length */
function item(tag, length) {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint16(0, tag >>> 16, true);
  view.setUint16(2, tag & 0xffff, true);
  view.setUint32(4, length, true);
  return new Uint8Array(view.buffer);
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}
