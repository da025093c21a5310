// What is shown of a series: textures that fill while slices arrive, and what of them is original.

import { type DecodedSlice, type HalfFloats, type Layer, type SeriesIndex, type Slice, StandIns, isVolume, layers, planesFor } from "@cuspid/client";

import { type Box, type Plane, type Vector, imagePlane, planes, volumeBox } from "./geometry.js";
import type { Painter, Samples3D } from "./gl.js";
import { type Statistics, fromHalf, statistics } from "./histogram.js";
import type { FrameSamples } from "./originals.js";

interface FilledLayer {
  layer: Layer;
  samples: Samples3D;
  hasOwn: Uint8Array;
}

/** A slice in a texture of its own. */
interface Sharp {
  samples: Samples3D;
  isOriginal: boolean;
  level: number;
}

/** So many slices have a texture of their own at once. */
const SHARP_SLICES = 12;

export class Scene {
  readonly isVolume: boolean;
  readonly box: Box;
  /** Corners of the outermost samples' voxels, in mm. */
  readonly bounds: [Vector, Vector];
  readonly planes: Plane[];
  /** What is subtracted from values in textures. */
  readonly offset: number;
  readonly layers: FilledLayer[] = [];
  statistics: Statistics | null = null;
  /** The number of slices whose original samples are in the volume. */
  originals = 0;
  private readonly standIns = new StandIns();
  private readonly isOriginal: Uint8Array;
  private readonly plan: Layer[];
  private readonly left: number[];
  private readonly sharp = new Map<number, Sharp>();
  private readonly images = new Map<number, DecodedSlice>();
  private coarse: Float32Array[] = [];

  constructor(readonly index: SeriesIndex, private readonly painter: Painter) {
    this.isVolume = isVolume(index);
    const first = index.slices.find(({ image }) => image) ?? index.slices[0];
    this.box = this.isVolume ? volumeBox(index) : imageBox(index, first);
    const { count, spacing } = this.box;
    this.bounds = [spacing.map((value) => -value / 2) as Vector, count.map((value, axis) => (value - 0.5) * spacing[axis]) as Vector];
    this.planes = this.box.directions ? planes(this.box.directions) : [imagePlane(first?.orientation ?? null)];
    this.plan = this.isVolume ? layers(index) : [];
    this.left = index.stages.map(({ segments }) => segments);
    this.isOriginal = new Uint8Array(index.slices.length);
    this.offset = offsetOf(first);
  }

  /** The plane in which slices were made. */
  get slicePlane(): Plane {
    return this.planes.find(({ normal }) => normal === 2)!;
  }

  /** How many stages fit into a number of bytes. */
  stagesWithin(bytes: number): number {
    if (!this.isVolume) return this.index.stages.length;
    let sum = 0;
    const fitting = this.plan.filter(({ columns, rows, planes }) => {
      sum += 2 * columns * rows * planes;
      return sum <= bytes && Math.max(columns, rows, planes) <= this.painter.max3D;
    });
    const finest = fitting.at(-1)?.level ?? this.plan[0]?.level ?? 0;
    return this.index.stages.filter(({ level }) => level >= finest).length;
  }

  half(slice: Slice): HalfFloats | null {
    const [slope, intercept] = slice.rescale ?? [1, 0];
    return (slice.image?.samples ?? 1) > 1 ? null : { slope, intercept, offset: this.offset };
  }

  /** Takes a slice of the preview. */
  put(decoded: DecodedSlice): void {
    this.left[decoded.stage]--;
    const { number } = decoded.slice;
    this.standIns.note(number, decoded.level, decoded.standIn);
    if (decoded.stage === 0 && decoded.samples === 1) this.gather(decoded);
    if (!this.isVolume) {
      // What is there of the slice stays.
      if (decoded.standIn) return;
      const before = this.images.get(number);
      if (!before || before.level >= decoded.level) this.images.set(number, decoded);
      const shown = this.sharp.get(number);
      if (shown && !shown.isOriginal) this.drop(number);
      return;
    }
    const filled = this.layerOf(decoded.level);
    if (!filled) return;
    const { layer, samples, hasOwn } = filled;
    for (const plane of planesFor(this.index, layer, number, decoded.standIn, hasOwn)) {
      // The original is better than what comes late.
      if (layer.level === 0 && this.isOriginal[plane * layer.stride]) continue;
      this.painter.upload(samples, plane, decoded.data);
    }
  }

