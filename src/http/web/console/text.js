// Values of DICOM as people write them, in the language of the page.
// @ts-check

import { NoServerError } from "./dicomweb.js";
import { language, number, t } from "./language.js";

/** Scripts that are written without spaces between the parts of a name. */
const unspaced = /[\p{Script=Hangul}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

/**
 * A name in the script of the reader first, then in another one, as in `김민준 (Kim Minjun)`. Names in East Asian scripts come
 * first in every language but those that are written in Latin letters; there they follow.
 * @param {{ Alphabetic?: string, Ideographic?: string, Phonetic?: string } | string | undefined} name
 */
export function personName(name) {
  const { first, second } = nameParts(name);
  return second ? `${first} (${second})` : first;
}

/** @param {string} name As in a file: three groups with `=` between (PS3.5 §6.2.1). */
export function personNameOf(name) {
  const [Alphabetic = "", Ideographic = "", Phonetic = ""] = name.split("=");
  return personName({ Alphabetic, Ideographic, Phonetic });
}

/** @param {Parameters<typeof personName>[0]} name @returns {{ first: string, second: string }} */
export function nameParts(name) {
  if (!name) return { first: "", second: "" };
  const groups = typeof name === "string" ? { Alphabetic: name } : name;
  const { Alphabetic = "", Ideographic = "", Phonetic = "" } = groups;
  // Koreans write their own script in the third group, Hanja in the second.
  const own = /\p{Script=Hangul}/u.test(Phonetic) ? Phonetic : Ideographic || Phonetic;
  const [local, latin] = [group(own), group(Alphabetic)];
  if (!local || !latin || local === latin) return { first: local || latin, second: "" };
  return language() === "ko" ? { first: local, second: latin } : { first: latin, second: local };
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

/** The age on a day, in whole years; empty if it is not known. @param {string} birth @param {string} day Both `YYYYMMDD`. */
export function age(birth, day) {
  if (!/^\d{8}$/.test(birth) || !/^\d{8}$/.test(day) || day < birth) return "";
  return t("age", { count: Math.floor((Number(day) - Number(birth)) / 10_000) });
}

/** @param {string} code Patient's Sex (PS3.3 §C.7.1.1). */
export function sex(code) {
  return code === "F" ? t("female") : code === "M" ? t("male") : "";
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  let value = bytes;
  for (; value >= 1000 && index < units.length - 1; index++) value /= 1000;
  const digits = index && value < 10 ? 1 : 0;
  return `${number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${units[index]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return t("seconds", { count: Math.max(1, Math.round(seconds)) });
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return t("minutes", { count: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return t("hours", { hours, minutes: minutes % 60 });
  return t("days", { count: Math.floor(hours / 24) });
}

/** The message of what was thrown. @param {unknown} error */
export function message(error) {
  // The browser's own words for this are of no use, and in its language.
  if (error instanceof NoServerError) return t("noServer").replace(/\.$/, "");
  return error instanceof Error ? error.message : String(error);
}

/** A name of a file made of words, not longer than file systems take. @param {string[]} words @param {string} extension */
export function fileName(words, extension) {
  const text = words.filter(Boolean).join("_").replaceAll(/[\p{Cc}\\/:*?"<>|,\s()]+/gu, "_").replaceAll(/_+/g, "_");
  return `${[...text].slice(0, 60).join("").replace(/_$/, "")}.${extension}`;
}
