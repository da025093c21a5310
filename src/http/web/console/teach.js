// What an empty archive says: how to get studies into it.
// @ts-check

import { connectCard } from "./connect.js";
import { h } from "./html.js";
import { t } from "./language.js";

/** @param {boolean} mayStore */
export function teach(mayStore) {
  return [
    h("h2", {}, t("emptyTitle")),
    mayStore && h("p", {}, t("emptyDrop")),
    h("p", {}, t("emptyConnect")),
    connectCard(),
  ];
}
