// Mouse, touch, wheel and keys on the views.

import type { Vector } from "./geometry.js";
import { text } from "./i18n.js";
import { isWhole } from "./measure.js";
import type { View } from "./view.js";
import type { Viewer } from "./viewer.js";

export type Tool = "point" | "window" | "pan" | "zoom" | "length" | "angle";
export const TOOLS: Tool[] = ["point", "window", "pan", "zoom", "length", "angle"];

/** A finger moves so far, in CSS pixels, for a slice. */
const SWIPE = 9;
/** A touch that moves less is a tap. */
const TAP = 8;

interface Finger {
  x: number;
  y: number;
  startX: number;
  startY: number;
}

/** What a drag does, with the movement since the last event. */
type Drag = (dx: number, dy: number, x: number, y: number) => void;

export class Input {
  tool: Tool = "point";
  private fingers = new Map<number, Finger>();
  private drag: Drag | null = null;
  private swiped = 0;
  private wheel = 0;

  constructor(private readonly viewer: Viewer, private readonly onMaximize: (view: View) => void) {
    const { stage } = viewer;
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const type of ["pointerup", "pointercancel"] as const) stage.addEventListener(type, (event) => this.up(event));
    stage.addEventListener("wheel", (event) => this.turnWheel(event), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("dblclick", (event) => {
      // A captured pointer's click has the stage as its target.
      const view = this.viewOf(event) ?? this.touched;
      if (view && (this.tool === "point" || this.tool === "window")) onMaximize(view);
    });
  }

  private viewOf(event: Event): View | undefined {
    const element = (event.target as Element).closest(".view");
    return this.viewer.views.find((view) => view.element === element);
  }

