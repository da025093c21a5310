// What people type into the search box, as searches of the server. Knows neither page nor server.
// @ts-check

/**
 * @typedef {{ from: string, to: string }} Days Days as `YYYYMMDD`, both included; an empty one is open.
 * @typedef {{ text: string, modality: string, days: Days, arrived?: string }} Wanted The box, and the chips beside it; `arrived` is empty, or a name of
 *   days.
 * @typedef {Record<string, string>} Keys The keys of one search.
 */

/** Modalities that are offered and known in the box. */
export const modalities = ["CT", "PX", "IO", "DX", "CR", "MR", "US", "XC", "OT", "DOC", "SR", "SEG", "SC", "M3D", "NM", "PT", "MG", "XA", "RF", "ECG", "OP", "ES"];

/** Other words for modalities. @type {Record<string, string>} */
const modalityWords = {
  cbct: "CT", "시티": "CT", mri: "MR", ultrasound: "US", "초음파": "US", panorama: "PX", panoramic: "PX", opg: "PX", "파노라마": "PX",
  intraoral: "IO", "구내": "IO", "x-ray": "DX,CR,PX,IO", xray: "DX,CR,PX,IO", "엑스레이": "DX,CR,PX,IO", photo: "XC", "사진": "XC",
  document: "DOC", pdf: "DOC", "문서": "DOC", report: "SR", "보고서": "SR",
};

const two = (/** @type {string | number} */ value) => String(value).padStart(2, "0");

