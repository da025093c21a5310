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
/** More than any index of a series needs: 64 MiB. */
const MAX_INDEX_BYTES = 1 << 26;

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

/** Reads the index. @param bytes The bytes of the index, without the header. */
export function parseIndex(bytes: Uint8Array): SeriesIndex {
  let json: any;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new FormatError(`the index cannot be read: ${error}`);
  }
  if (json.codec !== "j2k") throw new FormatError(`codec ${json.codec} is not supported`);
  const count = whole(json.count, "count");
  const images = list(json.images, "images").map(imageDescription);
  const slices = readSlices(json, count, images);
  const firstSlice = whole(json.first_slice ?? 0, "first_slice");
  const { stages, segments } = plan(json, slices, firstSlice, HEADER_BYTES + bytes.length);
  return {
    isComplete: json.state === "complete",
    numberOfSlices: whole(json.number_of_slices, "number_of_slices"),
    firstSlice,
    isInSpace: json.order === "space",
    sliceSpacing: json.slice_spacing ?? null,
    psnr: json.psnr?.db ?? null,
    slices,
    failures: json.failures ?? [],
    stages,
    segments,
    length: stages.at(-1)?.end ?? HEADER_BYTES + bytes.length,
  };
}

function readSlices(json: any, count: number, images: ImageDescription[]): Slice[] {
  const { prefix, rest } = json.instances;
  const columns = {
    instance: column(json.instance, count),
    frame: column(json.frame, count),
    image: column(json.image, count),
    position: column(json.position, count),
    orientation: column(json.orientation, count),
    spacing: column(json.spacing, count),
    rescale: column(json.rescale, count),
    window: column(json.window, count),
  };
  return Array.from({ length: count }, (_, number) => {
    const image = columns.image(number);
    if (image !== null && !images[image]) throw new FormatError(`slice ${number} has an image that is not described`);
    return {
      number,
      instance: prefix + rest[columns.instance(number)],
      frame: columns.frame(number),
      image: image === null ? null : images[image],
      position: columns.position(number),
      orientation: columns.orientation(number),
      spacing: columns.spacing(number),
      rescale: columns.rescale(number),
      window: columns.window(number),
    };
  });
}

/** Follows the order of the stream: which slice and level each of `lengths` is. */
function plan(json: any, slices: Slice[], firstSlice: number, body: number): { stages: Stage[]; segments: Segment[] } {
  const lengths = list(json.lengths, "lengths");
  const have = new Int16Array(slices.length).fill(-1);
  const segments: Segment[] = [];
  const stages: Stage[] = [];
  let offset = body;
  for (const { level, stride, end } of list(json.stages, "stages")) {
    whole(level, "level");
    if (!(whole(stride, "stride") > 0)) throw new FormatError("a stride is 0");
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
    if (offset !== body + end) throw new FormatError(`the segments of stage ${stages.length} do not end at its cut point`);
    stages.push({ level, stride, end: offset, segments: segments.length - before });
  }
  if (segments.length !== lengths.length) throw new FormatError("there are more lengths than segments");
  return { stages, segments };
}

/** The first slice of a stream whose place in the series is a multiple of a stride. @param firstSlice The place of the stream's slice 0. */
export function firstOf(firstSlice: number, stride: number): number {
  return (stride - (firstSlice % stride)) % stride;
}

function imageDescription(json: any): ImageDescription {
  for (const name of ["rows", "columns", "samples", "precision", "drop", "binning", "levels"]) whole(json[name], name);
  if (json.rows * json.columns === 0 || json.levels === 0) throw new FormatError("an image is empty");
  return { ...json, head: fromBase64(json.head) };
}

/** A column as a function of the slice. */
function column(json: any, count: number): (slice: number) => any {
  if (json && "all" in json) return () => json.all;
  if (json && "each" in json) {
    if (list(json.each, "a column").length !== count) throw new FormatError("a column has not as many values as slices");
    return (slice) => json.each[slice];
  }
  if (json && "first" in json) {
    const { first, step } = json;
    if (!Array.isArray(first)) return (slice) => first + slice * step;
    return (slice) => first.map((value: number, axis: number) => value + slice * step[axis]);
  }
  if (json === null || json === undefined) return () => null;
  throw new FormatError("a column has an unknown form");
}

function list(json: any, name: string): any[] {
  if (!Array.isArray(json)) throw new FormatError(`${name} is not a list`);
  return json;
}

function whole(json: any, name: string): number {
  if (!Number.isSafeInteger(json) || json < 0) throw new FormatError(`${name} is not a number`);
  return json;
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
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
