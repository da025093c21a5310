// The format of the fast stream, version 2 (docs/fast-stream.md): header, index, and which slice each segment belongs to.

/** The description of codestreams that slices share. */
export interface ImageDescription {
  rows: number;
  columns: number;
  /** 1, or 3: interleaved after decoding. */
  samples: number;
  /** Bits of a sample after `drop` has been undone. */
  precision: number;
  /** Low bits that were rounded away. */
  drop: number;
  signed: boolean;
  photometric: string;
  /** Pixels of the original that each side of a pixel covers. */
  binning: number;
  lossless: boolean;
  /** The number of levels; level 0 is the whole image. */
  levels: number;
  /** The main header of the codestreams. */
  head: Uint8Array;
}

/** The place and the meaning of a slice. */
export interface Slice {
  /** From 0, in the order of the stream. */
  number: number;
  /** SOP Instance UID. */
  instance: string;
  /** From 1. */
  frame: number;
  /** `null` if the slice could not be encoded. */
  image: ImageDescription | null;
  /** The centre of the first pixel in the patient, in mm. */
  position: number[] | null;
  orientation: number[] | null;
  /** Distance between rows and between columns of level 0, in mm. */
  spacing: number[] | null;
  /** Slope and intercept. */
  rescale: number[] | null;
  /** Centre and width, of values after the rescale. */
  window: number[] | null;
}

/** A stage: slices whose place in the series is a multiple of `stride` are there in `level` or finer. */
export interface Stage {
  level: number;
  stride: number;
  /** Where the stage ends, in bytes from the start of the stream. */
  end: number;
  /** The number of segments that the stage brings. */
  segments: number;
}

/** The next bytes of a slice, up to the end of a level. */
export interface Segment {
  slice: number;
  level: number;
  stage: number;
  /** From the start of the stream, in bytes. */
  offset: number;
  length: number;
}

/** All that a stream says before its first segment. */
export interface SeriesIndex {
  isComplete: boolean;
  /** Slices of the series that are known. */
  numberOfSlices: number;
  firstSlice: number;
  isInSpace: boolean;
  /** Distance of neighbours in mm. */
  sliceSpacing: number | null;
  /** Peak signal to noise ratio in dB, where it was measured. */
  psnr: number | null;
  slices: Slice[];
  failures: { slice: number; reason: string }[];
  stages: Stage[];
  segments: Segment[];
  /** Bytes of the whole stream. */
  length: number;
}

/** The stream is not what a reader of version 2 understands. */
export class FormatError extends Error {}

export const HEADER_BYTES = 16;
/** JPEG 2000, and high-throughput JPEG 2000: one decoder for both. */
const CODECS = new Set(["j2k", "htj2k"]);
/** More than any index of a series needs: 64 MiB. */
const MAX_INDEX_BYTES = 1 << 26;
/** More than the strides of all levels make. */
const MAX_STAGES = 256;
/** Rows and Columns have 16 bits (PS3.3 §C.7.6.3). */
const MAX_SIDE = 65535;
const MAX_PRECISION = 16;
/** JPEG 2000 has at most 32 decompositions. */
const MAX_LEVELS = 33;

/** The length of the index in bytes. @param header The first 16 bytes of the stream. */
export function indexLength(header: Uint8Array): number {
  if (header.length < HEADER_BYTES) throw new FormatError("the header is cut off");
  const magic = String.fromCharCode(...header.subarray(0, 8));
  if (magic !== "CUSPIDST") throw new FormatError("this is no fast stream");
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const version = view.getUint32(8, true);
  if (version !== 2) throw new FormatError(`version ${version} of the fast stream is not supported`);
  const length = view.getUint32(12, true);
  if (length > MAX_INDEX_BYTES) throw new FormatError("the index is too long");
  return length;
}

/**
 * Reads the index. Nothing is allocated by a number that the index claims: a slice has a segment or a failure in it.
 * @param bytes The bytes of the index, without the header.
 */