  /** Whether the whole volume can be replaced by its original frames. */
  get canBeOriginal(): boolean {
    const layer = this.layers.find(({ layer }) => layer.level === 0)?.layer;
    return this.isVolume && layer?.stride === 1 && this.index.slices.every(({ image }) => !image || image.binning === 1);
  }

  /** Takes the original samples of a slice. @returns Whether the slice is in the volume. */
  putOriginal(slice: Slice, frame: FrameSamples, isLookedAt: boolean): boolean {
    const filled = this.layers.find(({ layer }) => layer.level === 0);
    const fits = filled && filled.layer.columns === frame.columns && filled.layer.rows === frame.rows && filled.layer.stride === 1 && !frame.isColour;
    if (fits) {
      this.painter.upload(filled.samples, slice.number, frame.data);
      filled.hasOwn[slice.number] = 1;
      if (!this.isOriginal[slice.number]) this.originals++;
      this.isOriginal[slice.number] = 1;
    } else if (isLookedAt) {
      const samples = this.single(slice.number, frame.columns, frame.rows, frame.isColour);
      if (samples) {
        this.painter.upload(samples, 0, frame.data);
        this.keep(slice.number, { samples, isOriginal: true, level: 0 });
      }
    }
    return Boolean(fits);
  }

  /** Whether what a slice shows is original. */
  isSliceOriginal(number: number): boolean {
    return this.isOriginal[number] === 1 || this.sharp.get(number)?.isOriginal === true || this.isLossless(number);
  }

  /** Whether a slice shows a coarser level or another slice, because it cannot be decoded. */
  hasStandIn(number: number): boolean {
    if (this.isOriginal[number] || this.sharp.get(number)?.isOriginal) return false;
    return this.standIns.of(number) !== null || (this.isVolume && !this.index.slices[number]?.image);
  }

  /** Whether all that planes through the volume show is original. */
  get isWholeOriginal(): boolean {
    const shown = this.finest();
    return shown?.layer.level === 0 && shown.layer.stride === 1 && this.index.slices.every(({ number, image }) => !image || this.isOriginal[number] || this.isLossless(number));
  }

  private isLossless(number: number): boolean {
    const image = this.index.slices[number]?.image;
    if (!image?.lossless || image.binning !== 1 || this.standIns.of(number)) return false;
    return this.isVolume ? this.finest()?.layer.level === 0 && Boolean(this.finest()?.hasOwn[number]) : this.images.get(number)?.level === 0;
  }

  /** The finest layer that is whole; `atMost` is the largest number of columns. */
  finest(atMost = Infinity): FilledLayer | null {
    const whole = this.layers.filter(({ layer }) => this.left[layer.firstStage] === 0 || this.originals === this.index.slices.length);
    return whole.findLast(({ layer }) => layer.columns <= atMost) ?? whole[0] ?? null;
  }

  /** The samples of a slice for its own plane: its own texture, or the volume. */
  samplesOf(number: number): Samples3D | null {
    const own = this.sharp.get(number);
    if (own?.isOriginal || (own && !this.isVolume)) {
      // What is used last is dropped last.
      this.sharp.delete(number);
      this.sharp.set(number, own);
      return own.samples;
    }
    if (this.isVolume) return this.finest()?.samples ?? null;
    const image = this.images.get(number);
    if (!image) return null;
    const samples = this.single(number, image.width, image.height, image.samples > 1, 2 ** image.level);
    if (!samples) return null;
    this.painter.upload(samples, 0, image.data);
    this.keep(number, { samples, isOriginal: false, level: image.level });
    return samples;
  }

