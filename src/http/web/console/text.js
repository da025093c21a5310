// Values of DICOM as people write them.
// @ts-check

/** Scripts that are written without spaces between the parts of a name. */
const unspaced = /[\p{Script=Hangul}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

/**
 * A name: in its own script first, then in Latin letters, as in `김민준 (Kim Minjun)`.
 * @param {{ Alphabetic?: string, Ideographic?: string, Phonetic?: string } | string | undefined} name
 */
export function personName(name) {
  if (!name) return "";
  const groups = typeof name === "string" ? { Alphabetic: name } : name;
  const { Alphabetic = "", Ideographic = "", Phonetic = "" } = groups;
  // Koreans write their own script in the third group, Hanja in the second.
  const own = /\p{Script=Hangul}/u.test(Phonetic) ? Phonetic : Ideographic || Phonetic;
  const [first, second] = [group(own), group(Alphabetic)];
  if (first && second && first !== second) return `${first} (${second})`;
  return first || second;
}

/** @param {string} text A component group: family, given, middle, prefix, suffix (PS3.5 §6.2.1). */
function group(text) {
  const parts = text.split("^").map((part) => part.trim()).filter(Boolean);
  return parts.join(unspaced.test(text) ? "" : " ");
}

/** @param {string} text A date, `YYYYMMDD`. */
export function date(text) {
  return String(text).replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
}

/** @param {string} text A time, `HHMMSS.FFFFFF` or less of it. */
export function time(text) {
  return String(text).replace(/^(\d\d)(\d\d).*$/, "$1:$2");
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  let number = bytes;
  for (; number >= 1000 && index < units.length - 1; index++) number /= 1000;
  return `${index && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[index]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} number @param {string} one @param {string} [many] */
export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** The message of what was thrown. @param {unknown} error */
export function message(error) {
  return error instanceof Error ? error.message : String(error);
}
