// Lengths and angles on a plane.

import { type Vector, angle, distance } from "./geometry.js";
import { number, text } from "./i18n.js";

export interface Measurement {
  kind: "length" | "angle";
  /** The plane on which it lies. */
  plane: string;
  /** Its points, in mm of the volume; two for a length, three for an angle, whose corner is the second. */
  points: Vector[];
}

export function isWhole({ kind, points }: Measurement): boolean {
  return points.length === (kind === "length" ? 2 : 3);
}

/** What is measured, with its unit. */
export function label({ kind, points }: Measurement, isInMillimetres: boolean): string {
  if (kind === "angle") return points.length === 3 ? text("degrees", { value: number(angle(points[0], points[1], points[2]), 1) }) : "";
  if (points.length < 2) return "";
  const value = number(distance(points[0], points[1]), 1);
  return text(isInMillimetres ? "millimetres" : "pixels", { value });
}
