// Makes DICOM files of documents, photos, images and models: Encapsulated PDF and STL, VL Photographic and Secondary Capture
// (PS3.3 §A.45.1, §A.85.1, §A.32.4, §A.8.1).
// @ts-check

import { dicomFile, line, newUid } from "./dicom-writer.js";
import { readJpeg } from "./jpeg.js";

/**
 * @typedef {import("./dicom-writer.js").Element} Element
 * @typedef {{ name: string, id: string, birthDate: string, sex: string }} Patient As in a file; dates are `YYYYMMDD`.
 * @typedef {{ uid: string, date: string, time: string, id: string, accession: string, referrer: string, description: string }} Study
 * @typedef {{ patient: Patient, study: Study, series: { uid: string, number: number }, number: number, date: string, time: string, title: string, description: string }} About
 * The place of a file, its own day and title, and the description of its series.
 * @typedef {"PDF" | "JPEG" | "PNG" | "STL"} Kind
 */

/** The kinds of files that can be wrapped, with the modality of their series. @type {Record<Kind, string>} */
export const modalities = { PDF: "DOC", JPEG: "XC", PNG: "OT", STL: "M3D" };

const jpegBaseline = "1.2.840.10008.1.2.4.50";
const classes = {
  pdf: "1.2.840.10008.5.1.4.1.1.104.1", stl: "1.2.840.10008.5.1.4.1.1.104.3", photo: "1.2.840.10008.5.1.4.1.1.77.1.4", capture: "1.2.840.10008.5.1.4.1.1.7",
};
/** PS3.3 §C.7.6.3.1.1: Rows and Columns have 16 bits. */
const longestSide = 65535;

/** The file cannot be wrapped. */
export class WrapError extends Error {
  /** @param {"whyDamagedImage" | "whySixteenBits"} why */
  constructor(why) {
    super(why);
    this.why = why;
  }
}

/**
 * A DICOM file with what is in a file.
 * @param {File} file @param {Kind} kind @param {About} about
 * @returns {Promise<File>}
 */
export async function wrap(file, kind, about) {
  const name = `${file.name}.dcm`;
  const instance = newUid();
  const elements = common(kind, about);
  if (kind === "PDF" || kind === "STL") {
    const sopClass = kind === "PDF" ? classes.pdf : classes.stl;
    const bulk = { tag: 0x00420011, parts: [file], length: file.size, isEncapsulated: false };
    return dicomFile(name, { sopClass, instance }, [...elements, ...documentElements(kind, about)], bulk);
  }
  if (about.title) elements.push([0x00204000, "LT", line(about.title, 1000)]);
  if (kind === "JPEG") {
    const jpeg = readJpeg(new Uint8Array(await file.arrayBuffer()));
    if (!jpeg) throw new WrapError("whyDamagedImage");
    const lossy = /** @type {Element[]} */ ([[0x00282110, "CS", "01"], [0x00282114, "CS", "ISO_10918_1"], [0x00282112, "DS", ratio(jpeg, file.size)]]);
    // Bytes of other processes, or of a picture that lies on its side, mean nothing to many viewers: they are decoded.
    if (jpeg.isBaseline && !jpeg.isTurned && jpeg.samples !== 4) {
      const bulk = { tag: 0x7fe00010, parts: [jpeg.bytes], length: jpeg.bytes.length, isEncapsulated: true };
      const photometric = jpeg.samples === 1 ? "MONOCHROME2" : jpeg.isRgb ? "RGB" : "YBR_FULL_422";
      const image = imageElements({ ...jpeg, photometric }, "ORIGINAL\\PRIMARY");
      return dicomFile(name, { sopClass: classes.photo, instance, syntax: jpegBaseline }, [...elements, ...photoElements(), ...image, ...lossy], bulk);
    }
    const { bulk, image } = await decoded(file);
    return dicomFile(name, { sopClass: classes.photo, instance }, [...elements, ...photoElements(), ...imageElements(image, "DERIVED\\PRIMARY"), ...lossy], bulk);
  }
  if (await hasSixteenBits(file)) throw new WrapError("whySixteenBits");
  const { bulk, image } = await decoded(file);
  return dicomFile(name, { sopClass: classes.capture, instance }, [...elements, [0x00080064, "CS", "WSD"], ...imageElements(image, "ORIGINAL\\SECONDARY")], bulk);
}

