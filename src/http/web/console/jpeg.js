// What a JPEG file says of itself (ISO/IEC 10918-1 Annex B). Knows no page.
// @ts-check

/**
 * @typedef {{ rows: number, columns: number, samples: number, isBaseline: boolean, isRgb: boolean, isTurned: boolean, bytes: Uint8Array<ArrayBuffer> }} Jpeg
 * `isTurned`: the picture is shown in another direction than it is stored. `bytes` have no Exif: it holds the place and the camera.
 */

const exif = [0x45, 0x78, 0x69, 0x66, 0];

/**
 * Reads the segments before the first scan; nothing if they cannot be read.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Jpeg | null}
 */
export function readJpeg(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kept = [bytes.subarray(0, 2)];
  const found = { rows: 0, columns: 0, samples: 0, isBaseline: false, isRgb: false, isTurned: false };
  try {
    for (let at = 2; ; ) {
      const marker = view.getUint16(at);
      // Bytes of fill may stand before a marker (§B.1.1.2).
      if (marker === 0xffff) {
        at += 1;
        continue;
      }
      if (marker < 0xffc0) return null;
      const length = view.getUint16(at + 2);
      const segment = bytes.subarray(at, at + 2 + length);
      if (length < 2 || segment.length < 2 + length) return null;
      const isFrame = marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);
      if (isFrame) {
        Object.assign(found, { rows: view.getUint16(at + 5), columns: view.getUint16(at + 7), samples: view.getUint8(at + 9) });
        found.isBaseline = marker === 0xffc0 && view.getUint8(at + 4) === 8;
      }
      // Adobe's segment, whose last byte is 0 where the components are not transformed.
      if (marker === 0xffee && length >= 14 && segment[4] === 0x41) found.isRgb = segment[15] === 0;
      const isExif = marker === 0xffe1 && exif.every((byte, index) => segment[4 + index] === byte);
      if (isExif) found.isTurned = direction(segment.subarray(10)) !== 1;
      if (marker !== 0xffe1 && marker !== 0xfffe) kept.push(segment);
      at += 2 + length;
      if (marker !== 0xffda) continue;
      kept.push(bytes.subarray(at));
      return found.rows && found.columns && found.samples ? { ...found, bytes: joined(kept) } : null;
    }
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The orientation in Exif, a TIFF file; 1 where there is none. @param {Uint8Array} tiff */
function direction(tiff) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  try {
    const isLittle = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, isLittle);
    const count = view.getUint16(directory, isLittle);
    for (let entry = 0; entry < count; entry++) {
      const at = directory + 2 + 12 * entry;
      if (view.getUint16(at, isLittle) === 0x0112) return view.getUint16(at + 8, isLittle) || 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}
