// A volume in memory that grows: typed arrays with their geometry, a level at a time.

import type { Samples } from "./decoder.js";
import type { SeriesIndex } from "./format.js";
import { type Layer, layers } from "./layers.js";
import type { DecodedSlice } from "./load.js";
import { StandIns, planesFor } from "./stand-in.js";

/** Where the samples of a volume lie in the patient. */
export interface Geometry {
  /** Columns, rows, planes. */
  dimensions: [number, number, number];
  /** Distance of neighbours along rows, along columns, between planes, in mm. */
  spacing: [number, number, number];
  /** The first sample, in mm. */
  origin: number[];
  /** Unit vectors: along a row, along a column, from plane to plane. */
  direction: number[];
}

/** A level of the volume. */
export interface VolumeLevel {
  layer: Layer;
  geometry: Geometry;
  /** Stored values, columns first, then rows, then planes. */
  data: Samples;
  /** Whether a plane has its own slice; else another stands in for it. */
  hasOwn: Uint8Array;
}

/** The geometry of a layer; samples of a coarse layer lie where their first pixel lies. */
export function geometry(index: SeriesIndex, layer: Layer): Geometry {
  const first = index.slices.find(({ position }) => position)!;
  const last = index.slices.findLast(({ position }) => position)!;
  const [rowX, rowY, rowZ, columnX, columnY, columnZ] = first.orientation!;
  const row = [rowX, rowY, rowZ];
  const column = [columnX, columnY, columnZ];
  const span = last.position!.map((value, axis) => value - first.position![axis]);
  const length = Math.hypot(...span);
  // From the first slice to the last: right for a tilted gantry too, whose planes do not follow their normal.
  const apart = last.number > first.number ? length / (last.number - first.number) : index.sliceSpacing!;
  const along = length > 0 ? span.map((value) => value / length) : cross(row, column);
  const [rows, columns] = first.spacing!;
  return {
    dimensions: [layer.columns, layer.rows, layer.planes],
    spacing: [columns * layer.step, rows * layer.step, apart * layer.stride],
    origin: first.position!.map((value, axis) => value + along[axis] * apart * (layer.start - first.number)),
    direction: [...row, ...column, ...along],
  };
}

function cross([a, b, c]: number[], [x, y, z]: number[]): number[] {
  return [b * z - c * y, c * x - a * z, a * y - b * x];
}

/** A volume to which slices are given as they are decoded. */
export class GrowingVolume {
  readonly levels: VolumeLevel[] = [];
  /** The slices that could not be decoded, with what stands in for them. */
  readonly standIns = new StandIns();
  private readonly plan: Layer[];
  private readonly left: number[];

  constructor(private readonly index: SeriesIndex) {
    this.plan = layers(index);
    this.left = index.stages.map(({ segments }) => segments);
  }

  /** The finest level that is whole, if with planes that stand in for others; `null` before the end of the first stage. */
  finest(): VolumeLevel | null {
    return this.levels.findLast(({ layer }) => this.left[layer.firstStage] === 0) ?? null;
  }

  /** Takes a slice. @returns The level, and its planes that changed. */
  put({ slice, level, stage, data, standIn }: DecodedSlice): { level: VolumeLevel; planes: number[] } | null {
    this.left[stage]--;
    this.standIns.note(slice.number, level, standIn);
    const found = this.level(level, data);
    if (!found) return null;
    const { layer, hasOwn } = found;
    const planes = planesFor(this.index, layer, slice.number, standIn, hasOwn);
    const size = layer.columns * layer.rows;
    for (const plane of planes) found.data.set(data as any, plane * size);
    return { level: found, planes };
  }

  private level(level: number, like: Samples): VolumeLevel | null {
    const found = this.levels.find(({ layer }) => layer.level === level);
    const layer = this.plan.find((layer) => layer.level === level);
    if (found || !layer) return found ?? null;
    const Type = like.constructor as new (length: number) => Samples;
    const made: VolumeLevel = {
      layer,
      geometry: geometry(this.index, layer),
      data: new Type(layer.columns * layer.rows * layer.planes),
      hasOwn: new Uint8Array(layer.planes),
    };
    this.levels.push(made);
    this.levels.sort((one, other) => other.layer.level - one.layer.level);
    return made;
  }
}
