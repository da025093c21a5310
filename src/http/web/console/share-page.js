// The page of a link: what was shared, a code if one is asked for, the images, and the zip file.
//
// The secret of the link is in the path. What opening gives is kept in this tab, so that going back or loading the page
// again is no second use.
// @ts-check

/**
 * @typedef {{ patient: string, date: string, modalities: string[] }} Study
 * @typedef {{ state: string, needs_code: boolean, mode: "view" | "download", expires_at: string, study: Study | null }} About
 * @typedef {{ token: string, share: string, expires_at: string, mode: "view" | "download", study_uid: string,
 *   series_uid: string | null, is_list: boolean, study: Study }} Opened
 */

const texts = {
  en: {
    title: "Shared images", loading: "Loading …", patient: "Patient", date: "Date", kind: "Kind", until: "Open until",
    code: "Code", codeWhy: "The sender has given you a code for these images.", unlock: "Continue", open: "View images", download: "Download (zip)",
    wrongCode: "The code is not right. {left} more tries.", tooManyTries: "There were too many tries. Wait a minute, and try again.",
    expired: "This link has ended.", revoked: "This link was withdrawn.", "used-up": "This link was opened as often as it may be.",
    locked: "This link was closed after too many wrong codes.", deleted: "These images are not stored any more.", unknown: "There is no such link. See whether the whole address was copied.",
    ask: "Ask the sender for a new link.", failed: "The server does not answer: {why}", again: "Try again", ended: "Access has ended. Open the link again.", noImages: "There are no images to show.", image: "Image {number}",
  },
  ko: {
    title: "공유된 영상", loading: "불러오는 중 …", patient: "환자", date: "날짜", kind: "종류", until: "열람 기한",
    code: "코드", codeWhy: "보낸 분이 알려 준 코드를 입력하세요.", unlock: "계속", open: "영상 보기", download: "내려받기 (zip)",
    wrongCode: "코드가 맞지 않습니다. {left}번 더 입력할 수 있습니다.", tooManyTries: "입력 횟수가 너무 많습니다. 1분 뒤에 다시 시도하세요.",
    expired: "이 링크의 기한이 끝났습니다.", revoked: "이 링크는 취소되었습니다.", "used-up": "이 링크는 허용된 횟수만큼 이미 열렸습니다.",
    locked: "잘못된 코드가 여러 번 입력되어 이 링크가 잠겼습니다.", deleted: "이 영상은 더 이상 저장되어 있지 않습니다.", unknown: "이 링크는 없습니다. 주소 전체를 복사했는지 확인하세요.",
    ask: "보낸 분에게 새 링크를 요청하세요.", failed: "서버가 응답하지 않습니다: {why}", again: "다시 시도", ended: "열람 시간이 끝났습니다. 링크를 다시 여세요.", noImages: "보여 줄 영상이 없습니다.", image: "영상 {number}",
  },
};
/** @typedef {keyof typeof texts.en} Key */

const languageKey = "cuspid.language";
const secret = decodeURIComponent(location.pathname.split("/").pop() ?? "");
const root = new URL("../", location.href).href;
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const chooser = /** @type {HTMLSelectElement} */ (document.getElementById("language"));
const keptKey = `cuspid.link.${secret}`;

/** @type {"en" | "ko"} */
let language = [localStorage.getItem(languageKey) ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2)).find((tag) => tag in texts) === "ko" ? "ko" : "en";
/** Shows the page again, in another language. @type {() => void} */
let show = () => {};

/** @param {Key} key @param {Record<string, string | number>} [values] */
function t(key, values = {}) {
  return texts[language][key].replaceAll(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** @param {string} name @param {Record<string, any>} [attributes] @param {...(Node | string | false | null)} children */
function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, String(value));
  }
  made.append(...children.filter((child) => child !== false && child !== null));
  return made;
}

/** @param {() => (Node | false)[]} parts */
function showAs(parts) {
  show = () => {
    document.documentElement.lang = language;
    document.title = `${t("title")} · Cuspid`;
    main.replaceChildren(...parts().filter((part) => part !== false));
  };
  show();
}