/** Patient, study, series and equipment. @param {Kind} kind @param {About} about @returns {Element[]} */
function common(kind, { patient, study, series, number, date, time, description }) {
  return [
    [0x00080005, "CS", "ISO_IR 192"],
    [0x00080020, "DA", study.date], [0x00080021, "DA", date], [0x00080023, "DA", date], [0x00080030, "TM", study.time], [0x00080031, "TM", time], [0x00080033, "TM", time],
    [0x00080050, "SH", study.accession], [0x00080060, "CS", modalities[kind]], [0x00080070, "LO", "Cuspid"], [0x00080090, "PN", study.referrer],
    ...(study.description ? [/** @type {Element} */ ([0x00081030, "LO", study.description])] : []),
    ...(description ? [/** @type {Element} */ ([0x0008103e, "LO", line(description)])] : []),
    [0x00100010, "PN", patient.name], [0x00100020, "LO", patient.id], [0x00100030, "DA", patient.birthDate], [0x00100040, "CS", patient.sex],
    [0x0020000d, "UI", study.uid], [0x0020000e, "UI", series.uid], [0x00200010, "SH", study.id], [0x00200011, "IS", String(series.number)], [0x00200013, "IS", String(number)],
  ];
}

/** Encapsulated Document (PS3.3 §C.24.2), and what its kind needs. @param {"PDF" | "STL"} kind @param {About} about @returns {Element[]} */
function documentElements(kind, { title, description }) {
  /** @type {Element[]} */
  const elements = [
    [0x0008002a, "DT", ""], [0x00280301, "CS", "YES"], [0x0040a043, "SQ", []], [0x00420010, "ST", line(description || title, 1000)],
    [0x00420012, "LO", kind === "PDF" ? "application/pdf" : "model/stl"],
  ];
  if (kind === "PDF") return [...elements, [0x00080064, "CS", "WSD"]];
  const millimetre = /** @type {Element[]} */ ([[0x00080100, "SH", "mm"], [0x00080102, "SH", "UCUM"], [0x00080104, "LO", "millimeter"]]);
  return [
    ...elements, [0x00081090, "LO", "Console"], [0x00181000, "LO", "0"], [0x00181020, "LO", "1"],
    [0x00200052, "UI", newUid()], [0x00201040, "LO", ""], [0x004008ea, "SQ", [millimetre]],
  ];
}

/** Acquisition Context (PS3.3 §C.7.6.14), which a photo has. @returns {Element[]} */
function photoElements() {
  return [[0x00400555, "SQ", []]];
}

/**
 * Image Pixel (PS3.3 §C.7.6.3).
 * @param {{ rows: number, columns: number, samples: number, photometric: string }} image @param {string} type @returns {Element[]}
 */
function imageElements({ rows, columns, samples, photometric }, type) {
  return [
    [0x00080008, "CS", type], [0x00200020, "CS", ""], [0x00200060, "CS", ""], [0x00280002, "US", [samples]], [0x00280004, "CS", photometric],
    ...(samples > 1 ? [/** @type {Element} */ ([0x00280006, "US", [0]])] : []),
    [0x00280010, "US", [rows]], [0x00280011, "US", [columns]], [0x00280100, "US", [8]], [0x00280101, "US", [8]], [0x00280102, "US", [7]], [0x00280103, "US", [0]],
  ];
}

/** How much smaller the bytes are. @param {{ rows: number, columns: number, samples: number }} image @param {number} bytes */
function ratio({ rows, columns, samples }, bytes) {
  return ((rows * columns * samples) / Math.max(1, bytes)).toFixed(2);
}

/** Whether a PNG has 16 bits a sample, of which the browser keeps 8. @param {File} file */
async function hasSixteenBits(file) {
  return new Uint8Array(await file.slice(24, 25).arrayBuffer())[0] === 16;
}

/** The samples of an image as the browser decodes it, upright: grey if all of it is. @param {File} file */
async function decoded(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" }).catch(() => null);
  if (!bitmap || Math.max(bitmap.width, bitmap.height) > longestSide) throw new WrapError("whyDamagedImage");
  const { width: columns, height: rows } = bitmap;
  const context = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true });
  if (!context) throw new WrapError("whyDamagedImage");
  // Behind what is transparent is paper.
  context.fillStyle = "white";
  context.fillRect(0, 0, columns, rows);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, columns, rows).data;
  let isGrey = true;
  for (let at = 0; at < pixels.length && isGrey; at += 4) isGrey = pixels[at] === pixels[at + 1] && pixels[at] === pixels[at + 2];
  const samples = isGrey ? 1 : 3;
  const bytes = new Uint8Array(rows * columns * samples);
  for (let at = 0, to = 0; at < pixels.length; at += 4) for (let sample = 0; sample < samples; sample++) bytes[to++] = pixels[at + sample];
  const image = { rows, columns, samples, photometric: isGrey ? "MONOCHROME2" : "RGB" };
  return { image, bulk: { tag: 0x7fe00010, parts: [bytes], length: bytes.length, isEncapsulated: false } };
}