/** @param {Date} date */
export function dayOf(date) {
  return `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
}

/** @param {Date} date @param {number} days */
function later(date, days) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() + days);
}

/** Days by name: `today`, `yesterday`, `week` and `month` (the last 7 and 30 days). @param {string} name @param {Date} now @returns {Days | null} */
export function namedDays(name, now) {
  const span = { today: [0, 0], "오늘": [0, 0], yesterday: [-1, -1], "어제": [-1, -1], week: [-6, 0], month: [-29, 0] }[name];
  return span ? { from: dayOf(later(now, span[0])), to: dayOf(later(now, span[1])) } : null;
}

/** The days of a word: a name, a day, a month, or two of them with `..`, `~` or (as DICOM writes days) `-` between. @param {string} word @param {Date} now @returns {Days | null} */
export function daysOfWord(word, now) {
  const [first, second, more] = ends(word);
  const from = namedDays(first, now) ?? calendarDays(first, now);
  if (second === undefined) return from;
  const to = second ? namedDays(second, now) ?? calendarDays(second, now) : { from: "", to: "" };
  const isOpen = first === "" && second !== "";
  if (more !== undefined || !to || (!from && !isOpen)) return null;
  return from?.from && to.to && from.from > to.to ? null : { from: from?.from ?? "", to: to.to };
}

/** The first and the last day of a word, as they are written. @param {string} word */
function ends(word) {
  return word.split(/\.\.|~|(?<=^\d{8})-(?=\d{8}$)/);
}

/** @param {string} word A day, a month or a year. @param {Date} now @returns {Days | null} */
function calendarDays(word, now) {
  const [, dayFirst, monthThen, yearLast] = /^(\d{1,2})\.(\d{1,2})\.((?:19|20)\d\d)$/.exec(word) ?? [];
  if (yearLast) return daysIn(yearLast, monthThen, dayFirst);
  const [, monthAlone, dayAfter] = /^(\d{1,2})월(?:(\d{1,2})일)?$/.exec(word) ?? [];
  if (monthAlone) {
    // The last one that has begun.
    const days = daysIn(now.getFullYear(), monthAlone, dayAfter);
    return days && days.from > dayOf(now) ? daysIn(now.getFullYear() - 1, monthAlone, dayAfter) : days;
  }
  const [, yearAlone] = /^((?:19|20)\d\d)년$/.exec(word) ?? [];
  if (yearAlone) return { from: `${yearAlone}0101`, to: `${yearAlone}1231` };
  const [found, year, month, day] = /^((?:19|20)\d\d)[-./년]?(\d{1,2})(?:월|[-./월]?(\d{1,2})일?)?$/.exec(word) ?? [];
  // `2026` and two digits without anything between may be any number.
  return found && (day || /[-./년]/.test(word)) ? daysIn(year, month, day) : null;
}

/** The days of a month, or one of them; nothing if there is no such day. @param {string | number} year @param {string} month @param {string} [day] @returns {Days | null} */
function daysIn(year, month, day) {
  const last = new Date(Number(year), Number(month), 0).getDate();
  if (Number(month) < 1 || Number(month) > 12 || (day && (Number(day) < 1 || Number(day) > last))) return null;
  return { from: `${year}${two(month)}${two(day ?? 1)}`, to: `${year}${two(month)}${two(day ?? last)}` };
}

/** Days by name as a range of moments, of which the last one is open. @param {string} name @param {Date} now */
function sinceMoment(name, now) {
  const day = namedDays(name, now)?.from;
  if (!day) return "";
  const [year, month, date] = [day.slice(0, 4), day.slice(4, 6), day.slice(6)].map(Number);
  // The offset from UTC of its own midnight: that of now differs on a day on which clocks are changed.
  const minutes = -new Date(year, month - 1, date).getTimezoneOffset();
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `${day}000000${minutes < 0 ? "-" : "+"}${two(hours)}${two(rest)}-`;
}

/** The words of the box. A day in Korean may be written in several of them, as in `2026년 11월 5일`. @param {string} text */
function words(text) {
  return text.trim().replaceAll(/(\d년)\s+(?=\d{1,2}월)/g, "$1").replaceAll(/(\d월)\s+(?=\d{1,2}일)/g, "$1").split(/\s+/).filter(Boolean);
}

/** What is written as a day, whether there is such a day or not. */
const likeDay = /^((19|20)\d\d([-./]\d{1,2}){1,2}|\d{1,2}\.\d{1,2}\.(19|20)\d\d|((19|20)\d\d년)?\d{1,2}월(\d{1,2}일)?)$/;

/** The word of the box that looks like days and is none, with the reason. @param {string} text @param {Date} now @returns {{ word: string, isBackwards: boolean } | null} */
export function misread(text, now) {
  for (const word of words(text)) {
    const [first, second = ""] = ends(word);
    if (daysOfWord(word.toLowerCase(), now) || !(likeDay.test(first) || likeDay.test(second) || (/^\d{8}$/.test(first) && /^\d{8}$/.test(second)))) continue;
    return { word, isBackwards: [first, second].every((one) => daysOfWord(one.toLowerCase(), now)) };
  }
  return null;
}

/**
 * The searches whose results together are what is wanted: names, IDs and accession numbers are searched one by one, because
 * the keys of one search must all match.
 * @param {Wanted} wanted
 * @param {Date} now
 * @returns {Keys[]}
 */
export function searches({ text, modality, days, arrived = "" }, now) {
  const since = sinceMoment(arrived, now);
  let span = days;
  let modalityKey = modality;
  const rest = [];
  let ambiguous = "";
  for (const word of words(text)) {
    const lower = word.toLowerCase();
    const found = daysOfWord(lower, now);
    const kind = modalities.includes(word.toUpperCase()) ? word.toUpperCase() : modalityWords[lower];
    if (found) {
      span = within(span, found);
      if (/^\d{8}$/.test(word)) ambiguous = word;
    } else if (kind && !modalityKey) {
      modalityKey = kind;
    } else {
      rest.push(word);
    }
  }
  const common = (/** @type {Days} */ of) => ({ ...dateKey(of), ...(modalityKey ? { ModalitiesInStudy: modalityKey } : {}), ...(since ? { arrived: since } : {}) });
  const all = textSearches(rest.join(" ")).map((keys) => ({ ...keys, ...common(span) }));
  // Eight digits alone may be a day, and a number, too.
  if (ambiguous && rest.length === 0) all.push(...numberSearches(ambiguous).map((keys) => ({ ...keys, ...common(days) })));
  return all;
}

/** @param {Days} one @param {Days} other @returns {Days} */
function within(one, other) {
  const to = one.to && other.to ? (one.to < other.to ? one.to : other.to) : one.to || other.to;
  return { from: one.from > other.from ? one.from : other.from, to };
}

/** @param {Days} days @returns {Keys} */
function dateKey({ from, to }) {
  if (!from && !to) return {};
  return { StudyDate: from === to ? from : `${from}-${to}` };
}

/** @param {string} text @returns {Keys[]} */
function textSearches(text) {
  if (!text) return [{}];
  if (/^\d+(\.\d+){3,}$/.test(text)) return [{ StudyInstanceUID: text }];
  if (!/\s/.test(text)) return [nameKeys(text), ...numberSearches(text)];
  // One word with a digit beside a name is a number: no name has digits.
  const all = text.split(/\s+/);
  const numbers = all.filter((word) => /\d/.test(word));
  if (numbers.length !== 1) return [nameKeys(text)];
  const name = nameKeys(all.filter((word) => word !== numbers[0]).join(" "));
  return [nameKeys(text), ...numberSearches(numbers[0]).map((keys) => ({ ...name, ...keys }))];
}

/** As people type names: any order, parts of words, any script. @param {string} text @returns {Keys} */
function nameKeys(text) {
  return /[*?]/.test(text) ? { PatientName: text } : { PatientName: text.replaceAll("^", " "), fuzzymatching: "true" };
}

/** @param {string} text @returns {Keys[]} */
function numberSearches(text) {
  // Numbers are matched with case (PS3.4 §C.2.2.2.1), and typed without.
  const written = /\d/.test(text) && text !== text.toUpperCase() ? [text, text.toUpperCase()] : [text];
  const anywhere = written.map((one) => (/[*?]/.test(one) ? one : `*${one}*`));
  return anywhere.flatMap((one) => ["PatientID", "AccessionNumber"].map((key) => ({ [key]: one })));
}