/** @param {string} path @param {any} body @param {string} [token] */
function post(path, body, token) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return fetch(new URL(path, root), { method: "POST", headers, body: JSON.stringify(body) });
}

/** @param {unknown} error */
function fail(error) {
  showAs(() => [h("h1", {}, t("title")), h("p", { class: "failed", role: "alert" }, t("failed", { why: error instanceof Error ? error.message : String(error) })),
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: begin }, t("again")))]);
}

/** @param {string} state */
function closed(state) {
  sessionStorage.removeItem(keptKey);
  const key = /** @type {Key} */ (state in texts.en ? state : "unknown");
  main.classList.remove("wide");
  showAs(() => [h("h1", {}, t(key)), h("p", { class: "soft" }, t("ask"))]);
}

/** The facts of what is shared. @param {Study} study @param {string} until */
function facts(study, until) {
  const day = /^(\d{4})(\d\d)(\d\d)$/.exec(study.date);
  const date = day ? new Intl.DateTimeFormat(language, { dateStyle: "long", timeZone: "UTC" }).format(Date.UTC(+day[1], +day[2] - 1, +day[3])) : study.date;
  const end = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(until));
  const rows = [[t("date"), date], [t("kind"), study.modalities.join(", ")], [t("until"), end]].filter(([, value]) => value);
  return h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** @param {Study} study */
function heading(study) {
  return h("h1", {}, study.patient || t("title"));
}

/** Whether what this tab has opened is still valid. @returns {Promise<Opened | null>} */
async function kept() {
  const found = JSON.parse(sessionStorage.getItem(keptKey) ?? "null");
  if (!found) return null;
  const response = await fetch(new URL("me", root), { headers: { Authorization: `Bearer ${found.token}` } });
  if (response.ok) return found;
  sessionStorage.removeItem(keptKey);
  return null;
}

async function begin() {
  showAs(() => [h("p", { class: "soft", role: "status" }, t("loading"))]);
  try {
    const opened = await kept();
    if (opened) return showOpened(opened);
    const response = await post("s/about", { secret });
    const about = await response.json();
    if (!response.ok) return about.state ? closed(about.state) : fail(about.detail ?? response.status);
    if (about.needs_code) askCode();
    else showLink(about);
  } catch (error) {
    fail(error);
  }
}

/** A link without a code. @param {About} about */
function showLink(about) {
  const study = /** @type {Study} */ (about.study);
  showAs(() => [heading(study), facts(study, about.expires_at), buttons(about.mode, async (then) => {
    const opened = await open("");
    if (opened) then(opened);
  })]);
}

/** @param {Opened} opened */
function showOpened(opened) {
  showAs(() => [heading(opened.study), facts(opened.study, opened.expires_at), buttons(opened.mode, async (then) => then(opened))]);
}

/** @param {"view" | "download"} mode @param {(then: (opened: Opened) => void) => Promise<void>} withOpened */
function buttons(mode, withOpened) {
  const press = (/** @type {(opened: Opened) => void | Promise<void>} */ then) => async (/** @type {Event} */ event) => {
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    button.disabled = true;
    try {
      await withOpened(then);
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  };
  return h("p", { class: "buttons" },
    h("button", { type: "button", class: "first", id: "open", onclick: press(view) }, t("open")),
    mode === "download" && h("button", { type: "button", id: "download", onclick: press(download) }, t("download")));
}

function askCode() {
  const problem = h("p", { class: "failed", role: "alert", id: "problem" });
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const opened = await open(String(new FormData(form).get("code") ?? ""), problem).catch(fail);
    if (opened) showOpened(opened);
  };
  showAs(() => {
    problem.textContent = "";
    return [h("h1", {}, t("title")), h("p", { class: "soft" }, t("codeWhy")), h("form", { onsubmit: send },
      h("label", { for: "code" }, t("code")),
      h("input", { id: "code", name: "code", autocomplete: "one-time-code", autocapitalize: "off", spellcheck: "false", maxlength: 64, required: true }),
      problem,
      h("p", { class: "buttons" }, h("button", { class: "first", id: "unlock" }, t("unlock"))))];
  });
  document.getElementById("code")?.focus();
}

