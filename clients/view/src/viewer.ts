// The views of a series: what they show, and how they are drawn.

import { arch, resample } from "./curve.js";
import { type Plane, type Vector, cross, normalized, toVolume, turned } from "./geometry.js";
import { type Frame, type Grey, MAX_CURVE, type Painter, type Rectangle } from "./gl.js";
import { number, text } from "./i18n.js";
import { type Measurement, label } from "./measure.js";
import { PanoramaPlace } from "./panorama.js";
import type { Scene } from "./scene.js";
import { type Mark, View, type ViewName, shape } from "./view.js";

export type PresetName = "stored" | "bone" | "soft" | "teeth" | "auto";
export const PRESETS: PresetName[] = ["stored", "bone", "soft", "teeth", "auto"];
/** Windows for Hounsfield units: centre, width. */
const HOUNSFIELD: Partial<Record<PresetName, [number, number]>> = { bone: [500, 2500], soft: [40, 400], teeth: [1400, 3200] };

/** Milliseconds without a change after which a volume is rendered where the processor draws, and finely elsewhere. */
const IDLE_MS = 250;

/** How finely a volume is rendered. */
interface Quality {
  /** The most columns of the layer that is rendered. */
  columns: number;
  /** The most pixels of a side. */
  pixels: number;
  /** The length of a step, in voxels. */
  step: number;
}

const IN_SOFTWARE: Quality = { columns: 128, pixels: 256, step: 0.5 };
const WHILE_TURNING: Quality = { columns: 256, pixels: 512, step: 1 };
const AT_REST: Quality = { columns: 512, pixels: 1024, step: 0.5 };

export class Viewer {
  scene: Scene | null = null;
  views: View[] = [];
  /** The point at which the planes cross, in mm. */
  point: Vector = [0, 0, 0];
  private start: Vector = [0, 0, 0];
  window: [number, number] = [0, 1];
  preset: PresetName | null = null;
  hasCross = true;
  isBone = true;
  isMaximum = false;
  /** Of the panorama, in mm. */
  thickness = 12;
  curve: Vector[] | null = null;
  readonly panorama = new PanoramaPlace();
  measurements: Measurement[] = [];
  /** From the eye, and up, in the axes of the volume. */
  private camera: { direction: Vector; up: Vector } = { direction: [0, 1, 0], up: [0, 0, 1] };
  private cameraZoom = 1;
  private dirty = new Set<ViewName>();
  private isScheduled = false;
  private idleTimer = 0;
  private isTurning = false;
  /** What the volume rendering on the screen, or the one that is about to be made, shows. */
  private rendered: { key: string; scene: Scene | null } = { key: "", scene: null };

  constructor(readonly painter: Painter, readonly stage: HTMLElement, private readonly onDrawn: () => void) {
    new ResizeObserver(() => this.resize()).observe(stage);
  }

  /** Shows a series; `keep` keeps window, zoom and measurements of the same series that has grown. */
  show(scene: Scene, keep: boolean): void {
    this.scene?.free();
    this.scene = scene;
    if (!keep) {
      for (const view of this.views) view.element.remove();
      const names: [ViewName, Plane | null][] = scene.planes.map((plane) => [plane.name, plane]);
      if (scene.isVolume) names.push(["volume", null], ["panorama", null]);
      this.views = names.map(([name, plane]) => new View(name, plane));
      this.stage.append(...this.views.map(({ element }) => element));
      this.measurements = [];
      this.curve = null;
      this.panorama.reset();
      this.faceCamera();
    }
    // A series that has grown has another middle, which is where one is who went nowhere else.
    const isUnmoved = this.point.every((value, axis) => value === this.start[axis]);
    if (!keep || isUnmoved) {
      const { count, spacing } = scene.box;
      this.start = [0, 1, 2].map((axis) => Math.floor(count[axis] / 2) * spacing[axis]) as Vector;
      if (!scene.isVolume) this.start[2] = 0;
      this.point = [...this.start];
    }
    this.stage.dataset.mode = scene.isVolume ? "volume" : "images";
    for (const view of this.views) view.label();
    this.resize();
  }

