// The built-in page: lists studies and series by QIDO-RS and stores files by STOW-RS.

import * as access from "./sign-in.js";

const service = new URL("dicom-web", document.baseURI).href;
// Where the viewer is; empty if none is installed.
const { viewer } = document.documentElement.dataset;
const pageSize = 25;
// Bytes of one request: large enough that requests cost nothing, small enough that a retry costs little.
const batchBytes = 20 * 1024 * 1024;
const parallelRequests = 4;
const attempts = 5;

const element = (id) => document.getElementById(id);
element("service").textContent = service;
element("no-viewer").hidden = Boolean(viewer);

// ---- Access ----

/** The answer to a GET; one that says that it is not known who asks asks to sign in. */
async function get(url, accept) {
  const response = await fetch(url, { headers: { Accept: accept, ...access.headers() } });
  if (response.status === 401) askToSignIn();
  return response;
}

function askToSignIn() {
  access.forget();
  const isPossible = access.obstacle === "";
  element("access").hidden = false;
  element("sign-in").hidden = !isPossible;
  element("obstacle").textContent = isPossible ? "Sign in to see and store studies." : access.obstacle;
}

element("sign-in").addEventListener("click", access.begin);

// ---- Studies ----

let offset = 0;

function value(result, tag) {
  const first = result[tag]?.Value?.[0];
  return first?.Alphabetic ?? first ?? "";
}

function query() {
  const form = new FormData(element("search"));
  const parameters = new URLSearchParams({ limit: pageSize, offset, includefield: "00081030" });
  for (const name of ["PatientName", "PatientID"]) {
    if (form.get(name)) parameters.set(name, form.get(name));
  }
  const day = (name) => form.get(name).replaceAll("-", "");
  if (day("from") || day("to")) parameters.set("StudyDate", `${day("from")}-${day("to")}`);
  return parameters;
}

async function listStudies() {
  const message = element("message");
  try {
    const response = await get(`${service}/studies?${query()}`, "application/dicom+json");
    const body = response.status === 204 ? [] : await response.json();
    if (!response.ok) throw new Error(body.detail ?? response.statusText);
    showStudies(body, response.headers.get("Warning")?.includes("more results") ?? false);
    message.textContent = body.length ? "" : "No studies found.";
    message.className = "";
  } catch (error) {
    message.textContent = `The studies cannot be listed: ${error.message}`;
    message.className = "failed";
  }
}

function showStudies(studies, hasMore) {
  const rows = studies.map((study) => {
    const row = document.createElement("tr");
    const date = String(value(study, "00080020")).replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
    const cells = [
      [String(value(study, "00100010")).replaceAll("^", " ").trim()],
      [value(study, "00100020")],
      [date],
      [value(study, "00081030")],
      [(study["00080061"]?.Value ?? []).join(", ")],
      [value(study, "00201206"), "number"],
      [value(study, "00201208"), "number"],
    ];
    for (const [text, style] of cells) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (style) cell.className = style;
    }
    const uid = value(study, "0020000D");
    row.cells[0].prepend(seriesButton(row, uid));
    const last = row.insertCell();
    if (viewer) last.append(viewerLink(uid));
    return row;
  });
  element("rows").replaceChildren(...rows);
  element("previous").disabled = offset === 0;
  element("next").disabled = !hasMore;
  element("page").textContent = studies.length ? `${offset + 1} to ${offset + studies.length}` : "";
}

function viewerLink(uid) {
  const link = document.createElement("a");
  link.href = `${viewer}viewer?StudyInstanceUIDs=${encodeURIComponent(uid)}`;
  link.textContent = "Open in viewer";
  return link;
}

