// The elements of this page.
// @ts-check

/** The element with an id, which the page has. @param {string} id @returns {any} */
export function element(id) {
  return document.getElementById(id);
}
