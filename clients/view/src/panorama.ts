// Where a panorama lies in its view: how it is enlarged and moved, and which point of the volume is at a place of the view.

import type { Vector } from "./geometry.js";
import type { Rectangle } from "./gl.js";

const LEAST_ZOOM = 0.25;
const MOST_ZOOM = 8;
/** The most pixels of a side: what every WebGL2 draws. */
const MOST_PIXELS = 8192;

/** A panorama that was drawn. */
export interface Drawn {
  /** The middle of the panorama, point by point. */
  curve: Vector[];
  /** The axis of the volume that goes up or down in the panorama. */
  axis: number;
  /** The places along this axis at the lower and the upper edge, in mm. */
  extent: [number, number];
  /** The view, and all of the panorama, in pixels of the canvas, from the bottom. */
  area: Rectangle;
  inner: Rectangle;
  /** Pixels of the canvas per CSS pixel. */
  ratio: number;
}

export class PanoramaPlace {
  private zoom = 1;
  /** In CSS pixels, from the middle of the view. */
  private shift: [number, number] = [0, 0];
  drawn: Drawn | null = null;

  /** Shows all of it again. */
  reset(): void {
    this.zoom = 1;
    this.shift = [0, 0];
  }

  /** Moves it by CSS pixels. */
  pan(dx: number, dy: number): void {
    this.shift = [this.shift[0] + dx, this.shift[1] + dy];
  }

  /** Enlarges it; what is at a place from the middle of the view stays there. */
  zoomBy(factor: number, x: number, y: number): void {
    const next = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, this.zoom * factor));
    this.shift = [x + (this.shift[0] - x) * (next / this.zoom), y + (this.shift[1] - y) * (next / this.zoom)];
    this.zoom = next;
  }

  /** The part of the canvas for all of it, length and height in mm: at one scale, in the middle of an area if nothing was moved. */
  inner(area: Rectangle, length: number, height: number, ratio: number): Rectangle {
    const scale = Math.min(Math.min(area.width / length, area.height / height) * this.zoom, MOST_PIXELS / Math.max(length, height));
    const [wide, high] = [Math.round(length * scale), Math.round(height * scale)];
    const x = area.x + Math.round((area.width - wide) / 2 + this.shift[0] * ratio);
    const y = area.y + Math.round((area.height - high) / 2 - this.shift[1] * ratio);
    return { x, y, width: wide, height: high };
  }

  /** The point of the volume at a place of the view, in CSS pixels from its upper left corner; `null` beside the panorama. */
  pointAt(x: number, y: number): Vector | null {
    if (!this.drawn) return null;
    const { curve, axis, extent, area, inner, ratio } = this.drawn;
    const along = (area.x + x * ratio - inner.x) / inner.width;
    const up = (area.y + area.height - y * ratio - inner.y) / inner.height;
    if (along < 0 || along > 1 || up < 0 || up > 1) return null;
    const point: Vector = [...curve[Math.round(along * (curve.length - 1))]];
    point[axis] = extent[0] + (extent[1] - extent[0]) * up;
    return point;
  }
}