/** A button that shows and hides the series of a study, in a row below its own. */
function seriesButton(row, uid) {
  const button = document.createElement("button");
  let below = null;
  const show = (isShown) => {
    button.textContent = isShown ? "\u2212" : "+";
    button.ariaExpanded = isShown;
    button.ariaLabel = isShown ? "Hide series" : "Show series";
  };
  button.type = "button";
  button.addEventListener("click", () => {
    below?.remove();
    below = below ? null : document.createElement("tr");
    show(below !== null);
    if (below) {
      row.after(below);
      listSeries(below, row.cells.length, uid);
    }
  });
  show(false);
  return button;
}

async function listSeries(row, columns, study) {
  const cell = row.insertCell();
  cell.colSpan = columns;
  const url = `${service}/studies/${study}/series`;
  try {
    const response = await get(`${url}?includefield=0008103E`, "application/dicom+json");
    const body = await response.json();
    if (!response.ok) throw new Error(body.detail ?? response.statusText);
    const list = document.createElement("ul");
    list.className = "series";
    const number = (series) => Number(value(series, "00200011"));
    body.sort((one, other) => number(one) - number(other));
    list.append(...body.map((series) => seriesCard(url, series)));
    cell.append(list);
  } catch (error) {
    cell.textContent = `The series cannot be listed: ${error.message}`;
  }
}

function seriesCard(url, series) {
  const card = document.createElement("li");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.loading = "lazy";
  show(picture, `${url}/${value(series, "0020000E")}/thumbnail?viewport=256,256`);
  const count = value(series, "00201209");
  const texts = [
    `${value(series, "00080060")} ${value(series, "00200011")}`,
    value(series, "0008103E"),
    count === 1 ? "1 instance" : `${count} instances`,
  ];
  card.append(picture);
  for (const text of texts) {
    const line = document.createElement("span");
    line.textContent = text;
    card.append(line);
  }
  return card;
}

/** Shows a picture. Where a token is needed, it is fetched: an element cannot say who asks. */
async function show(picture, url) {
  if (!access.isNeeded) {
    picture.src = url;
    return;
  }
  const response = await get(url, "image/*");
  if (!response.ok) return;
  picture.src = URL.createObjectURL(await response.blob());
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
}

function showPage(from) {
  offset = Math.max(0, from);
  return listStudies();
}

element("search").addEventListener("submit", (event) => {
  event.preventDefault();
  showPage(0);
});
element("search").addEventListener("reset", () => setTimeout(() => showPage(0)));
element("previous").addEventListener("click", () => showPage(offset - pageSize));
element("next").addEventListener("click", () => showPage(offset + pageSize));

// ---- Store ----

let queue = [];
let running = 0;
const counts = { stored: 0, failed: 0, all: 0, bytes: 0, sent: 0 };

function add(files) {
  for (const file of files) {
    const line = document.createElement("li");
    const state = document.createElement("output");
    state.textContent = "waits";
    line.append(state, file.webkitRelativePath || file.path || file.name);
    element("uploads").append(line);
    queue.push({ file, line, state });
    counts.all += 1;
    counts.bytes += file.size;
  }
  element("upload").hidden = counts.all === 0;
  showProgress();
  while (running < parallelRequests && queue.length) work();
}

function nextBatch() {
  const batch = [];
  let bytes = 0;
  while (queue.length && (batch.length === 0 || bytes + queue[0].file.size <= batchBytes)) {
    bytes += queue[0].file.size;
    batch.push(queue.shift());
  }
  return batch;
}

async function work() {
  running += 1;
  while (queue.length) {
    const batch = nextBatch();
    try {
      await send(batch);
    } catch (error) {
      for (const item of batch) settle(item, "failed", error.message);
    }
  }
  running -= 1;
  if (running === 0) showPage(0);
}

/** Sends a batch as one request; what the server could not take at the moment is sent again after a while. */
async function send(batch) {
  for (let attempt = 1; ; attempt++) {
    const { status, body } = await post(batch);
    if (status === 503 && attempt < attempts) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** attempt));
      continue;
    }
    return report(batch, status, body);
  }
}

