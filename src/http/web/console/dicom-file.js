// Reads who and what a DICOM file is about from its first bytes (PS3.10 §7.1, PS3.5 §7.1).
// @ts-check

/**
 * @typedef {{ study: string, instance: string, modality: string, patient: string, patientId: string, date: string }} Identity
 */

const explicitLittleEndian = "1.2.840.10008.1.2.1";
const implicitLittleEndian = "1.2.840.10008.1.2";
const bigEndian = "1.2.840.10008.1.2.2";
const deflated = "1.2.840.10008.1.2.1.99";
/** Representations with four bytes of length (PS3.5 §7.1.2). */
const long = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];
const undefinedLength = 0xffffffff;
/** Tags of PS3.5 §7.5. */
const [item, itemDelimiter, sequenceDelimiter] = [0xfffee000, 0xfffee00d, 0xfffee0dd];
/** More sequences in each other than any object has. */
const deepest = 32;

const wanted = { "00080005": "charset", "00080018": "instance", "00080020": "date", "00080060": "modality", "00100010": "patient", "00100020": "patientId", "0020000D": "study" };
/** The last of the wanted elements. */
const lastTag = 0x0020000d;

/** Character sets by their Defined Terms (PS3.3 §C.12.1.1.2), as the Encoding standard names them. @type {Record<string, string>} */
const charsets = {
  "ISO_IR 192": "utf-8", "ISO_IR 100": "iso-8859-1", "ISO_IR 101": "iso-8859-2", "ISO_IR 144": "iso-8859-5", "ISO_IR 13": "shift_jis",
  "ISO 2022 IR 149": "euc-kr", "ISO 2022 IR 87": "iso-2022-jp", "ISO 2022 IR 58": "gbk", GB18030: "gb18030", GBK: "gbk",
};

/**
 * The identity of a file; nothing if the bytes do not show it.
 * @param {Uint8Array} bytes The beginning of the file.
 * @returns {Identity | null}
 */
export function identity(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isFile = bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
  try {
    const meta = isFile ? elements(view, 132, { isImplicit: false, isLittle: true, isMeta: true }) : { found: {}, end: 0 };
    const syntax = text(meta.found["00020010"], "") || implicitLittleEndian;
    if (syntax === deflated) return null;
    const form = { isImplicit: isFile && syntax === implicitLittleEndian, isLittle: syntax !== bigEndian, isMeta: false };
    // Without a header, two capital letters after the first tag are a representation.
    if (!isFile) form.isImplicit = !/^[A-Z]{2}$/.test(String.fromCharCode(bytes[4], bytes[5]));
    return identityOf(elements(view, meta.end, form).found);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** @param {Record<string, Uint8Array>} found @returns {Identity | null} */
function identityOf(found) {
  const charset = text(found["00080005"], "");
  /** @type {Record<string, string>} */
  const values = {};
  for (const [tag, name] of Object.entries(wanted)) values[name] = text(found[tag], charset);
  return values.study && values.instance ? /** @type {Identity} */ (/** @type {unknown} */ (values)) : null;
}

/**
 * @param {Uint8Array | undefined} value
 * @param {string} charset Specific Character Set.
 */
function text(value, charset) {
  if (!value) return "";
  // Of several sets, the last one is that of the names.
  const term = charset.split("\\").map((one) => one.trim()).findLast((one) => charsets[one]) ?? "ISO_IR 100";
  const decoded = new TextDecoder(charsets[term]).decode(value);
  // Escape sequences of Korean names are left by the decoder of EUC-KR.
  return decoded.replaceAll(/\x1b\$?[()][A-Za-z]/g, "").replaceAll("\0", "").trim();
}

/**
 * The wanted elements from a place on.
 * @param {DataView} view
 * @param {number} start
 * @param {{ isImplicit: boolean, isLittle: boolean, isMeta: boolean }} form
 */
function elements(view, start, form) {
  const { isLittle, isMeta } = form;
  /** @type {Record<string, Uint8Array>} */
  const found = {};
  let at = start;
  while (at + 8 <= view.byteLength) {
    const tag = tagAt(view, at, isLittle);
    if (isMeta ? tag >>> 16 !== 2 : tag > lastTag) break;
    const { vr, value, length } = headAt(view, at, form);
    if (length === undefinedLength) {
      at = endOfSequence(view, value, within(vr, form), 1);
      continue;
    }
    if (value + length > view.byteLength && tag <= lastTag) break;
    const key = tag.toString(16).toUpperCase().padStart(8, "0");
    if (key in wanted || isMeta) found[key] = new Uint8Array(view.buffer, view.byteOffset + value, length);
    at = value + length;
  }
  return { found, end: at };
}

/**
 * The place after a sequence of undefined length, or after pixel data in fragments (PS3.5 §7.5, §A.4). Elements of the items are gone
 * through: a delimiter of an inner sequence does not end the outer one.
 * @param {DataView} view @param {number} start @param {{ isImplicit: boolean, isLittle: boolean }} form @param {number} depth
 */
function endOfSequence(view, start, form, depth) {
  if (depth > deepest) throw new RangeError("too many sequences in each other");
  for (let at = start; ; ) {
    const tag = tagAt(view, at, form.isLittle);
    const length = view.getUint32(at + 4, form.isLittle);
    at += 8;
    if (tag === sequenceDelimiter) return at;
    if (tag !== item) throw new RangeError("the sequence has something else than items");
    at = length === undefinedLength ? endOfItem(view, at, form, depth) : at + length;
  }
}

/** The place after an item of undefined length. @param {DataView} view @param {number} start @param {{ isImplicit: boolean, isLittle: boolean }} form @param {number} depth */
function endOfItem(view, start, form, depth) {
  for (let at = start; ; ) {
    if (tagAt(view, at, form.isLittle) === itemDelimiter) return at + 8;
    const { vr, value, length } = headAt(view, at, form);
    at = length === undefinedLength ? endOfSequence(view, value, within(vr, form), depth + 1) : value + length;
  }
}

/**
 * The form of what is in an element of undefined length: in one of unknown representation, implicit (PS3.5 §6.2.2 note 2).
 * @param {string} vr @param {{ isImplicit: boolean, isLittle: boolean }} form
 */
function within(vr, form) {
  return vr === "UN" ? { isImplicit: true, isLittle: true } : form;
}

/** @param {DataView} view @param {number} at @param {boolean} isLittle */
function tagAt(view, at, isLittle) {
  return view.getUint16(at, isLittle) * 0x10000 + view.getUint16(at + 2, isLittle);
}

/** The representation of an element, the place of its value, and the length. @param {DataView} view @param {number} at @param {{ isImplicit: boolean, isLittle: boolean }} form */
function headAt(view, at, { isImplicit, isLittle }) {
  if (isImplicit) return { vr: "", value: at + 8, length: view.getUint32(at + 4, isLittle) };
  const vr = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
  if (long.includes(vr)) return { vr, value: at + 12, length: view.getUint32(at + 8, isLittle) };
  return { vr, value: at + 8, length: view.getUint16(at + 6, isLittle) };
}