/** Opens the link, which counts as a use. @param {string} code @param {HTMLElement} [problem] @returns {Promise<Opened | null>} */
async function open(code, problem) {
  const response = await post("s/open", code ? { secret, code } : { secret });
  const answer = await response.json();
  if (response.ok) {
    sessionStorage.setItem(keptKey, JSON.stringify(answer));
    return answer;
  }
  if (response.status === 403 && problem) problem.textContent = t("wrongCode", { left: answer.left });
  else if (response.status === 429 && problem && answer.state) problem.textContent = t("tooManyTries");
  else if (answer.state === "wrong-code") askCode();
  else if (answer.state) closed(answer.state);
  else fail(answer.detail ?? response.status);
  return null;
}

/** @param {Opened} opened */
async function view(opened) {
  const { view: viewer } = document.documentElement.dataset;
  // The viewer shows whole series: some images of a series are shown here.
  if (!viewer || opened.is_list) return showImages(opened);
  sessionStorage.setItem(`cuspid.share.${opened.share}`, opened.token);
  const query = new URLSearchParams({ study: opened.study_uid, ...(opened.series_uid ? { series: opened.series_uid } : {}), shared: opened.share });
  location.assign(new URL(`${viewer}?${query}`, root));
}

/** @param {Opened} opened */
async function download(opened) {
  const response = await post("sign", { urls: [`/dicom-web/studies/${opened.study_uid}?accept=application/zip`] }, opened.token);
  if (!response.ok) return closedOrFailed(response);
  location.assign((await response.json()).urls[0]);
}

/** @param {Response} response */
async function closedOrFailed(response) {
  if (response.status !== 401) return fail(response.statusText || response.status);
  sessionStorage.removeItem(keptKey);
  await begin();
}

/** Shows the shared instances of a list, or one image of each series. @param {Opened} opened */
async function showImages(opened) {
  const headers = { Authorization: `Bearer ${opened.token}`, Accept: "application/dicom+json" };
  const service = new URL(`dicom-web/studies/${opened.study_uid}`, root).href;
  const response = await fetch(`${service}/${opened.is_list ? "instances" : "series"}`, { headers });
  if (!response.ok) return closedOrFailed(response);
  /** @type {any[]} */
  const found = response.status === 204 ? [] : await response.json();
  const value = (/** @type {any} */ one, /** @type {string} */ tag) => one[tag]?.Value?.[0];
  const urls = found.map((one) => {
    const series = `${service}/series/${value(one, "0020000E")}`;
    return opened.is_list ? `${series}/instances/${value(one, "00080018")}/thumbnail?viewport=1024,1024` : `${series}/thumbnail?viewport=1024,1024`;
  });
  const pictures = urls.map((_, at) => h("img", { alt: t("image", { number: at + 1 }), loading: "lazy" }));
  main.classList.add("wide");
  showAs(() => [heading(opened.study), facts(opened.study, opened.expires_at),
    opened.mode === "download" && h("p", { class: "buttons" }, h("button", { type: "button", id: "download", onclick: () => download(opened).catch(fail) }, t("download"))),
    pictures.length === 0 && h("p", { class: "soft" }, t("noImages")),
    h("ul", { class: "images" }, ...pictures.map((picture) => h("li", {}, picture)))]);
  for (const [at, url] of urls.entries()) {
    const bytes = await fetch(url, { headers: { ...headers, Accept: "image/*" } });
    if (bytes.status === 401) return closedOrFailed(bytes);
    if (bytes.ok) /** @type {HTMLImageElement} */ (pictures[at]).src = URL.createObjectURL(await bytes.blob());
  }
}

chooser.value = language;
chooser.addEventListener("change", () => {
  language = chooser.value === "ko" ? "ko" : "en";
  localStorage.setItem(languageKey, language);
  show();
});
void begin();

export {};
