// Why the server did not store a file, in words for people.
// @ts-check

import * as dicomweb from "./dicomweb.js";
import { t } from "./language.js";

/** The codes of PS3.18 Table I.2-2, for people. @type {Record<number, import("./language.js").Key>} */
const reasons = {
  0x0110: "whyProcessing",
  0x0122: "whyClass",
  0xa700: "whyRoom",
  0xa900: "whyConflict",
  0xc000: "whyDamaged",
  0xc122: "whySyntax",
};

/** The code of an instance that is stored with other data. */
const conflict = 0xa900;

/** Why a file was not stored. @param {dicomweb.StoreAnswer} answer */
export function failure(answer) {
  const [first] = dicomweb.failures(answer);
  const code = first && dicomweb.value(first, "00081197");
  const comments = first ? dicomweb.items(first, "00741048").map((item) => dicomweb.value(item, "00000902")) : [];
  const isConflict = code === conflict;
  const known = reasons[code] ?? (answer.status === 403 ? "whyNoRight" : null);
  const why = known ? t(known) : answer.detail || t("whyStatus", { status: String(answer.status) });
  // The reason says it all, and the server's text is for programs.
  const text = isConflict ? why : [why, ...comments.filter(Boolean).slice(0, 1)].join(": ");
  return { text, isConflict, mayRetry: answer.status >= 500 || [0x0110, 0xa700].includes(code) };
}
