// QR codes (ISO/IEC 18004) of short texts: byte mode, error correction level M, versions 1 to 6.
// @ts-check

/** Of each version: bytes of data in a block, bytes of error correction in a block, blocks. */
const versions = [[16, 10, 1], [28, 16, 1], [44, 26, 1], [32, 18, 2], [43, 24, 2], [27, 16, 4]];
/** Modules of white around the code. */
const margin = 4;

/** The code of a text as a picture; nothing if the text is too long. @param {string} text @param {string} label */
export function qrCode(text, label) {
  const modules = qrModules(new TextEncoder().encode(text));
  if (!modules) return null;
  const space = "http://www.w3.org/2000/svg";
  const side = modules.length + 2 * margin;
  const picture = document.createElementNS(space, "svg");
  for (const [key, value] of [["viewBox", `0 0 ${side} ${side}`], ["class", "qr"], ["role", "img"], ["aria-label", label]]) picture.setAttribute(key, value);
  const path = document.createElementNS(space, "path");
  const squares = modules.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + margin} ${y + margin}h1v1h-1z` : "")));
  path.setAttribute("d", squares.join(""));
  picture.append(path);
  return picture;
}

/** The modules, row by row; nothing if there are too many bytes. @param {Uint8Array} bytes @returns {boolean[][] | null} */
export function qrModules(bytes) {
  const version = 1 + versions.findIndex(([data, , blocks]) => bytes.length + 2 <= data * blocks);
  if (version === 0) return null;
  const codewords = interleaved(version, dataOf(version, bytes));
  const masks = Array.from({ length: 8 }, (_, mask) => drawn(version, codewords, mask));
  return masks.reduce((one, other) => (penalty(other) < penalty(one) ? other : one));
}

/** The bytes of data: mode, length, text, padding. @param {number} version @param {Uint8Array} bytes */
function dataOf(version, bytes) {
  const [data, , blocks] = versions[version - 1];
  const nibbles = [4, bytes.length >> 4, bytes.length & 15, ...[...bytes].flatMap((byte) => [byte >> 4, byte & 15]), 0];
  const packed = Array.from({ length: nibbles.length / 2 }, (_, index) => (nibbles[2 * index] << 4) | nibbles[2 * index + 1]);
  for (let pad = 0xec; packed.length < data * blocks; pad ^= 0xec ^ 0x11) packed.push(pad);
  return packed;
}

/** @param {number} version @param {number[]} data */
function interleaved(version, data) {
  const [size, correction, count] = versions[version - 1];
  const blocks = Array.from({ length: count }, (_, index) => data.slice(index * size, (index + 1) * size));
  const corrections = blocks.map((block) => remainder(block, generator(correction)));
  const across = (/** @type {number[][]} */ all) => all[0].flatMap((_, index) => all.map((one) => one[index]));
  return [...across(blocks), ...across(corrections)];
}

/** A product in GF(256) with x^8 + x^4 + x^3 + x^2 + 1. @param {number} a @param {number} b */
function product(a, b) {
  let result = 0;
  for (let bit = 7; bit >= 0; bit--) {
    result = (result << 1) ^ ((result >> 7) * 0x11d);
    result ^= ((b >> bit) & 1) * a;
  }
  return result;
}

/** The polynomial of Reed-Solomon codes, without its first coefficient. @param {number} degree */
function generator(degree) {
  const result = Array(degree).fill(0);
  result[degree - 1] = 1;
  for (let step = 0, root = 1; step < degree; step++, root = product(root, 2)) {
    for (let at = 0; at < degree; at++) result[at] = product(result[at], root) ^ (result[at + 1] ?? 0);
  }
  return result;
}

/** @param {number[]} data @param {number[]} divisor */
function remainder(data, divisor) {
  const result = divisor.map(() => 0);
  for (const byte of data) {
    const factor = byte ^ (result.shift() ?? 0);
    result.push(0);
    divisor.forEach((coefficient, at) => { result[at] ^= product(coefficient, factor); });
  }
  return result;
}

const maskRules = /** @type {((x: number, y: number) => boolean)[]} */ ([
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
]);

/** @param {number} version @param {number[]} codewords @param {number} mask */
function drawn(version, codewords, mask) {
  const side = 17 + 4 * version;
  /** Modules that are not set yet are `null`. @type {(boolean | null)[][]} */
  const modules = Array.from({ length: side }, () => Array(side).fill(null));
  drawPatterns(modules, version);
  drawFormat(modules, mask);
  let bit = 0;
  for (let right = side - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    const isUpward = ((right + 1) & 2) === 0;
    for (let step = 0; step < side; step++) {
      const y = isUpward ? side - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (modules[y][x] !== null) continue;
        const isSet = bit < 8 * codewords.length && ((codewords[bit >> 3] >> (7 - (bit & 7))) & 1) === 1;
        modules[y][x] = isSet !== maskRules[mask](x, y);
        bit += 1;
      }
    }
  }
  return /** @type {boolean[][]} */ (modules);
}

/** The patterns by which a reader finds the code. @param {(boolean | null)[][]} modules @param {number} version */
function drawPatterns(modules, version) {
  const side = modules.length;
  for (let at = 0; at < side; at++) modules[6][at] = modules[at][6] = at % 2 === 0;
  for (const [left, top] of [[3, 3], [side - 4, 3], [3, side - 4]]) {
    for (let dy = -4; dy <= 4; dy++) {
      for (let dx = -4; dx <= 4; dx++) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        const [x, y] = [left + dx, top + dy];
        if (x >= 0 && x < side && y >= 0 && y < side) modules[y][x] = ring !== 2 && ring !== 4;
      }
    }
  }
  if (version === 1) return;
  for (let dy = -2; dy <= 2; dy++) {
    for (let dx = -2; dx <= 2; dx++) modules[side - 7 + dy][side - 7 + dx] = Math.max(Math.abs(dx), Math.abs(dy)) !== 1;
  }
}

/** @param {(boolean | null)[][]} modules @param {number} mask */
function drawFormat(modules, mask) {
  const side = modules.length;
  let rest = mask;
  for (let step = 0; step < 10; step++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
  // Level M is 0.
  const bits = ((mask << 10) | rest) ^ 0x5412;
  const bit = (/** @type {number} */ at) => ((bits >> at) & 1) === 1;
  for (let at = 0; at < 15; at++) {
    const along = at < 6 ? at : at < 8 ? at + 1 : side - 15 + at;
    modules[along][8] = bit(at);
    const across = at < 8 ? side - 1 - at : at < 9 ? 7 : 14 - at;
    modules[8][across] = bit(at);
  }
  modules[side - 8][8] = true;
}

/** How hard a code is to read: runs, squares, and too much of one colour. @param {boolean[][]} modules */
function penalty(modules) {
  const side = modules.length;
  let result = 0;
  let dark = 0;
  for (let one = 0; one < side; one++) {
    for (const read of [(/** @type {number} */ at) => modules[one][at], (/** @type {number} */ at) => modules[at][one]]) {
      for (let at = 1, run = 1; at < side; at++) {
        run = read(at) === read(at - 1) ? run + 1 : 1;
        if (run === 5) result += 3;
        else if (run > 5) result += 1;
      }
    }
    for (let at = 0; at < side; at++) {
      dark += Number(modules[one][at]);
      const isSquare = one > 0 && at > 0 && [modules[one - 1][at], modules[one][at - 1], modules[one - 1][at - 1]].every((other) => other === modules[one][at]);
      if (isSquare) result += 3;
    }
  }
  return result + 10 * Math.floor(Math.abs((20 * dark) / side ** 2 - 10));
}
