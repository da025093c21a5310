// Multipart responses of one part (RFC 2046).

/** The body of the only part of a multipart message (RFC 2046). */
export function onlyPart(bytes: Uint8Array, contentType: string): Uint8Array {
  const boundary = /boundary="?([^";]+)"?/.exec(contentType)?.[1];
  const start = find(bytes, "\r\n\r\n");
  if (!boundary || start < 0) throw new Error("the multipart message cannot be read");
  const delimiter = `\r\n--${boundary}`;
  for (let at = bytes.length - delimiter.length; at > start; at--) {
    if (bytes[at] === 13 && find(bytes.subarray(at, at + delimiter.length), delimiter) === 0) return bytes.subarray(start + 4, at);
  }
  throw new Error("the multipart message is cut off");
}

function find(bytes: Uint8Array, text: string): number {
  const wanted = new TextEncoder().encode(text);
  outer: for (let at = 0; at + wanted.length <= bytes.length; at++) {
    for (let offset = 0; offset < wanted.length; offset++) if (bytes[at + offset] !== wanted[offset]) continue outer;
    return at;
  }
  return -1;
}
