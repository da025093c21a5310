// Small DICOM files: grey images of 8 x 8 pixels, in Explicit VR Little Endian (PS3.10 §7).

import { randomBytes } from "node:crypto";

const explicitLittleEndian = "1.2.840.10008.1.2.1";
const secondaryCapture = "1.2.840.10008.5.1.4.1.1.7";
const long = ["OB", "OW", "SQ", "UN", "UT"];

/** A new UID (PS3.5 §B.2). */
export function uid() {
  return `2.25.${BigInt(`0x${randomBytes(15).toString("hex")}`)}`;
}

function element(group, number, vr, value) {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  const padding = bytes.length % 2 ? Buffer.from(vr === "UI" || vr === "OB" ? "\0" : " ") : Buffer.alloc(0);
  const length = bytes.length + padding.length;
  const head = Buffer.alloc(long.includes(vr) ? 12 : 8);
  head.writeUInt16LE(group, 0);
  head.writeUInt16LE(number, 2);
  head.write(vr, 4);
  if (long.includes(vr)) head.writeUInt32LE(length, 8);
  else head.writeUInt16LE(length, 6);
  return Buffer.concat([head, bytes, padding]);
}

function short(...numbers) {
  const bytes = Buffer.alloc(2 * numbers.length);
  numbers.forEach((number, index) => bytes.writeUInt16LE(number, 2 * index));
  return bytes;
}

/**
 * An image. Whoever gives the same `study` puts it into one study; `extra` is a number of bytes by which the file is larger.
 */
export function image({ name, id = "1", study = uid(), series = uid(), instance = uid(), date = "20260101", birth = "", sex = "", description = "", extra = 0 }) {
  const meta = Buffer.concat([
    element(2, 1, "OB", Buffer.from([0, 1])),
    element(2, 2, "UI", secondaryCapture),
    element(2, 3, "UI", instance),
    element(2, 0x10, "UI", explicitLittleEndian),
    element(2, 0x12, "UI", "2.25.1"),
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(meta.length);
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from("DICM"),
    element(2, 0, "UL", length),
    meta,
    element(8, 5, "CS", "ISO_IR 192"),
    element(8, 0x16, "UI", secondaryCapture),
    element(8, 0x18, "UI", instance),
    element(8, 0x20, "DA", date),
    element(8, 0x30, "TM", "093000"),
    element(8, 0x60, "CS", "OT"),
    ...(description ? [element(8, 0x1030, "LO", description)] : []),
    element(0x10, 0x10, "PN", name),
    element(0x10, 0x20, "LO", id),
    ...(birth ? [element(0x10, 0x30, "DA", birth)] : []),
    ...(sex ? [element(0x10, 0x40, "CS", sex)] : []),
    element(0x20, 0xd, "UI", study),
    element(0x20, 0xe, "UI", series),
    element(0x20, 0x11, "IS", "1"),
    element(0x20, 0x13, "IS", "1"),
    element(0x28, 2, "US", short(1)),
    element(0x28, 4, "CS", "MONOCHROME2"),
    element(0x28, 0x10, "US", short(8)),
    element(0x28, 0x11, "US", short(8)),
    element(0x28, 0x100, "US", short(8)),
    element(0x28, 0x101, "US", short(8)),
    element(0x28, 0x102, "US", short(7)),
    element(0x28, 0x103, "US", short(0)),
    element(0x7fe0, 0x10, "OB", Buffer.alloc(64, 128)),
    ...(extra ? [element(0xfffc, 0xfffc, "OB", Buffer.alloc(extra))] : []),
  ]);
}

/** A file as a browser test hands it to a page. */
export function file(name, buffer) {
  return { name, mimeType: "application/octet-stream", buffer };
}

/** Stores images; fails if the server does not take all of them. */
export async function store(url, images) {
  const boundary = "images";
  const head = Buffer.from(`\r\n--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`);
  const body = Buffer.concat([...images.flatMap((image) => [head, image]), Buffer.from(`\r\n--${boundary}--`)]);
  const response = await fetch(`${url}/dicom-web/studies`, {
    method: "POST",
    headers: { "Content-Type": `multipart/related; type="application/dicom"; boundary=${boundary}` },
    body,
  });
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
}