export function parseIndex(bytes: Uint8Array): SeriesIndex {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new FormatError(`the index cannot be read: ${error}`);
  }
  const json = record(parsed, "the index");
  if (!CODECS.has(text(json.codec, "codec"))) throw new FormatError(`codec ${json.codec} is not supported`);
  const failures = list(json.failures ?? [], "failures").map(failed);
  const lengths = list(json.lengths, "lengths");
  const count = whole(json.count, "count");
  if (count > lengths.length + failures.length) throw new FormatError("there are more slices than segments and failures");
  const images = list(json.images, "images").map(imageDescription);
  const slices = readSlices(json, count, images);
  const firstSlice = whole(json.first_slice ?? 0, "first_slice");
  const { stages, segments } = plan(json, lengths, slices, firstSlice, HEADER_BYTES + bytes.length);
  return {
    isComplete: json.state === "complete",
    numberOfSlices: whole(json.number_of_slices, "number_of_slices"),
    firstSlice,
    isInSpace: json.order === "space",
    sliceSpacing: isNothing(json.slice_spacing) ? null : (positive([finite(json.slice_spacing, "slice_spacing")])?.[0] ?? null),
    psnr: isNothing(json.psnr) ? null : finite(record(json.psnr, "psnr").db, "psnr"),
    slices,
    failures,
    stages,
    segments,
    length: stages.at(-1)?.end ?? HEADER_BYTES + bytes.length,
  };
}

function readSlices(json: Json, count: number, images: ImageDescription[]): Slice[] {
  const instances = record(json.instances, "instances");
  const prefix = text(instances.prefix, "prefix");
  const rest = list(instances.rest, "rest");
  const of = (name: string) => column(json[name], count, name);
  const [instance, frame, image] = [of("instance"), of("frame"), of("image")];
  const [position, orientation, spacing, rescale, window] = ["position", "orientation", "spacing", "rescale", "window"].map(of);
  return Array.from({ length: count }, (_, number) => {
    const described = image(number);
    if (described !== null && !images[whole(described, "image")]) throw new FormatError(`slice ${number} has an image that is not described`);
    return {
      number,
      instance: prefix + text(rest[whole(instance(number), "instance")], "an instance"),
      frame: whole(frame(number), "frame"),
      image: described === null ? null : images[described as number],
      position: numbers(position(number), 3, "position"),
      orientation: numbers(orientation(number), 6, "orientation"),
      spacing: positive(numbers(spacing(number), 2, "spacing")),
      rescale: numbers(rescale(number), 2, "rescale"),
      window: numbers(window(number), 2, "window"),
    };
  });
}

/** Follows the order of the stream: which slice and level each of `lengths` is. */
function plan(json: Json, lengths: unknown[], slices: Slice[], firstSlice: number, body: number): { stages: Stage[]; segments: Segment[] } {
  const have = new Int16Array(slices.length).fill(-1);
  const segments: Segment[] = [];
  const stages: Stage[] = [];
  let offset = body;
  for (const stage of list(json.stages, "stages")) {
    if (stages.length === MAX_STAGES) throw new FormatError("there are too many stages");
    const { level: claimedLevel, stride: claimedStride, end } = record(stage, "a stage");
    const [level, stride] = [whole(claimedLevel, "level"), whole(claimedStride, "stride")];
    if (stride === 0) throw new FormatError("a stride is 0");
    const before = segments.length;
    for (let slice = firstOf(firstSlice, stride); slice < slices.length; slice += stride) {
      const { image } = slices[slice];
      if (!image) continue;
      const target = Math.min(level, image.levels - 1);
      if (have[slice] !== -1 && have[slice] <= target) continue;
      have[slice] = target;
      const length = whole(lengths[segments.length], "a length");
      segments.push({ slice, level: target, stage: stages.length, offset, length });
      offset += length;
    }
    if (offset !== body + whole(end, "end")) throw new FormatError(`the segments of stage ${stages.length} do not end at its cut point`);
    stages.push({ level, stride, end: offset, segments: segments.length - before });
  }
  if (segments.length !== lengths.length) throw new FormatError("there are more lengths than segments");
  return { stages, segments };
}

/** The first slice of a stream whose place in the series is a multiple of a stride. @param firstSlice The place of the stream's slice 0. */
export function firstOf(firstSlice: number, stride: number): number {
  return (stride - (firstSlice % stride)) % stride;
}

