// Planes through a volume as people look at them, and the letters at their edges.

import type { SeriesIndex } from "@cuspid/client";

export type Vector = [number, number, number];
export type PlaneName = "axial" | "coronal" | "sagittal" | "image";

/**
 * A plane of a view. Points are in the volume's own millimetres: along its rows, along its columns, from slice to slice, from the
 * first sample of the first slice.
 */
export interface Plane {
  name: PlaneName;
  /** The axis that goes through the plane, the one to the right of the screen, and the one down. */
  normal: number;
  right: number;
  down: number;
  /** Whether the axis grows to the right, or down: 1 or −1. */
  rightSign: number;
  downSign: number;
  /** Letters at the left, right, top and bottom edge. */
  letters: [string, string, string, string];
}

/** The size of a volume, or of one image. */
export interface Box {
  /** Columns, rows, slices. */
  count: Vector;
  /** Distance of neighbours, in mm; pixels where the size is not known. */
  spacing: Vector;
  isInMillimetres: boolean;
  /** Unit vectors of the patient along the three axes; `null` where the orientation is not known. */
  directions: Vector[] | null;
}

const LETTERS: [string, string][] = [["R", "L"], ["A", "P"], ["I", "S"]];

export function volumeBox(index: SeriesIndex): Box {
  const positioned = index.slices.filter(({ position }) => position);
  const [first, last] = [positioned[0], positioned.at(-1)!];
  const row = first.orientation!.slice(0, 3) as Vector;
  const column = first.orientation!.slice(3) as Vector;
  const span = subtract(last.position as Vector, first.position as Vector);
  const length = Math.hypot(...span);
  const isLong = length > 0 && last.number > first.number;
  const along = isLong ? (span.map((value) => value / length) as Vector) : cross(row, column);
  const apart = isLong ? length / (last.number - first.number) : index.sliceSpacing!;
  const { image, spacing } = first;
  return {
    count: [image!.columns, image!.rows, index.slices.length],
    spacing: [spacing![1], spacing![0], apart],
    isInMillimetres: true,
    directions: [row, column, along],
  };
}

/** The three planes of a volume, each along two of its axes, in the order axial, coronal, sagittal. */
export function planes(directions: Vector[]): Plane[] {
  const axes = anatomicalAxes(directions);
  const plane = (name: PlaneName, normal: number, right: number, down: number, downSign: number): Plane => {
    const sign = (patient: number) => (directions[axes[patient]][patient] < 0 ? -1 : 1);
    const bottom = LETTERS[down][downSign > 0 ? 1 : 0];
    const top = LETTERS[down][downSign > 0 ? 0 : 1];
    return {
      name,
      normal: axes[normal],
      right: axes[right],
      down: axes[down],
      rightSign: sign(right),
      downSign: downSign * sign(down),
      letters: [LETTERS[right][0], LETTERS[right][1], top, bottom],
    };
  };
  return [plane("axial", 2, 0, 1, 1), plane("coronal", 1, 0, 2, -1), plane("sagittal", 0, 1, 2, -1)];
}

/** The plane of images that make no volume: as they are. */
export function imagePlane(orientation: number[] | null): Plane {
  const letter = (vector: number[] | undefined, sign: number) => {
    if (!vector) return "";
    const axis = vector.reduce((best, value, at) => (Math.abs(value) > Math.abs(vector[best]) ? at : best), 0);
    return LETTERS[axis][vector[axis] * sign > 0 ? 1 : 0];
  };
  const [row, column] = [orientation?.slice(0, 3), orientation?.slice(3)];
  const letters: Plane["letters"] = [letter(row, -1), letter(row, 1), letter(column, -1), letter(column, 1)];
  return { name: "image", normal: 2, right: 0, down: 1, rightSign: 1, downSign: 1, letters };
}

/** For each axis of the patient, the axis of the volume that is nearest to it. */
function anatomicalAxes(directions: Vector[]): number[] {
  const pairs = directions.flatMap((direction, volume) => direction.map((value, patient) => ({ volume, patient, size: Math.abs(value) })));
  pairs.sort((one, other) => other.size - one.size);
  const found: number[] = [];
  const used = new Set<number>();
  for (const { volume, patient } of pairs) {
    if (found[patient] !== undefined || used.has(volume)) continue;
    found[patient] = volume;
    used.add(volume);
  }
  return found;
}

/** A direction of the patient in the axes of the volume. */
export function toVolume(directions: Vector[], patient: Vector): Vector {
  return directions.map((direction) => dot(direction, patient)) as Vector;
}

export function subtract(one: Vector, other: Vector): Vector {
  return [one[0] - other[0], one[1] - other[1], one[2] - other[2]];
}

export function dot(one: Vector, other: Vector): number {
  return one[0] * other[0] + one[1] * other[1] + one[2] * other[2];
}

export function cross([a, b, c]: Vector, [x, y, z]: Vector): Vector {
  return [b * z - c * y, c * x - a * z, a * y - b * x];
}

export function normalized(vector: Vector): Vector {
  const length = Math.hypot(...vector) || 1;
  return [vector[0] / length, vector[1] / length, vector[2] / length];
}

/** Turns a vector around an axis (a unit vector) by an angle in radians. */
export function turned(vector: Vector, axis: Vector, angle: number): Vector {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const side = cross(axis, vector);
  const along = dot(axis, vector) * (1 - cos);
  return [0, 1, 2].map((at) => vector[at] * cos + side[at] * sin + axis[at] * along) as Vector;
}

/** Distance in the units of the volume. */
export function distance(one: Vector, other: Vector): number {
  return Math.hypot(...subtract(one, other));
}

/** The angle at `corner`, in degrees. */
export function angle(one: Vector, corner: Vector, other: Vector): number {
  const [a, b] = [normalized(subtract(one, corner)), normalized(subtract(other, corner))];
  return (Math.acos(Math.max(-1, Math.min(1, dot(a, b)))) * 180) / Math.PI;
}
