// The curve of a panorama: a smooth line through points on a plane, cut into equal lengths.

import { type Vector, cross, distance, normalized, subtract } from "./geometry.js";

/** A point between two others on a Catmull-Rom curve. */
function between(before: Vector, from: Vector, to: Vector, after: Vector, t: number): Vector {
  return [0, 1, 2].map((axis) => {
    const [a, b, c, d] = [before[axis], from[axis], to[axis], after[axis]];
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t ** 3);
  }) as Vector;
}

/** `count` points at equal distances on the curve through `points`, the directions across it, and its length in mm. */
export function resample(points: Vector[], normal: Vector, count: number): { curve: Vector[]; across: Vector[]; length: number } {
  const fine: Vector[] = [];
  for (let at = 0; at < points.length - 1; at++) {
    const [before, after] = [points[Math.max(0, at - 1)], points[Math.min(points.length - 1, at + 2)]];
    for (let step = 0; step < 32; step++) fine.push(between(before, points[at], points[at + 1], after, step / 32));
  }
  fine.push(points.at(-1)!);
  const lengths = [0];
  for (let at = 1; at < fine.length; at++) lengths.push(lengths[at - 1] + distance(fine[at], fine[at - 1]));
  const length = lengths.at(-1)!;
  const curve: Vector[] = [];
  for (let number = 0, at = 0; number < count; number++) {
    const goal = (length * number) / (count - 1);
    while (at < fine.length - 2 && lengths[at + 1] < goal) at++;
    const part = Math.min(1, (goal - lengths[at]) / (lengths[at + 1] - lengths[at] || 1));
    curve.push(fine[at].map((value, axis) => value + (fine[at + 1][axis] - value) * part) as Vector);
  }
  const across = curve.map((_, number) => {
    const along = subtract(curve[Math.min(count - 1, number + 1)], curve[Math.max(0, number - 1)]);
    return normalized(cross(normal, along));
  });
  return { curve, across, length };
}

/**
 * The points of an arch that opens to the back: a parabola. @param middle Its front. @param right A unit vector to one side. @param
 * back A unit vector to the back.
 */
export function arch(middle: Vector, right: Vector, back: Vector, halfWidth: number, depth: number): Vector[] {
  return [-1, -0.86, -0.6, -0.3, 0, 0.3, 0.6, 0.86, 1].map((part) =>
    middle.map((value, axis) => value + right[axis] * part * halfWidth + back[axis] * depth * part ** 2 * (0.55 + 0.45 * part ** 2)) as Vector,
  );
}
