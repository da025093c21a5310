// The words of the page, in the language of the browser or the one that was chosen.

import en from "./messages/en.json";
import ko from "./messages/ko.json";

export type Key = keyof typeof en;
const messages = { en, ko } satisfies Record<string, Record<Key, string>>;
export type Language = keyof typeof messages;
export const languages: Record<Language, string> = { en: "English", ko: "한국어" };

const STORED = "cuspid.language";

function preferred(): Language {
  const wanted = [localStorage.getItem(STORED), ...navigator.languages];
  for (const tag of wanted) {
    const found = tag?.slice(0, 2).toLowerCase();
    if (found && found in messages) return found as Language;
  }
  return "en";
}

export let language: Language = preferred();

export function choose(next: Language): void {
  language = next;
  localStorage.setItem(STORED, next);
}

/** The text of a key; `{name}` in the text stands for a value. */
export function text(key: Key, values: Record<string, string | number> = {}): string {
  return messages[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** A number as it is written here. */
export function number(value: number, digits = 0): string {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