  get slicePlane(): Plane {
    return this.scene!.slicePlane;
  }

  view(name: ViewName): View | undefined {
    return this.views.find((view) => view.name === name);
  }

  /** The slice that is looked at, from 0. */
  get slice(): number {
    const { box } = this.scene!;
    return Math.max(0, Math.min(box.count[2] - 1, Math.round(this.point[2] / box.spacing[2])));
  }

  /** The place of a plane, in samples along its normal. */
  place(plane: Plane): number {
    const { spacing, count } = this.scene!.box;
    return Math.max(0, Math.min(count[plane.normal] - 1, Math.round(this.point[plane.normal] / spacing[plane.normal])));
  }

  /** Goes through slices; up on the screen is towards the head, or forward. */
  scroll(plane: Plane, steps: number): void {
    const { spacing, count } = this.scene!.box;
    const to = Math.max(0, Math.min(count[plane.normal] - 1, this.place(plane) + steps));
    this.moveTo(plane.normal, to * spacing[plane.normal]);
  }

  moveTo(axis: number, millimetres: number): void {
    const { spacing, count } = this.scene!.box;
    this.point[axis] = Math.max(0, Math.min((count[axis] - 1) * spacing[axis], millimetres));
    // Slices are shown as they were made, not between two of them.
    if (axis === 2) this.point[2] = Math.round(this.point[2] / spacing[2]) * spacing[2];
    this.invalidate();
  }

  setPoint(point: Vector): void {
    point.forEach((value, axis) => this.moveTo(axis, value));
  }

  setWindow(centre: number, width: number): void {
    this.window = [centre, Math.max(width, 1)];
    this.preset = null;
    this.invalidate();
  }

  usePreset(name: PresetName): void {
    const stored = this.scene?.index.slices[this.slice]?.window;
    const values = name === "stored" ? stored : name === "auto" ? this.scene?.statistics?.window : HOUNSFIELD[name];
    if (!values) return;
    this.setWindow(values[0], values[1]);
    this.preset = name;
  }

  /** Whether a preset means anything for this series: Hounsfield units reach down to air. */
  hasPreset(name: PresetName): boolean {
    if (name === "auto") return this.scene?.statistics !== null;
    if (name === "stored") return Boolean(this.scene?.index.slices[this.slice]?.window);
    return Boolean(this.scene?.isVolume && this.scene.statistics && this.scene.statistics.min < -500);
  }

  reset(): void {
    if (!this.scene) return;
    for (const view of this.views) view.fit(this.scene.boxOf(this.slice));
    this.faceCamera();
    this.panorama.reset();
    this.invalidate();
  }

  /** Looks from the front, head up. */
  faceCamera(): void {
    const directions = this.scene?.box.directions;
    if (directions) this.camera = { direction: normalized(toVolume(directions, [0, 1, 0])), up: normalized(toVolume(directions, [0, 0, 1])) };
    this.cameraZoom = 1;
  }

  turn(dx: number, dy: number): void {
    const { direction, up } = this.camera;
    const right = cross(direction, up);
    const yaw = (vector: Vector) => turned(vector, up, -dx * 0.01);
    const pitch = (vector: Vector) => turned(vector, right, -dy * 0.01);
    this.camera = { direction: normalized(pitch(yaw(direction))), up: normalized(pitch(up)) };
    this.isTurning = true;
    this.invalidate("volume");
  }

  zoomCamera(factor: number): void {
    this.cameraZoom = Math.max(0.3, Math.min(8, this.cameraZoom * factor));
    this.isTurning = true;
    this.invalidate("volume");
  }