function post(batch) {
  const boundary = `cuspid-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const head = `\r\n--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`;
  const body = new Blob([...batch.flatMap((item) => [head, item.file]), `\r\n--${boundary}--`]);
  const request = new XMLHttpRequest();
  request.open("POST", `${service}/studies`);
  request.setRequestHeader("Content-Type", `multipart/related; type="application/dicom"; boundary=${boundary}`);
  request.setRequestHeader("Accept", "application/dicom+json");
  for (const [name, value] of Object.entries(access.headers())) request.setRequestHeader(name, value);
  let sent = 0;
  const advance = (bytes) => {
    counts.sent += bytes - sent;
    sent = bytes;
    showBatch(batch, sent);
    showProgress();
  };
  return new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => advance(event.loaded);
    request.onload = () => {
      if (request.status === 503) advance(0);
      if (request.status === 401) askToSignIn();
      resolve({ status: request.status, body: request.responseText });
    };
    request.onerror = () => reject(new Error("the connection failed"));
    request.send(body);
  });
}

/** Shows how much of each file of a batch is under way; the files go out one after the other. */
function showBatch(batch, sent) {
  for (const { file, state } of batch) {
    const share = file.size ? Math.min(1, Math.max(0, sent) / file.size) : 1;
    state.textContent = `${Math.round(100 * share)} %`;
    sent -= file.size;
  }
}

/**
 * Tells each file of a batch what became of it. The answer names instances, not files: if all were stored, so was
 * each; else a batch is sent again file by file, which does not store anything twice.
 */
async function report(batch, status, body) {
  if (status === 200 || (batch.length === 1 && status === 202 && stored(body))) {
    for (const item of batch) settle(item, "stored", status === 202 ? "stored with warnings" : "stored");
  } else if (batch.length === 1) {
    settle(batch[0], "failed", reason(status, body));
  } else {
    for (const item of batch) await send([item]);
  }
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

function stored(body) {
  return Boolean(parsed(body)["00081199"]);
}

const reasons = {
  0x0110: "the server failed",
  0x0122: "SOP class not accepted",
  0xa700: "no room or too large",
  0xa900: "conflicts with what is stored",
  0xc000: "not DICOM or damaged",
};

function reason(status, body) {
  const answer = parsed(body);
  const item = (answer["00081198"] ?? answer["0008119A"])?.Value?.[0];
  const code = item?.["00081197"]?.Value?.[0];
  return reasons[code] ?? answer.detail ?? `status ${status}`;
}

function settle(item, outcome, text) {
  item.line.className = outcome;
  item.state.textContent = text;
  counts[outcome] += 1;
  showProgress();
}

function showProgress() {
  const { all, stored: done, failed, bytes, sent } = counts;
  element("total").max = Math.max(1, bytes);
  element("total").value = done + failed === all ? bytes : Math.min(sent, bytes);
  const failures = failed ? `, ${failed} not stored` : "";
  element("summary").textContent = `${done} of ${all} files stored${failures}`;
}

/** The files of what was dropped, folders opened. */
async function filesOf(entries) {
  const files = [];
  const open = [...entries];
  while (open.length) {
    const entry = open.pop();
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      file.path = entry.fullPath.slice(1);
      files.push(file);
      continue;
    }
    const reader = entry.createReader();
    // A reader gives some hundred entries at a time, and none at the end.
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (some.length === 0) break;
      open.push(...some);
    }
  }
  return files;
}

const drop = element("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  add(await filesOf(entries));
});
for (const [button, input] of [["pick-files", "files"], ["pick-folder", "folder"]]) {
  element(button).addEventListener("click", () => element(input).click());
  element(input).addEventListener("change", () => {
    add(element(input).files);
    element(input).value = "";
  });
}

try {
  await access.finish();
} catch (error) {
  element("message").textContent = `Nobody is signed in: ${error.message}`;
  element("message").className = "failed";
}
if (access.isNeeded && !access.hasToken()) {
  askToSignIn();
} else {
  listStudies();
}