function imageDescription(described: unknown): ImageDescription {
  const json = record(described, "an image");
  const within = (name: string, least: number, most: number) => {
    const value = whole(json[name], name);
    if (value < least || value > most) throw new FormatError(`${name} is ${value}, and not from ${least} to ${most}`);
    return value;
  };
  const precision = within("precision", 1, MAX_PRECISION);
  const samples = within("samples", 1, 3);
  if (samples === 2) throw new FormatError("an image has 2 samples a pixel");
  return {
    rows: within("rows", 1, MAX_SIDE),
    columns: within("columns", 1, MAX_SIDE),
    samples,
    precision,
    drop: within("drop", 0, precision - 1),
    signed: json.signed === true,
    photometric: text(json.photometric, "photometric"),
    binning: within("binning", 1, MAX_SIDE),
    lossless: json.lossless === true,
    levels: within("levels", 1, MAX_LEVELS),
    head: fromBase64(text(json.head, "head")),
  };
}

function failed(entry: unknown): { slice: number; reason: string } {
  const { slice, reason } = record(entry, "a failure");
  return { slice: whole(slice, "a failed slice"), reason: text(reason, "a reason") };
}

/** A column as a function of the slice. */
function column(described: unknown, count: number, name: string): (slice: number) => unknown {
  if (isNothing(described)) return () => null;
  const json = record(described, name);
  if ("all" in json) return () => json.all;
  if ("each" in json) {
    const each = list(json.each, name);
    if (each.length !== count) throw new FormatError(`${name} has not as many values as there are slices`);
    return (slice) => each[slice];
  }
  if (!("first" in json)) throw new FormatError(`${name} has an unknown form`);
  if (!Array.isArray(json.first)) {
    const [first, step] = [finite(json.first, name), finite(json.step, name)];
    return (slice) => first + slice * step;
  }
  const first = numbers(json.first, json.first.length, name)!;
  const step = numbers(json.step, first.length, name) ?? [];
  if (step.length !== first.length) throw new FormatError(`${name} has no step`);
  return (slice) => first.map((value, axis) => value + slice * step[axis]);
}

type Json = Record<string, unknown>;

function isNothing(json: unknown): json is null | undefined {
  return json === null || json === undefined;
}

function record(json: unknown, name: string): Json {
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw new FormatError(`${name} is not an object`);
  return json as Json;
}

function list(json: unknown, name: string): unknown[] {
  if (!Array.isArray(json)) throw new FormatError(`${name} is not a list`);
  return json;
}

function text(json: unknown, name: string): string {
  if (typeof json !== "string") throw new FormatError(`${name} is not a text`);
  return json;
}

function whole(json: unknown, name: string): number {
  if (!Number.isSafeInteger(json) || (json as number) < 0) throw new FormatError(`${name} is not a whole number`);
  return json as number;
}

function finite(json: unknown, name: string): number {
  // JSON can write numbers that are too large for a double.
  if (!Number.isFinite(json)) throw new FormatError(`${name} is not a number`);
  return json as number;
}

/** So many numbers; `null` if there are none. */
function numbers(json: unknown, count: number, name: string): number[] | null {
  if (isNothing(json)) return null;
  const found = list(json, name);
  if (found.length !== count) throw new FormatError(`${name} has not ${count} numbers`);
  return found.map((value) => finite(value, name));
}

/** Distances; one that is not positive says nothing. */
function positive(distances: number[] | null): number[] | null {
  return distances?.every((value) => value > 0) ? distances : null;
}

function fromBase64(encoded: string): Uint8Array {
  try {
    return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  } catch {
    throw new FormatError("head is not base64");
  }
}

/** The number of samples along a side of `length` pixels in a level. */
export function levelSize(length: number, level: number): number {
  return Math.ceil(length / 2 ** level);
}

/** The codestream of a slice: the head, its segments so far, and the end marker. */
export function codestream(head: Uint8Array, segments: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const length = segments.reduce((sum, segment) => sum + segment.length, head.length + 2);
  const bytes = new Uint8Array(length);
  bytes.set(head);
  let at = head.length;
  for (const segment of segments) {
    bytes.set(segment, at);
    at += segment.length;
  }
  bytes[at] = 0xff;
  bytes[at + 1] = 0xd9;
  return bytes;
}
