// The files that people choose or drop, and what kind of files they are.
// @ts-check

/** @typedef {{ file: File, path: string, handle: any }} Found `handle` is a `FileSystemFileHandle`, where the browser has them. */

/** The files of what was dropped, with all that is in folders. @param {DataTransfer} transfer @returns {Promise<Found[]>} */
export async function dropped(transfer) {
  // Before anything is awaited: the browser takes the list away afterwards.
  const items = /** @type {any[]} */ ([...transfer.items].filter(({ kind }) => kind === "file"));
  const open = items.map((item) => ({ handle: item.getAsFileSystemHandle?.() ?? null, entry: item.webkitGetAsEntry() ?? item.getAsFile() }));
  const found = [];
  for (const { handle, entry } of open) {
    const held = await Promise.resolve(handle).catch(() => null);
    found.push(...(held ? await ofHandle(held, "") : await ofEntry(entry)));
  }
  return found;
}

/** The files of a file or folder (File System Access). @param {any} handle @param {string} within @returns {Promise<Found[]>} */
export async function ofHandle(handle, within) {
  const path = within + handle.name;
  if (handle.kind === "file") return [{ file: await handle.getFile(), path, handle }];
  const found = [];
  for await (const inner of handle.values()) found.push(...(await ofHandle(inner, `${path}/`)));
  return found;
}

/** @param {any} first @returns {Promise<Found[]>} */
async function ofEntry(first) {
  const open = [first].filter(Boolean);
  const found = [];
  while (open.length) {
    const entry = open.shift();
    if (entry instanceof File) {
      found.push({ file: entry, path: entry.name, handle: null });
    } else if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: entry.fullPath.slice(1), handle: null });
    } else {
      open.push(...(await entries(entry)));
    }
  }
  return found;
}

/** All entries of a folder. @param {any} folder */
async function entries(folder) {
  const reader = folder.createReader();
  const all = [];
  // A reader gives some hundred entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** The files of an input. @param {HTMLInputElement} input @returns {Found[]} */
export function chosen(input) {
  return [...(input.files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name, handle: null }));
}

/** Bytes at the beginning of a file that say what it is. */
const headBytes = 64 * 1024;
/** Names of files that systems put beside others. */
const companions = /(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|__MACOSX\/.*|\._[^/]*|DICOMDIR)$/i;

/** Whether a file is one that goes with others and is no image: they are left out without a word. @param {string} path */
export function isCompanion(path) {
  return companions.test(path);
}

/** A preamble may be that of another format, so DICOM's own mark comes first. */
const signatures = /** @type {const} */ ([
  ["dicom", 128, [0x44, 0x49, 0x43, 0x4d]],
  ["zip", 0, [0x50, 0x4b, 0x03, 0x04]],
  ["zip", 0, [0x50, 0x4b, 0x05, 0x06]],
  ["PDF", 0, [0x25, 0x50, 0x44, 0x46]],
  ["JPEG", 0, [0xff, 0xd8, 0xff]],
  ["PNG", 0, [0x89, 0x50, 0x4e, 0x47]],
]);

/**
 * What a file is, by its first bytes: `dicom`, `zip`, `unknown` (which may be DICOM without a header), or the name of a format
 * that cannot be stored as it is.
 * @param {Uint8Array} bytes The first bytes. @param {number} size All of them.
 */
export function kind(bytes, size) {
  const found = signatures.find(([, offset, mark]) => mark.every((byte, index) => bytes[offset + index] === byte));
  return found ? found[0] : isModel(bytes, size) ? "STL" : "unknown";
}

/**
 * Whether a file is a model of triangles, STL: in words, or as 80 bytes, a number of triangles and 50 bytes for each.
 * @param {Uint8Array} bytes @param {number} size
 */
function isModel(bytes, size) {
  if (bytes.length < 84) return false;
  if (/^\s*solid\b[^]*?\bfacet\s+normal\b/.test(String.fromCharCode(...bytes.subarray(0, 1024)))) return true;
  const triangles = new DataView(bytes.buffer, bytes.byteOffset).getUint32(80, true);
  return triangles > 0 && size === 84 + 50 * triangles;
}

/** The first bytes of a file; nothing if it cannot be read. @param {File} file */
export async function head(file) {
  try {
    return new Uint8Array(await file.slice(0, headBytes).arrayBuffer());
  } catch {
    return null;
  }
}

/** Whether files cannot be read any more. @param {File[]} files */
export async function areUnreadable(files) {
  for (const file of files) {
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return true;
    }
  }
  return false;
}

/** Whether files of a kind can be stored in DICOM files (`wrap.js`). @param {string} kind @returns {kind is import("./wrap.js").Kind} */
export function canWrap(kind) {
  return ["PDF", "JPEG", "PNG", "STL"].includes(kind);
}
