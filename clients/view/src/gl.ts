// Drawing with WebGL2: a slice through a volume, a volume rendering, a panorama. No state of the page.

import type { Vector } from "./geometry.js";

/** A texture of samples, and where they lie. */
export interface Samples3D {
  texture: WebGLTexture;
  count: Vector;
  /** Samples per mm along each axis; 0 where there is one plane for all. */
  density: Vector;
  isColour: boolean;
}

/** How values become grey. */
export interface Grey {
  /** The value that is black, and the one that is white, less the offset of the textures. */
  low: number;
  high: number;
  isInverted: boolean;
}

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The middle of a view, and its half width and half height, in mm of the volume. */
export interface Frame {
  middle: Vector;
  right: Vector;
  up: Vector;
}

/** A volume rendering: what is opaque, and its colours. */
export interface Rendering {
  frame: Frame;
  /** A unit vector, away from the eye. */
  direction: Vector;
  /** Opacity rises between these values. */
  from: number;
  to: number;
  isBone: boolean;
  /** The length of a step, and the sides of a voxel, in mm. */
  step: number;
  voxel: Vector;
}

export const MAX_CURVE = 256;

const VERTEX = `#version 300 es
out vec2 p;
void main() { p = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.; gl_Position = vec4(p * 2. - 1., 0, 1); }`;

const HEAD = `#version 300 es
precision highp float;
precision highp sampler3D;
uniform sampler3D samples;
uniform vec3 count, density, first, last;
in vec2 p;
out vec4 colour;
// A sample of a coarse level lies where its first pixel lies, not in the middle of its pixels.
vec4 sampleAt(vec3 mm) { return texture(samples, (mm * density + .5) / count); }
bool isOutside(vec3 mm) { return any(lessThan(mm, first)) || any(greaterThan(mm, last)); }
`;

const SLICE = `${HEAD}
uniform vec3 middle, right, up;
uniform vec2 window;
uniform int isColour, isInverted;
void main() {
  vec3 mm = middle + right * (p.x * 2. - 1.) + up * (p.y * 2. - 1.);
  if (isOutside(mm)) { colour = vec4(0, 0, 0, 1); return; }
  vec4 s = sampleAt(mm);
  float grey = clamp((s.r - window.x) * window.y, 0., 1.);
  if (isInverted == 1) grey = 1. - grey;
  colour = isColour == 1 ? vec4(s.rgb, 1) : vec4(vec3(grey), 1);
}`;

const MARCH = `${HEAD}
uniform vec3 middle, right, up, direction;
uniform vec2 opaque;
uniform vec3 voxel;
uniform float stepLength, depth;
uniform int isBone;
float value(vec3 mm) { return sampleAt(mm).r; }
void main() {
  vec3 from = middle + right * (p.x * 2. - 1.) + up * (p.y * 2. - 1.);
  vec3 safe = direction + vec3(equal(direction, vec3(0))) * 1e-6;
  vec3 a = (first - from) / safe, b = (last - from) / safe;
  vec3 near = min(a, b), far = max(a, b);
  float t = max(near.x, max(near.y, near.z)), end = min(far.x, min(far.y, far.z)), begin = t;
  vec3 sum = vec3(0);
  float alpha = 0.;
  vec3 light = normalize(-.55 * normalize(right) + .65 * normalize(up) - .9 * direction);
  for (int i = 0; i < 2048 && t < end && alpha < .97; i++, t += stepLength) {
    vec3 mm = from + direction * t;
    float v = value(mm);
    if (v < opaque.x) continue;
    // One sample to each side along each axis: a fixed distance would show the slices as terraces.
    vec3 g = vec3(value(mm + vec3(voxel.x, 0, 0)) - value(mm - vec3(voxel.x, 0, 0)), value(mm + vec3(0, voxel.y, 0)) - value(mm - vec3(0, voxel.y, 0)),
      value(mm + vec3(0, 0, voxel.z)) - value(mm - vec3(0, 0, voxel.z))) / voxel;
    vec3 normal = -g / max(length(g), 1e-4);
    float density = smoothstep(opaque.x, opaque.y, v);
    float opacity = 1. - pow(1. - .75 * density, stepLength / min(voxel.x, min(voxel.y, voxel.z)));
    float diffuse = max(dot(normal, light), 0.), head = max(dot(normal, -direction), 0.);
    float shine = pow(max(dot(normal, normalize(light - direction)), 0.), 20.);
    vec3 material = isBone == 1 ? mix(vec3(.86, .74, .58), vec3(1, .98, .94), density) : mix(vec3(.78, .56, .46), vec3(.95, .76, .66), density);
    float dim = 1. - .45 * clamp((t - begin) / depth, 0., 1.);
    vec3 lit = material * (.16 + .34 * head + .5 * diffuse) * dim + (isBone == 1 ? .18 : .06) * shine;
    sum += (1. - alpha) * opacity * lit;
    alpha += (1. - alpha) * opacity;
  }
  colour = vec4(pow(sum, vec3(.85)), 1);
}`;