  private place(view: View, event: MouseEvent): [number, number] {
    const box = view.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private down(event: PointerEvent): void {
    const view = this.viewOf(event);
    if (!view || !this.viewer.scene) return;
    view.element.focus({ preventScroll: true });
    this.viewer.stage.setPointerCapture(event.pointerId);
    const [x, y] = this.place(view, event);
    this.fingers.set(event.pointerId, { x, y, startX: x, startY: y });
    this.swiped = 0;
    if (this.fingers.size > 1) {
      this.drag = null;
      this.dropUnfinished();
      return;
    }
    this.drag = this.dragOf(view, event, x, y);
    this.active = view;
    this.touched = view;
  }

  /** The view where the touch began: events of a captured pointer have the stage as their target. */
  private active: View | null = null;
  /** The view that was touched last. */
  private touched: View | null = null;

  private move(event: PointerEvent): void {
    const finger = this.fingers.get(event.pointerId);
    const view = this.active;
    if (!finger || !view) {
      this.hover(event);
      return;
    }
    const [x, y] = this.place(view, event);
    const [dx, dy] = [x - finger.x, y - finger.y];
    if (this.fingers.size === 2) this.pinch(view, event.pointerId, x, y);
    else this.drag?.(dx, dy, x, y);
    [finger.x, finger.y] = [x, y];
  }

  private up(event: PointerEvent): void {
    const finger = this.fingers.get(event.pointerId);
    this.fingers.delete(event.pointerId);
    const view = this.active;
    if (!finger || !view || this.fingers.size > 0) return;
    const isTap = Math.hypot(finger.x - finger.startX, finger.y - finger.startY) < TAP;
    if (event.pointerType === "touch" && isTap && this.drag && this.tool === "point" && view.plane) {
      this.viewer.setPoint(view.toVolume(finger.x, finger.y, this.viewer.point));
    }
    const last = this.viewer.measurements.at(-1);
    if (this.tool === "length" && last?.kind === "length" && isTap && last.points.length === 2) this.dropUnfinished(true);
    this.drag = null;
    this.active = null;
  }

  /** The effect of a drag that begins here. */
  private dragOf(view: View, event: PointerEvent, x: number, y: number): Drag {
    const { viewer } = this;
    const handle = (event.target as Element).getAttribute("data-handle");
    if (handle !== null && viewer.curve) return this.dragHandle(view, Number(handle));
    if (view.name === "volume") return this.dragVolume(event);
    const isTouch = event.pointerType === "touch";
    if (event.button === 1 || event.shiftKey) return this.dragPan(view);
    if (event.button === 2 || event.ctrlKey) return this.dragWindow;
    switch (this.tool) {
      case "window":
        return this.dragWindow;
      case "pan":
        return this.dragPan(view);
      case "zoom":
        return (_dx, dy) => this.zoom(view, Math.exp(-dy * 0.01), x, y);
    }
    if (!view.plane) return this.dragInPanorama(view, x, y);
    switch (this.tool) {
      case "length":
        return this.dragLength(view, x, y);
      case "angle":
        this.addAnglePoint(view, x, y);
        return () => {};
      default:
        if (isTouch || !viewer.scene!.isVolume) return this.swipe(view);
        viewer.setPoint(view.toVolume(x, y, viewer.point));
        return (_dx, _dy, toX, toY) => viewer.setPoint(view.toVolume(toX, toY, viewer.point));
    }
  }

  private dragWindow: Drag = (dx, dy) => {
    const [centre, width] = this.viewer.window;
    // As far as the window is wide: the same feeling for all kinds of values.
    const speed = Math.max(width, 16) / 256;
    this.viewer.setWindow(centre + dy * speed, Math.max(1, width + dx * speed));
  };

  private dragPan(view: View): Drag {
    return (dx, dy) => {
      if (view.plane) view.pan(dx, dy);
      else this.viewer.panorama.pan(dx, dy);
      this.viewer.invalidate(view.name);
    };
  }

  /** Enlarges what a view shows; what is at a place of the view stays there. */
  zoom(view: View, factor: number, x = view.width / 2, y = view.height / 2): void {
    const { viewer } = this;
    if (view.name === "volume") return viewer.zoomCamera(factor);
    if (view.plane) view.zoomBy(factor, x, y);
    else viewer.panorama.zoomBy(factor, x - view.width / 2, y - view.height / 2);
    viewer.invalidate(view.name);
  }

  /** The planes follow the point; nothing can be measured, because a panorama is not flat. */
  private dragInPanorama(view: View, x: number, y: number): Drag {
    if (this.tool !== "point") {
      view.hint(text("noMeasureInPanorama"));
      return () => {};
    }
    const go = (toX: number, toY: number) => {
      const point = this.viewer.panorama.pointAt(toX, toY);
      if (point) this.viewer.setPoint(point);
    };
    go(x, y);
    return (_dx, _dy, toX, toY) => go(toX, toY);
  }

  private dragVolume(event: PointerEvent): Drag {
    if (event.button === 2 || this.tool === "zoom") return (_dx, dy) => this.viewer.zoomCamera(Math.exp(-dy * 0.01));
    return (dx, dy) => this.viewer.turn(dx, dy);
  }

  private dragHandle(view: View, at: number): Drag {
    return (_dx, _dy, x, y) => {
      this.viewer.curve![at] = view.toVolume(x, y, this.viewer.curve![at]);
      this.viewer.invalidate();
    };
  }

  private swipe(view: View): Drag {
    return (_dx, dy) => {
      this.swiped += dy;
      const steps = Math.trunc(this.swiped / SWIPE);
      if (steps) this.viewer.scroll(view.plane!, steps);
      this.swiped -= steps * SWIPE;
    };
  }

  private measurePoint(view: View, x: number, y: number): Vector {
    const { viewer } = this;
    const point = view.toVolume(x, y, viewer.point);
    if (!viewer.scene!.isVolume) point[2] = viewer.slice * viewer.scene!.box.spacing[2];
    return point;
  }

  private dragLength(view: View, x: number, y: number): Drag {
    this.dropUnfinished();
    const from = this.measurePoint(view, x, y);
    const measurement = { kind: "length" as const, plane: view.plane!.name, points: [from, from] };
    this.viewer.measurements.push(measurement);
    return (_dx, _dy, toX, toY) => {
      measurement.points[1] = this.measurePoint(view, toX, toY);
      this.viewer.invalidate(view.name);
    };
  }

  private addAnglePoint(view: View, x: number, y: number): void {
    const { measurements } = this.viewer;
    const last = measurements.at(-1);
    const point = this.measurePoint(view, x, y);
    if (last?.kind === "angle" && !isWhole(last) && last.plane === view.plane!.name) last.points.push(point);
    else measurements.push({ kind: "angle", plane: view.plane!.name, points: [point] });
    this.viewer.invalidate(view.name);
  }

  /** Removes a measurement that was begun and not ended. @param isEmpty Removes the last one in any case. */
  dropUnfinished(isEmpty = false): void {
    const { measurements } = this.viewer;
    const last = measurements.at(-1);
    if (last && (isEmpty || !isWhole(last))) measurements.pop();
    this.viewer.invalidate();
  }

  private pinch(view: View, moved: number, x: number, y: number): void {
    const [[, other]] = [...this.fingers].filter(([id]) => id !== moved);
    const finger = this.fingers.get(moved)!;
    const before = Math.hypot(finger.x - other.x, finger.y - other.y);
    const after = Math.hypot(x - other.x, y - other.y);
    if (before < 1 || after < 1) return;
    this.zoom(view, after / before, (x + other.x) / 2, (y + other.y) / 2);
    if (view.name !== "volume") this.dragPan(view)((x - finger.x) / 2, (y - finger.y) / 2, x, y);
  }

  private hover(event: PointerEvent): void {
    const view = this.viewOf(event);
    if (view) this.hovered = view;
  }

  /** The view under the mouse, to which keys belong. */
  hovered: View | null = null;

  private turnWheel(event: WheelEvent): void {
    const view = this.viewOf(event);
    if (!view || !this.viewer.scene) return;
    event.preventDefault();
    const delta = event.deltaY * (event.deltaMode === 1 ? 33 : 1);
    const [x, y] = this.place(view, event);
    if (view.name === "volume") return this.viewer.zoomCamera(Math.exp(-delta * 0.001));
    if (event.ctrlKey) return this.zoom(view, Math.exp(-delta * (Math.abs(delta) < 40 ? 0.01 : 0.002)), x, y);
    if (!view.plane) return;
    // A mouse turns in steps of 100, a touchpad in many small ones.
    this.wheel += delta;
    const steps = Math.abs(delta) >= 50 ? Math.sign(delta) : Math.trunc(this.wheel / 30);
    if (Math.abs(delta) >= 50 || steps) this.wheel = 0;
    if (steps) this.viewer.scroll(view.plane, steps);
  }
}
