// One view of the page: its element, where its middle is, and what is written over its image.

import type { Box, Plane, Vector } from "./geometry.js";
import { text } from "./i18n.js";

/** What a view shows: nothing, the preview, the original, or something in the place of an image that cannot be decoded. */
export type Mark = "none" | "preview" | "original" | "stand-in";
export type ViewName = Plane["name"] | "volume" | "panorama";

/** Milliseconds for which a hint is shown. */
const HINT_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";

export class View {
  readonly element = document.createElement("section");
  readonly overlay = document.createElementNS(SVG, "svg");
  private readonly corners: Record<"title" | "badge" | "place" | "window" | "hint", HTMLElement>;
  private readonly edges: HTMLElement[];
  private hintTimer = 0;
  /** CSS pixels per mm; 0 before the first layout. */
  zoom = 0;
  /** The zoom that shows all. */
  fitted = 0;
  /** The sizes of the view and the box for which it does. */
  private fittedTo = "";
  /** The point in the middle, in mm, along `right` and `down` of the plane. */
  middle: [number, number] = [0, 0];

  constructor(readonly name: ViewName, readonly plane: Plane | null) {
    this.element.className = "view";
    this.element.dataset.view = name;
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "img");
    const part = (className: string) => {
      const element = document.createElement("div");
      element.className = className;
      this.element.append(element);
      return element;
    };
    this.element.append(this.overlay);
    this.overlay.setAttribute("aria-hidden", "true");
    this.corners = { title: part("corner title"), badge: part("corner badge"), place: part("corner place"), window: part("corner values"), hint: part("corner hint") };
    this.corners.hint.setAttribute("role", "status");
    this.edges = ["left", "right", "top", "bottom"].map((side) => part(`edge ${side}`));
    plane?.letters.forEach((letter, at) => (this.edges[at].textContent = letter));
  }

  say(corner: keyof View["corners"], words: string): void {
    if (this.corners[corner].textContent !== words) this.corners[corner].textContent = words;
  }

  /** Says something for some seconds. */
  hint(words: string): void {
    this.say("hint", words);
    clearTimeout(this.hintTimer);
    if (words) this.hintTimer = window.setTimeout(() => this.say("hint", ""), HINT_MS);
  }

  mark(state: Mark): void {
    this.corners.badge.dataset.state = state;
    this.element.dataset.state = state;
  }

  /** Writes what does not change with the slice. */
  label(): void {
    this.say("title", text(this.name));
    this.element.setAttribute("aria-label", text(this.name));
  }

  get width(): number {
    return this.element.clientWidth;
  }

  get height(): number {
    return this.element.clientHeight;
  }

  get isVisible(): boolean {
    return this.width > 0 && this.height > 0;
  }

  /** Shows all of a box. */
  fit(box: Box): void {
    if (!this.plane || !this.isVisible) return;
    const { right, down } = this.plane;
    const [wide, high] = [box.count[right] * box.spacing[right], box.count[down] * box.spacing[down]];
    this.fitted = Math.min(this.width / wide, this.height / high);
    this.fittedTo = this.sizes(box);
    this.zoom = this.fitted;
    this.middle = [((box.count[right] - 1) * box.spacing[right]) / 2, ((box.count[down] - 1) * box.spacing[down]) / 2];
  }

  /** Fits a box again where the view or the box has another size than before; what was enlarged stays so. */
  refit(box: Box): void {
    if (!this.plane || !this.isVisible || this.fittedTo === this.sizes(box)) return;
    const { zoom, fitted, middle } = this;
    this.fit(box);
    if (zoom !== 0 && zoom !== fitted) [this.zoom, this.middle] = [zoom * (this.fitted / fitted), middle];
  }

  private sizes({ count, spacing }: Box): string {
    return [this.width, this.height, ...count, ...spacing].join(" ");
  }

  /** The point of the volume at a place of the view, on the plane through `through`. */
  toVolume(x: number, y: number, through: Vector): Vector {
    const { right, down, rightSign, downSign } = this.plane!;
    const point: Vector = [...through];
    point[right] = this.middle[0] + (rightSign * (x - this.width / 2)) / this.zoom;
    point[down] = this.middle[1] + (downSign * (y - this.height / 2)) / this.zoom;
    return point;
  }

  toView(point: Vector): [number, number] {
    const { right, down, rightSign, downSign } = this.plane!;
    return [
      this.width / 2 + rightSign * (point[right] - this.middle[0]) * this.zoom,
      this.height / 2 + downSign * (point[down] - this.middle[1]) * this.zoom,
    ];
  }

  /** Moves the image by CSS pixels. */
  pan(dx: number, dy: number): void {
    const { rightSign, downSign } = this.plane!;
    this.middle[0] -= (rightSign * dx) / this.zoom;
    this.middle[1] -= (downSign * dy) / this.zoom;
  }

  /** Enlarges; what is at a place stays there. */
  zoomBy(factor: number, x = this.width / 2, y = this.height / 2): void {
    const before = this.toVolume(x, y, [0, 0, 0]);
    this.zoom = Math.max(this.fitted / 4, Math.min(this.fitted * 40, this.zoom * factor));
    const after = this.toVolume(x, y, [0, 0, 0]);
    const { right, down } = this.plane!;
    this.middle[0] += before[right] - after[right];
    this.middle[1] += before[down] - after[down];
  }
}

/** An element of SVG. */
export function shape(name: string, attributes: Record<string, string | number>, words = ""): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (words) element.textContent = words;
  return element;
}
