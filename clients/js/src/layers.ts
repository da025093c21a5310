// Layers: the volume of each level, and where a decoded slice belongs in it.

import { type SeriesIndex, firstOf, levelSize } from "./format.js";

/** A volume at one level. Sample (i, j, k) lies at pixel (i × step, j × step) of slice start + k × stride. */
export interface Layer {
  level: number;
  /** 2^level. */
  step: number;
  stride: number;
  /** The slice of the first plane: 0, unless the stream is a part of a series. */
  start: number;
  columns: number;
  rows: number;
  /** Planes of the layer. */
  planes: number;
  /** The first stage that makes the layer whole, if with planes that stand in for others. */
  firstStage: number;
  /** The last stage that brings planes of the layer. */
  lastStage: number;
  /** The stride of the first stage: so many slices apart are the planes that are there first. */
  firstStride: number;
}

/** Whether slices make a volume: positions in space, equal size and equal meaning of samples, at least `least` slices. */
export function isVolume(index: SeriesIndex, least = 4): boolean {
  const described = index.slices.filter(({ image }) => image);
  const first = described[0];
  if (!index.isInSpace || !index.sliceSpacing || described.length < least || !first?.spacing || !first.orientation) return false;
  return described.every(({ image, spacing, orientation }) => {
    const same = image!.rows === first.image!.rows && image!.columns === first.image!.columns && image!.levels === first.image!.levels;
    const near = (one: number[] | null, other: number[]) => one?.every((value, axis) => Math.abs(value - other[axis]) < 1e-3);
    return same && image!.samples === 1 && near(spacing, first.spacing!) && near(orientation, first.orientation!);
  });
}

/** The layers of a series that is a volume, the coarsest first. */
export function layers(index: SeriesIndex): Layer[] {
  const image = index.slices.find((slice) => slice.image)?.image;
  if (!image) return [];
  const found = new Map<number, Layer>();
  index.stages.forEach(({ level: wanted, stride }, stage) => {
    const level = Math.min(wanted, image.levels - 1);
    const layer = found.get(level);
    if (layer) {
      layer.stride = Math.min(layer.stride, stride);
      layer.lastStage = stage;
      return;
    }
    found.set(level, {
      level,
      step: 2 ** level,
      stride,
      start: 0,
      firstStride: stride,
      firstStage: stage,
      lastStage: stage,
      columns: levelSize(image.columns, level),
      rows: levelSize(image.rows, level),
      planes: 0,
    });
  });
  const all = [...found.values()].sort((one, other) => other.level - one.level);
  for (const layer of all) {
    layer.start = firstOf(index.firstSlice, layer.stride);
    layer.planes = Math.ceil((index.slices.length - layer.start) / layer.stride);
  }
  return all;
}

/**
 * Which planes of a layer a slice is drawn in: its own, and the planes beside it that have no slice of their own yet, or never will.
 * @param hasOwn The planes that have their own slice; the plane of this slice is marked.
 * @param isGap Whether a slice has no image in the stream.
 */
export function planesOf(layer: Layer, slice: number, hasOwn: Uint8Array, isGap: (slice: number) => boolean = () => false): number[] {
  const own = (slice - layer.start) / layer.stride;
  if (!Number.isInteger(own) || own < 0 || own >= layer.planes) return [];
  hasOwn[own] = 1;
  const planes = [own];
  const reach = Math.max(1, layer.firstStride / layer.stride);
  const isEmpty = (plane: number) => isGap(layer.start + plane * layer.stride);
  let end = own + reach;
  while (end < layer.planes && isEmpty(end)) end += reach;
  for (let plane = own + 1; plane < layer.planes && plane < end && !hasOwn[plane]; plane++) planes.push(plane);
  // Nothing comes before the first slice.
  let before = own - reach;
  while (before >= 0 && isEmpty(before)) before -= reach;
  if (before < 0) for (let plane = own - 1; plane >= 0 && !hasOwn[plane]; plane--) planes.push(plane);
  return planes;
}