const PANORAMA = `${HEAD}
uniform vec3 curve[${MAX_CURVE}], across[${MAX_CURVE}];
uniform int points, isInverted, isMaximum;
uniform vec3 up;
uniform vec2 window, extent;
uniform float thickness;
void main() {
  float at = clamp(p.x, 0., 1.) * float(points - 1);
  int i = min(int(at), points - 2);
  vec3 middle = mix(curve[i], curve[i + 1], at - float(i)) + up * mix(extent.x, extent.y, p.y);
  vec3 side = normalize(mix(across[i], across[i + 1], at - float(i)));
  float sum = 0., most = -1e9;
  for (int k = 0; k < 24; k++) {
    float v = sampleAt(middle + side * ((float(k) + .5) / 24. - .5) * thickness).r;
    sum += v;
    most = max(most, v);
  }
  float grey = clamp(((isMaximum == 1 ? most : sum / 24.) - window.x) * window.y, 0., 1.);
  colour = vec4(vec3(isInverted == 1 ? 1. - grey : grey), 1);
}`;

const SHADERS = { slice: SLICE, march: MARCH, panorama: PANORAMA };
type ProgramName = keyof typeof SHADERS;

/** The page cannot draw: WebGL2 is missing. */
export class NoWebGL extends Error {}

export class Painter {
  readonly gl: WebGL2RenderingContext;
  /** Whether drawing is done by the processor: a volume rendering then takes a second. */
  readonly isSoftware: boolean;
  readonly max3D: number;
  /** Compiled when they are first used: the slice is on the screen before the others are needed. */
  private readonly programs = new Map<ProgramName, Program>();
  private target: { framebuffer: WebGLFramebuffer; texture: WebGLTexture; width: number; height: number } | null = null;

  constructor(readonly canvas: HTMLCanvasElement) {
    const options: WebGLContextAttributes = {
      antialias: false, alpha: false, depth: false, preserveDrawingBuffer: true, powerPreference: "high-performance",
    };
    const gl = canvas.getContext("webgl2", options);
    if (!gl) throw new NoWebGL();
    this.gl = gl;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    const name = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
    this.isSoftware = /swiftshader|llvmpipe|software|basic render/i.test(name);
    this.max3D = gl.getParameter(gl.MAX_3D_TEXTURE_SIZE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** Makes a texture for a volume; `null` if there is not enough memory. */
  texture(count: Vector, density: Vector, isColour: boolean): Samples3D | null {
    const { gl } = this;
    while (gl.getError() !== gl.NO_ERROR);
    const texture = gl.createTexture();
    if (!texture || Math.max(...count) > this.max3D) return null;
    gl.bindTexture(gl.TEXTURE_3D, texture);
    gl.texStorage3D(gl.TEXTURE_3D, 1, isColour ? gl.RGB8 : gl.R16F, ...count);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, name, gl.LINEAR);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) gl.texParameteri(gl.TEXTURE_3D, name, gl.CLAMP_TO_EDGE);
    if (gl.getError() !== gl.NO_ERROR) {
      gl.deleteTexture(texture);
      return null;
    }
    return { texture, count, density, isColour };
  }

