// Remembers which files are still to be sent, so that a reload of the page loses nothing: in IndexedDB, with handles of the
// files where the browser has them (File System Access), else by their names and sizes.
// @ts-check

/**
 * @typedef {{ id?: number, page?: string, path: string, size: number, handle: any }} KeptFile `handle` is a
 * `FileSystemFileHandle` or `null`; `page` the page that sends the file.
 */

const name = "cuspid.uploads";
const store = "files";

/** This page, while it is open: it holds a lock of this name, where the browser has locks. */
const page = `${name}.${Math.random().toString(36).slice(2)}`;
navigator.locks?.request(page, () => new Promise(() => {}));

/** @type {Promise<IDBDatabase> | null} */
let database = null;

function open() {
  database ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(store, { keyPath: "id", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return database;
}

/**
 * @template Result
 * @param {IDBTransactionMode} mode
 * @param {(files: IDBObjectStore) => IDBRequest<Result>[]} act
 * @returns {Promise<Result[]>}
 */
async function transact(mode, act) {
  const transaction = (await open()).transaction(store, mode);
  const requests = act(transaction.objectStore(store));
  await new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(null);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
  return requests.map((request) => request.result);
}

/** Remembers files; returns their numbers. Without a database (a private window), nothing is remembered. @param {KeptFile[]} files @returns {Promise<number[]>} */
export async function remember(files) {
  try {
    return /** @type {number[]} */ (await transact("readwrite", (kept) => files.map((file) => kept.add({ ...file, page }))));
  } catch {
    return files.map(() => 0);
  }
}

/**
 * Forgets the files of closed pages that were chosen again: those of the same size and path. The path may be given from another folder on.
 * @param {{ path: string, size: number }[]} chosen
 */
export async function forgetChosen(chosen) {
  const rest = await left();
  if (rest.length === 0) return;
  /** @type {Map<string, string[]>} By the name and the size. */
  const paths = new Map();
  const key = (/** @type {{ path: string, size: number }} */ { path, size }) => `${size} ${path.split("/").pop()}`;
  for (const one of chosen) paths.set(key(one), [...(paths.get(key(one)) ?? []), `/${one.path}`]);
  const found = rest.filter((one) => {
    const path = `/${one.path}`;
    const same = paths.get(key(one)) ?? [];
    const at = same.findIndex((other) => other.endsWith(path) || path.endsWith(other));
    if (at >= 0) same.splice(at, 1);
    return at >= 0;
  });
  if (found.length === 0) return;
  await transact("readwrite", (kept) => found.map(({ id }) => kept.delete(id ?? 0))).catch(() => {});
  events.dispatchEvent(new Event("change"));
}

/** Tells that files of closed pages need not be sent any more: `change`. */
export const events = new EventTarget();

/** @type {Set<number>} */
const settled = new Set();
let timer = 0;

/** Forgets a file that needs not be sent any more. @param {number} id */
export function forget(id) {
  if (!id) return;
  settled.add(id);
  timer ||= window.setTimeout(flush, 200);
}

async function flush() {
  clearTimeout(timer);
  timer = 0;
  const ids = [...settled];
  settled.clear();
  if (ids.length) await transact("readwrite", (kept) => ids.map((one) => kept.delete(one))).catch(() => {});
}
addEventListener("pagehide", flush);

/** The files of pages that are closed. @returns {Promise<KeptFile[]>} */
export async function left() {
  const [found] = await transact("readonly", (kept) => [kept.getAll()]).catch(() => [[]]);
  const held = await navigator.locks?.query().then(({ held }) => held).catch(() => []);
  const open = new Set([page, ...(held ?? []).map(({ name }) => name)]);
  return found.filter((/** @type {KeptFile} */ file) => !open.has(file.page ?? ""));
}