  /** Begins a panorama with an arch at the front of the head. */
  startCurve(): void {
    if (this.curve || !this.scene?.box.directions) return;
    const { directions, count, spacing } = this.scene.box;
    const plane = this.view("axial")?.plane;
    if (!plane) return;
    const [right, back] = [unit(plane.right), unit(plane.down, plane.downSign)];
    // A dental arch is some 55 mm deep and 90 mm wide; a small volume holds less of it.
    const size = (axis: number) => count[axis] * spacing[axis];
    const halfWidth = Math.min(45, size(plane.right) * 0.38);
    const depth = Math.min(65, size(plane.down) * 0.45);
    const front: Vector = [...this.point];
    front[plane.right] = size(plane.right) / 2;
    const edge = size(plane.down) > 150 ? 0.2 : 0.12;
    front[plane.down] = size(plane.down) * (plane.downSign > 0 ? edge : 1 - edge);
    this.curve = arch(front, right, back, halfWidth, depth);
    this.invalidate();
  }

  /** Draws again: all views, or one. */
  invalidate(name?: ViewName): void {
    if (name) this.dirty.add(name);
    else for (const view of this.views) this.dirty.add(view.name);
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => {
      this.isScheduled = false;
      this.draw();
    });
  }

  private resize(): void {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const { canvas } = this.painter;
    const [width, height] = [Math.round(this.stage.clientWidth * ratio), Math.round(this.stage.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (!this.scene) return;
    this.rendered.key = "";
    // At once: a canvas whose size changes is black until it is drawn.
    for (const { name } of this.views) this.dirty.add(name);
    this.draw();
  }

  /** The part of the canvas that a view covers, from the bottom. */
  private area(view: View): Rectangle {
    const ratio = this.painter.canvas.width / this.stage.clientWidth;
    const [stage, box] = [this.stage.getBoundingClientRect(), view.element.getBoundingClientRect()];
    const x = Math.round((box.left - stage.left) * ratio);
    const y = Math.round((stage.bottom - box.bottom) * ratio);
    return { x, y, width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) };
  }

  private draw(): void {
    if (!this.scene) return;
    const dirty = [...this.dirty];
    this.dirty.clear();
    for (const view of this.views) {
      // Another view is drawn in the place of a hidden one.
      if (!view.isVisible && view.name === "volume") this.rendered.key = "";
      if (!view.isVisible || !dirty.includes(view.name)) continue;
      // Views become larger or smaller, or are shown again, at any time.
      view.refit(this.scene.boxOf(this.slice));
      if (view.plane) this.drawPlane(view, view.plane);
      else if (view.name === "panorama") this.drawPanorama(view);
      else this.drawVolume(view);
    }
    this.onDrawn();
  }

  private grey(): Grey {
    const [centre, width] = this.window;
    const photometric = this.scene!.index.slices[this.slice]?.image?.photometric;
    // PS3.3 §C.11.2.1.2.1.
    const low = centre - 0.5 - (width - 1) / 2 - this.scene!.offset;
    return { low, high: low + Math.max(width - 1, 1), isInverted: photometric === "MONOCHROME1" };
  }

  private drawPlane(view: View, plane: Plane): void {
    const scene = this.scene!;
    const isSlice = plane.normal === 2;
    const samples = isSlice ? scene.samplesOf(this.slice) : (scene.finest()?.samples ?? null);
    const area = this.area(view);
    if (!samples) this.painter.clear(area);
    else {
      const middle: Vector = [...this.point];
      middle[plane.right] = view.middle[0];
      middle[plane.down] = view.middle[1];
      if (!scene.isVolume) middle[2] = 0;
      const frame: Frame = {
        middle,
        right: unit(plane.right, (plane.rightSign * view.width) / 2 / view.zoom),
        up: unit(plane.down, (-plane.downSign * view.height) / 2 / view.zoom),
      };
      this.painter.slice(area, samples, scene.boundsOf(this.slice), frame, this.grey());
    }
    const isOriginal = samples !== null && (isSlice ? scene.isSliceOriginal(this.slice) : scene.isWholeOriginal);
    const isReplaced = isSlice && scene.hasStandIn(this.slice);
    this.mark(view, isReplaced ? "stand-in" : samples === null ? "none" : isOriginal ? "original" : "preview");
    const count = scene.box.count[plane.normal];
    view.say("place", text("slice", { number: this.place(plane) + 1, count }));
    const isColour = samples?.isColour;
    const percent = Math.round(view.zoom * (scene.boxOf(this.slice).spacing[plane.right] ?? 1) * 100);
    const words = isColour ? "" : `${text("windowValue", { centre: number(Math.round(this.window[0])), width: number(Math.round(this.window[1])) })}  `;
    view.say("window", words + text("zoomValue", { percent }));
    this.drawOverlay(view, plane);
  }

  private mark(view: View, state: Mark): void {
    view.mark(state);
    const isNarrow = view.width < 420;
    const words = {
      none: "", original: text("badgeOriginal"), preview: text(isNarrow ? "badgePreviewShort" : "badgePreview"),
      "stand-in": text(!this.scene!.isVolume ? "badgeDamaged" : isNarrow ? "badgeStandInShort" : "badgeStandIn"),
    };
    view.say("badge", words[state]);
  }

  private drawOverlay(view: View, plane: Plane): void {
    const parts: SVGElement[] = [];
    if (this.hasCross && this.scene!.isVolume) {
      const [x, y] = view.toView(this.point);
      const colour = (axis: number) => this.views.find((other) => other.plane?.normal === axis)?.name ?? "image";
      parts.push(shape("line", { x1: x, x2: x, y1: 0, y2: view.height, class: `cross ${colour(plane.right)}` }));
      parts.push(shape("line", { x1: 0, x2: view.width, y1: y, y2: y, class: `cross ${colour(plane.down)}` }));
    }
    if (this.curve && plane.name === "axial") parts.push(...this.curveShapes(view));
    const { spacing, isInMillimetres } = this.scene!.boxOf(this.slice);
    for (const measurement of this.measurements) {
      const away = Math.abs(measurement.points[0][plane.normal] - (this.scene!.isVolume ? this.point[plane.normal] : this.slice * spacing[2]));
      if (measurement.plane === plane.name && away < spacing[plane.normal] / 2) parts.push(...measurementShapes(view, measurement, isInMillimetres));
    }
    view.overlay.replaceChildren(...parts);
  }

  private curveShapes(view: View): SVGElement[] {
    const { curve } = resample(this.curve!, unit(view.plane!.normal), MAX_CURVE / 4);
    const line = curve.map((point) => view.toView(point).map((value) => value.toFixed(1)).join(",")).join(" ");
    return [
      shape("polyline", { points: line, class: "curve band", "stroke-width": this.thickness * view.zoom }),
      shape("polyline", { points: line, class: "curve" }),
      ...this.curve!.map((point, at) => {
        const [x, y] = view.toView(point);
        return shape("circle", { cx: x, cy: y, r: 6, class: "handle", "data-handle": at });
      }),
    ];
  }

  private drawPanorama(view: View): void {
    const scene = this.scene!;
    const samples = scene.finest()?.samples;
    const plane = this.view("axial")?.plane;
    const area = this.area(view);
    this.painter.clear(area);
    if (!samples || !this.curve || !plane) return;
    const { curve, across, length } = resample(this.curve, unit(plane.normal), MAX_CURVE);
    const { count, spacing, directions } = scene.box;
    const height = (count[plane.normal] - 1) * spacing[plane.normal];
    const isUp = directions![plane.normal][2] >= 0;
    const ratio = this.painter.canvas.width / this.stage.clientWidth;
    const inner = this.panorama.inner(area, length, height, ratio);
    const flat = curve.map((point) => {
      const moved: Vector = [...point];
      moved[plane.normal] = 0;
      return moved;
    });
    const extent: [number, number] = isUp ? [0, height] : [height, 0];
    this.panorama.drawn = { curve, axis: plane.normal, extent, area, inner, ratio };
    this.painter.panorama(inner, area, samples, scene.bounds, this.grey(), flat, across, unit(plane.normal), extent, this.thickness, this.isMaximum);
    // A rendering, even of originals.
    this.mark(view, "preview");
    view.say("place", text("millimetres", { value: number(length, 0) }));
    view.say("window", text("thickness", { mm: number(this.thickness) }));
    if (scene.isWholeOriginal) view.say("badge", text("badgeRendering"));
  }

  private drawVolume(view: View): void {
    const scene = this.scene!;
    const { isSoftware } = this.painter;
    const quality = isSoftware ? IN_SOFTWARE : this.isTurning ? WHILE_TURNING : AT_REST;
    const filled = scene.finest(quality.columns);
    const area = this.area(view);
    if (!filled || !scene.statistics) {
      this.painter.clear(area);
      return;
    }
    // Slices that change do not change the rendering, until there is a finer layer.
    const { direction, up } = this.camera;
    const key = JSON.stringify([filled.layer.level, direction, up, this.cameraZoom, this.isBone, quality, area]);
    if (key === this.rendered.key && scene === this.rendered.scene) return;
    this.rendered = { key, scene };
    clearTimeout(this.idleTimer);
    // A rendering by the processor blocks the page: it is made once, when nothing else happens.
    if (isSoftware) this.idleTimer = window.setTimeout(() => scene === this.scene && this.renderVolume(view, filled, quality), IDLE_MS);
    else this.renderVolume(view, filled, quality);
    if (!isSoftware && this.isTurning) {
      this.idleTimer = window.setTimeout(() => {
        this.isTurning = false;
        this.invalidate("volume");
      }, IDLE_MS);
    }
    this.mark(view, "preview");
    view.say("badge", text("badgeRendering"));
    view.say("place", text(this.isBone ? "surfaceBone" : "surfaceSoft"));
  }

  private renderVolume(view: View, { samples }: NonNullable<ReturnType<Scene["finest"]>>, { pixels, step }: Quality): void {
    const scene = this.scene!;
    if (!view.isVisible) return;
    const area = this.area(view);
    const [first, last] = scene.bounds;
    const extent = last.map((value, axis) => value - first[axis]) as Vector;
    const middle = extent.map((value, axis) => first[axis] + value / 2) as Vector;
    const radius = Math.hypot(...extent) / 2;
    const half = (0.52 * Math.max(...extent)) / this.cameraZoom;
    const { direction, up } = this.camera;
    const right = normalized(cross(direction, up));
    const aspect = area.width / area.height;
    const [halfWidth, halfHeight] = aspect > 1 ? [half * aspect, half] : [half, half / aspect];
    const scaled = (vector: Vector, factor: number) => vector.map((value) => value * factor) as Vector;
    const eye = middle.map((value, axis) => value - direction[axis] * radius * 2) as Vector;
    const { min, lower, upper } = scene.statistics!;
    const threshold = this.isBone ? upper : lower;
    const voxel = samples.density.map((value) => 1 / value) as Vector;
    const factor = Math.min(1, pixels / Math.max(area.width, area.height));
    const rendering = {
      frame: { middle: eye, right: scaled(right, halfWidth), up: scaled(up, halfHeight) },
      direction,
      from: min + (threshold - min) * (this.isBone ? 0.92 : 0.8) - scene.offset,
      to: min + (threshold - min) * (this.isBone ? 1.35 : 1.2) - scene.offset,
      isBone: this.isBone,
      step: Math.min(...voxel) * step,
      voxel,
    };
    this.painter.render(area, samples, scene.bounds, rendering, Math.round(area.width * factor), Math.round(area.height * factor));
    view.element.dataset.rendered = String(samples.count[0]);
  }
}

/** The unit vector along an axis, times a factor. */
function unit(axis: number, factor = 1): Vector {
  const vector: Vector = [0, 0, 0];
  vector[axis] = factor;
  return vector;
}

function measurementShapes(view: View, measurement: Measurement, isInMillimetres: boolean): SVGElement[] {
  const places = measurement.points.map((point) => view.toView(point));
  const line = places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const [x, y] = places[measurement.kind === "angle" ? Math.min(1, places.length - 1) : places.length - 1];
  return [
    shape("polyline", { points: line, class: "measurement" }),
    ...places.map(([cx, cy]) => shape("circle", { cx, cy, r: 3.5, class: "measurement point" })),
    shape("text", { x: Math.min(x + 8, view.width - 70), y: Math.max(14, y - 8), class: "measurement" }, label(measurement, isInMillimetres)),
  ];
}