  /** The level of the preview that a slice shows; -1 if there is nothing yet. */
  levelOf(number: number): number {
    return this.isVolume ? (this.finest()?.layer.level ?? -1) : (this.images.get(number)?.level ?? -1);
  }

  /** The corners and the size of an image, which can differ from slice to slice where there is no volume. */
  boxOf(number: number): Box {
    return this.isVolume ? this.box : imageBox(this.index, this.index.slices[number]);
  }

  boundsOf(number: number): [Vector, Vector] {
    if (this.isVolume) return this.bounds;
    const { count, spacing } = this.boxOf(number);
    return [[-spacing[0] / 2, -spacing[1] / 2, -1e6], [(count[0] - 0.5) * spacing[0], (count[1] - 0.5) * spacing[1], 1e6]];
  }

  free(): void {
    for (const { samples } of this.layers) this.painter.free(samples);
    for (const number of [...this.sharp.keys()]) this.drop(number);
    this.layers.length = 0;
    this.images.clear();
  }

  private single(number: number, columns: number, rows: number, isColour: boolean, step = 0): Samples3D | null {
    const { image } = this.index.slices[number];
    // Originals can be larger than their preview by its binning.
    const factor = step || (image && columns > image.columns ? 1 / image.binning : 1);
    const [x, y] = this.boxOf(number).spacing;
    return this.painter.texture([columns, rows, 1], [1 / (x * factor), 1 / (y * factor), 0], isColour);
  }

  private keep(number: number, sharp: Sharp): void {
    this.drop(number);
    this.sharp.set(number, sharp);
    if (this.sharp.size > SHARP_SLICES) this.drop(this.sharp.keys().next().value!);
  }

  private drop(number: number): void {
    const found = this.sharp.get(number);
    if (found) this.painter.free(found.samples);
    this.sharp.delete(number);
  }

  private layerOf(level: number): FilledLayer | null {
    const found = this.layers.find(({ layer }) => layer.level === level);
    const layer = this.plan.find((layer) => layer.level === level);
    if (found || !layer) return found ?? null;
    const { spacing } = this.box;
    const density: Vector = [1 / (spacing[0] * layer.step), 1 / (spacing[1] * layer.step), 1 / (spacing[2] * layer.stride)];
    const samples = this.painter.texture([layer.columns, layer.rows, layer.planes], density, false);
    if (!samples) return null;
    const made = { layer, samples, hasOwn: new Uint8Array(layer.planes) };
    this.layers.push(made);
    this.layers.sort((one, other) => other.layer.level - one.layer.level);
    return made;
  }

  private gather({ data, standIn }: DecodedSlice): void {
    // Of a long series of images a few tell enough.
    if (this.coarse.length < 128 && !standIn) this.coarse.push(Float32Array.from(data, (bits) => fromHalf(bits) + this.offset));
    if (this.left[0] > 0 && (this.isVolume || this.statistics)) return;
    if (this.coarse.length === 0) return;
    const all = new Float32Array(this.coarse.reduce((sum, { length }) => sum + length, 0));
    this.coarse.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    this.statistics = statistics(all);
    if (this.left[0] === 0) this.coarse = [];
  }
}

function imageBox(index: SeriesIndex, slice: Slice | undefined): Box {
  const spacing = slice?.spacing;
  return {
    count: [slice?.image?.columns ?? 1, slice?.image?.rows ?? 1, index.slices.length],
    spacing: [spacing?.[1] ?? 1, spacing?.[0] ?? 1, 1],
    isInMillimetres: Boolean(spacing),
    directions: null,
  };
}

/**
 * Half floats have 11 bits: they are exact near this value. Of up to 12 bits the middle, and all integers are exact; else the middle
 * of the window.
 */
function offsetOf(slice: Slice | undefined): number {
  const image = slice?.image;
  const [slope, intercept] = slice?.rescale ?? [1, 0];
  if (!image || image.samples > 1) return 0;
  if (image.precision <= 12) return Math.round(intercept + slope * (image.signed ? 0 : 2 ** (image.precision - 1)));
  return Math.round(slice!.window?.[0] ?? intercept + slope * 1024);
}