  /** Fills a plane: half floats, or bytes of red, green and blue. */
  upload({ texture, count, isColour }: Samples3D, plane: number, data: ArrayBufferView): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_3D, texture);
    const [format, type] = isColour ? [gl.RGB, gl.UNSIGNED_BYTE] : [gl.RED, gl.HALF_FLOAT];
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, plane, count[0], count[1], 1, format, type, data);
  }

  free({ texture }: Samples3D): void {
    this.gl.deleteTexture(texture);
  }

  clear(area: Rectangle): void {
    const { gl } = this;
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(area.x, area.y, area.width, area.height);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.disable(gl.SCISSOR_TEST);
  }

  slice(area: Rectangle, samples: Samples3D, bounds: [Vector, Vector], frame: Frame, grey: Grey): void {
    const program = this.begin("slice", samples, bounds);
    this.place(program, frame);
    this.grey(program, grey);
    program.integer("isColour", samples.isColour ? 1 : 0);
    this.fill(area);
  }

  /** Draws a panorama in an area, as far as that lies in another one. */
  panorama(area: Rectangle, clip: Rectangle, samples: Samples3D, bounds: [Vector, Vector], grey: Grey, curve: Vector[], across: Vector[], up: Vector,
    extent: [number, number], thickness: number, isMaximum: boolean): void {
    const program = this.begin("panorama", samples, bounds);
    this.grey(program, grey);
    program.vectors("curve", curve);
    program.vectors("across", across);
    program.integer("points", curve.length);
    program.integer("isMaximum", isMaximum ? 1 : 0);
    program.vector("up", up);
    program.pair("extent", ...extent);
    program.number("thickness", thickness);
    this.gl.enable(this.gl.SCISSOR_TEST);
    this.gl.scissor(clip.x, clip.y, clip.width, clip.height);
    this.fill(area);
    this.gl.disable(this.gl.SCISSOR_TEST);
  }

  /** Renders a volume in `width` × `height` pixels, and shows them in the area. */
  render(area: Rectangle, samples: Samples3D, bounds: [Vector, Vector], rendering: Rendering, width: number, height: number): void {
    const { gl } = this;
    const target = this.renderTarget(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.framebuffer);
    const program = this.begin("march", samples, bounds);
    this.place(program, rendering.frame);
    program.vector("direction", rendering.direction);
    program.pair("opaque", rendering.from, rendering.to);
    program.number("stepLength", rendering.step);
    program.vector("voxel", rendering.voxel);
    program.number("depth", Math.hypot(...bounds[1].map((value, axis) => value - bounds[0][axis])));
    program.integer("isBone", rendering.isBone ? 1 : 0);
    this.fill({ x: 0, y: 0, width, height });
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.framebuffer);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    gl.blitFramebuffer(0, 0, width, height, area.x, area.y, area.x + area.width, area.y + area.height, gl.COLOR_BUFFER_BIT, gl.LINEAR);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  private renderTarget(width: number, height: number) {
    const { gl } = this;
    if (this.target?.width === width && this.target.height === height) return this.target;
    if (this.target) {
      gl.deleteFramebuffer(this.target.framebuffer);
      gl.deleteTexture(this.target.texture);
    }
    const [framebuffer, texture] = [gl.createFramebuffer()!, gl.createTexture()!];
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    this.target = { framebuffer, texture, width, height };
    return this.target;
  }

  private begin(name: ProgramName, samples: Samples3D, [first, last]: [Vector, Vector]): Program {
    let program = this.programs.get(name);
    if (!program) this.programs.set(name, (program = new Program(this.gl, SHADERS[name])));
    this.gl.useProgram(program.program);
    this.gl.bindTexture(this.gl.TEXTURE_3D, samples.texture);
    program.vector("count", samples.count);
    program.vector("density", samples.density);
    program.vector("first", first);
    program.vector("last", last);
    return program;
  }

  private place(program: Program, { middle, right, up }: Frame): void {
    program.vector("middle", middle);
    program.vector("right", right);
    program.vector("up", up);
  }

  private grey(program: Program, { low, high, isInverted }: Grey): void {
    program.pair("window", low, 1 / Math.max(high - low, 1e-6));
    program.integer("isInverted", isInverted ? 1 : 0);
  }

  private fill({ x, y, width, height }: Rectangle): void {
    this.gl.viewport(x, y, width, height);
    this.gl.drawArrays(this.gl.TRIANGLES, 0, 3);
  }
}

class Program {
  readonly program: WebGLProgram;
  private places = new Map<string, WebGLUniformLocation | null>();

  constructor(private readonly gl: WebGL2RenderingContext, fragment: string) {
    this.program = gl.createProgram()!;
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]] as const) {
      const shader = gl.createShader(type)!;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const shaders = gl.getAttachedShaders(this.program) ?? [];
      throw new Error(shaders.map((shader) => gl.getShaderInfoLog(shader)).join("\n"));
    }
  }

  private place(name: string): WebGLUniformLocation | null {
    if (!this.places.has(name)) this.places.set(name, this.gl.getUniformLocation(this.program, name));
    return this.places.get(name)!;
  }

  vector(name: string, value: Vector): void {
    this.gl.uniform3fv(this.place(name), value);
  }

  vectors(name: string, values: Vector[]): void {
    this.gl.uniform3fv(this.place(name), values.flat());
  }

  pair(name: string, one: number, two: number): void {
    this.gl.uniform2f(this.place(name), one, two);
  }

  number(name: string, value: number): void {
    this.gl.uniform1f(this.place(name), value);
  }

  integer(name: string, value: number): void {
    this.gl.uniform1i(this.place(name), value);
  }
}
