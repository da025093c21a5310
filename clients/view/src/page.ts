// The page around the views: header, tools, tabs, help, and what is said when there is nothing to see.

import { type Key, type Language, choose, language, languages, number, text } from "./i18n.js";
import { type Input, TOOLS, type Tool } from "./input.js";
import { isWhole } from "./measure.js";
import type { Problem, Session } from "./session.js";
import * as server from "./server.js";
import type { View } from "./view.js";
import { PRESETS, type PresetName, type Viewer } from "./viewer.js";

export function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const TOOL_KEYS: Record<Tool, Key> = {
  point: "toolPoint", window: "toolWindow", pan: "toolPan", zoom: "toolZoom", length: "toolLength", angle: "toolAngle",
};
const PRESET_KEYS: Record<PresetName, Key> = {
  stored: "presetStored", bone: "presetBone", soft: "presetSoft", teeth: "presetTeeth", auto: "presetAuto",
};
/** Why nobody can sign in, as the console's script says it. */
const OBSTACLES: Record<string, Key> = { noClientId: "obstacleClientId", noProvider: "obstacleProvider", needsHttps: "obstacleHttps" };
const FRAMES_PER_SECOND = 12;

function button(label: string, onClick: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", onClick);
  return made;
}

export interface Actions {
  retry(): void;
  openSeries(uid: string): void;
}

export class Page {
  viewer: Viewer | null = null;
  input: Input | null = null;
  session: Session | null = null;
  isPanorama = false;
  private cine = 0;
  private lastProblem: Problem | "loading" | "webgl" | "lost" | "no-series" | null = null;
  private partial: { encoded: number; slices: number } | null = null;
  private progress = 0;
  private failures = 0;
  private study: server.DataSet | null = null;
  private series: server.DataSet[] = [];
  private current = "";

  constructor(private readonly actions: Actions) {
    const languageChooser = element<HTMLSelectElement>("language");
    for (const [tag, name] of Object.entries(languages)) languageChooser.append(new Option(name, tag, false, tag === language));
    languageChooser.addEventListener("change", () => {
      choose(languageChooser.value as Language);
      this.write();
    });
    const chooser = element<HTMLSelectElement>("series");
    chooser.addEventListener("change", () => {
      if (!this.hasMeasurements || confirm(text("leaveMeasurements"))) this.actions.openSeries(chooser.value);
      else chooser.value = this.current;
    });
    // Measurements are nowhere but here.
    addEventListener("beforeunload", (event) => {
      if (this.hasMeasurements) event.preventDefault();
    });
    element("keys").addEventListener("click", () => this.help());
    element("originals").addEventListener("click", () => this.loadOriginals());
    element("unmeasure").addEventListener("click", () => this.input?.dropUnfinished(true));
    addEventListener("keydown", (event) => this.key(event));
    this.write();
  }

  /** Writes all words, in the language that is chosen. */
  write(): void {
    document.documentElement.lang = language;
    element("console").textContent = `‹ ${text("console")}`;
    element("series-label").querySelector("span")!.textContent = text("series");
    element("series").ariaLabel = text("series");
    element("keys").ariaLabel = text("help");
    element("language-label").querySelector("span")!.textContent = text("language");
    element("tools").ariaLabel = text("tools");
    element("unmeasure").textContent = text("deleteMeasurement");
    element("tabs").ariaLabel = text("views");
    this.describe(this.study, this.series, this.current);
    for (const view of this.viewer?.views ?? []) view.label();
    this.writeTools();
    this.writeTabs();
    this.writeStatus();
    if (this.lastProblem) this.say(this.lastProblem);
    this.viewer?.invalidate();
  }

  private get hasMeasurements(): boolean {
    return Boolean(this.viewer?.measurements.some(isWhole));
  }

  /** Shows whose study this is, and the series in it. */
  describe(study: server.DataSet | null, series: server.DataSet[], current: string): void {
    [this.study, this.series, this.current] = [study, series, current];
    const name = study ? personName(server.value(study, "00100010")) || text("noName") : "";
    const date = String(server.value(study, "00080020") ?? "").replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
    const words = [name, server.value(study, "00100020"), date].filter(Boolean).join(" · ");
    element("patient").textContent = words;
    document.title = words ? `${words} - ${text("title")}` : text("title");
    const chooser = element<HTMLSelectElement>("series");
    element("series-label").hidden = series.length < 2;
    chooser.replaceChildren(...series.map((one) => {
      const uid = server.value(one, "0020000E");
      const label = [server.value(one, "00200011"), server.value(one, "00080060"), server.value(one, "0008103E")].filter((part) => part !== undefined).join(" ");
      return new Option(label, uid, false, uid === current);
    }));
  }

  writeTools(): void {
    const { viewer, input } = this;
    const tools = element("tools");
    tools.hidden = !viewer?.scene;
    if (!viewer?.scene || !input) return;
    const focused = (document.activeElement as HTMLElement | null)?.dataset.tool;
    const group = (...parts: HTMLElement[]) => {
      const made = document.createElement("div");
      made.className = "group";
      made.append(...parts);
      return made;
    };
    const named = (name: string, made: HTMLButtonElement, isPressed?: boolean) => {
      made.dataset.tool = name;
      if (isPressed !== undefined) made.ariaPressed = String(isPressed);
      return made;
    };
    const { isVolume } = viewer.scene;
    const pointers = TOOLS.map((tool) => named(tool, button(text(TOOL_KEYS[tool]), () => this.useTool(tool)), input.tool === tool));
    const presets = PRESETS.filter((preset) => viewer.hasPreset(preset)).map((preset) =>
      named(`preset-${preset}`, button(text(PRESET_KEYS[preset]), () => this.usePreset(preset)), viewer.preset === preset));
    const others = [named("reset", button(text("reset"), () => this.reset()))];
    if (viewer.scene.box.count[2] > 1) others.unshift(named("cine", button(text(this.cine ? "pause" : "play"), () => this.toggleCine()), this.cine !== 0));
    const groups = [group(...pointers), group(...presets), group(...others)];
    if (isVolume) {
      groups.push(group(
        named("cross", button(text("cross"), () => this.toggleCross()), viewer.hasCross),
        named("panorama", button(text("toolPanorama"), () => this.togglePanorama()), this.isPanorama),
        named("surface", button(text(viewer.isBone ? "toolSurfaceBone" : "toolSurfaceSoft"), () => this.toggleSurface())),
      ));
      if (this.isPanorama) groups.push(group(this.thicknessSlider(), named("projection", button(
        text(viewer.isMaximum ? "projectionMaximum" : "projectionMean"), () => this.toggleProjection()))));
    }
    tools.replaceChildren(...groups);
    if (focused) tools.querySelector<HTMLElement>(`[data-tool="${focused}"]`)?.focus();
  }

  private thicknessSlider(): HTMLElement {
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: "1", max: "40", value: String(this.viewer!.thickness), ariaLabel: text("thicknessLabel") });
    slider.addEventListener("input", () => {
      this.viewer!.thickness = Number(slider.value);
      this.viewer!.invalidate();
    });
    return slider;
  }

  writeTabs(): void {
    const { viewer } = this;
    const tabs = element("tabs");
    const views = (viewer?.views ?? []).filter(({ name }) => name !== "panorama" || this.isPanorama);
    tabs.hidden = views.length < 2;
    tabs.replaceChildren(...views.map((view) => {
      const made = button(text(view.name), () => this.activate(view));
      made.setAttribute("role", "tab");
      made.ariaSelected = String(view.element.hasAttribute("data-active"));
      return made;
    }));
  }

  /** Shows one view alone, where there is room for one only; else it has the focus. */
  activate(view: View): void {
    for (const other of this.viewer!.views) other.element.toggleAttribute("data-active", other === view);
    this.writeTabs();
    this.viewer!.invalidate();
  }

  get active(): View | undefined {
    const views = this.viewer?.views ?? [];
    return views.find(({ element }) => element === document.activeElement) ?? this.input?.hovered ?? views.find(({ element }) => element.hasAttribute("data-active"));
  }

  /** One view or all. Small screens have room for one. */
  arrange(isSingle?: boolean): void {
    const { viewer } = this;
    if (!viewer?.scene) return;
    const isPhone = matchMedia("(max-width: 640px)").matches;
    const now = isPhone || !viewer.scene.isVolume || (isSingle ?? viewer.stage.hasAttribute("data-single"));
    viewer.stage.toggleAttribute("data-single", now);
    const shown = viewer.views.find(({ element }) => element.hasAttribute("data-active"));
    if (!shown || (shown.name === "panorama" && !this.isPanorama)) this.activate(viewer.views[0]);
    viewer.invalidate();
  }

  maximize(view: View): void {
    this.activate(view);
    this.arrange(!this.viewer!.stage.hasAttribute("data-single"));
  }

  useTool(tool: Tool): void {
    if (!this.input) return;
    this.input.dropUnfinished();
    this.input.tool = tool;
    this.writeTools();
  }

  usePreset(preset: PresetName): void {
    this.viewer?.usePreset(preset);
    this.writeTools();
  }

  reset(): void {
    const { viewer } = this;
    if (!viewer?.scene) return;
    viewer.reset();
    this.usePreset(firstPreset(viewer));
  }

  toggleCross(): void {
    this.viewer!.hasCross = !this.viewer!.hasCross;
    this.viewer!.invalidate();
    this.writeTools();
  }

  toggleSurface(): void {
    this.viewer!.isBone = !this.viewer!.isBone;
    this.viewer!.invalidate("volume");
    this.writeTools();
  }

  toggleProjection(): void {
    this.viewer!.isMaximum = !this.viewer!.isMaximum;
    this.viewer!.invalidate();
    this.writeTools();
  }

  togglePanorama(): void {
    const { viewer } = this;
    if (!viewer?.scene?.isVolume) return;
    this.isPanorama = !this.isPanorama;
    viewer.stage.toggleAttribute("data-panorama", this.isPanorama);
    if (this.isPanorama) viewer.startCurve();
    else viewer.curve = null;
    this.writeTools();
    this.arrange();
    this.writeTabs();
  }

  toggleCine(): void {
    const { viewer } = this;
    if (this.cine) {
      clearInterval(this.cine);
      this.cine = 0;
    } else if (viewer?.scene && viewer.scene.box.count[2] > 1) {
      this.cine = window.setInterval(() => {
        const { count, spacing } = viewer.scene!.box;
        viewer.moveTo(2, ((viewer.slice + 1) % count[2]) * spacing[2]);
      }, 1000 / FRAMES_PER_SECOND);
    }
    this.writeTools();
  }

  help(): void {
    const dialog = element<HTMLDialogElement>("help");
    dialog.querySelector("h2")!.textContent = text("keysTitle");
    dialog.querySelector("ul")!.replaceChildren(...text("keysText").split(" · ").map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
    const close = dialog.querySelector("button")!;
    close.textContent = text("close");
    close.onclick = () => dialog.close();
    dialog.showModal();
  }

  loadOriginals(): void {
    void this.session?.loadOriginals();
    this.writeStatus();
  }

  setProgress(part: number): void {
    const rounded = Math.floor(part * 100);
    if (rounded === this.progress) return;
    this.progress = rounded;
    this.writeStatus();
  }

  setPartial(partial: typeof this.partial): void {
    this.partial = partial;
    this.writeStatus();
  }

  setFailures(count: number): void {
    this.failures = count;
    this.writeStatus();
  }

  /** Says in the header what is loaded, and offers the originals where they are not loaded by themselves. */
  writeStatus(): void {
    const { session } = this;
    // Over the images: a toolbar that grows would move them while one measures.
    element("unmeasure").hidden = !this.viewer?.measurements.length;
    const scene = session?.scene;
    const words: string[] = [];
    if (scene && this.progress < 100 && !session.isLoaded) words.push(text("streamProgress", { percent: this.progress }));
    if (this.partial) words.push(text("noticePartial", this.partial));
    if (this.failures) words.push(text("decodeFailures", { count: this.failures }));
    const isAll = scene?.isWholeOriginal || (scene && !scene.isVolume && scene.index.slices.length === 1 && scene.isSliceOriginal(0));
    if (scene && session.isLoaded) {
      if (isAll) words.push(text("originalsAll"));
      else if (session.isLoadingOriginals) words.push(text("originalsProgress", { done: scene.originals, all: scene.index.slices.length }));
      else if (session.originalFailures) words.push(text("originalsFailed"));
      else if (this.viewer && scene.isSliceOriginal(this.viewer.slice)) words.push(text("originalsSlice"));
    }
    const status = words.join(" · ");
    if (element("progress").textContent !== status) element("progress").textContent = status;
    const offer = element("originals");
    offer.hidden = !(scene && session.isLoaded && scene.canBeOriginal && !isAll && !session.isLoadingOriginals);
    offer.textContent = session?.originalFailures ? text("retry") : text("originalsLoadSize", { megabytes: number((session?.rawBytes ?? 0) / 1e6) });
  }

  /** Says why there is nothing to see; `null` takes it away. */
  say(problem: typeof this.lastProblem): void {
    this.lastProblem = problem;
    const notice = element("notice");
    notice.hidden = problem === null;
    if (problem === null) return;
    const kind = typeof problem === "string" ? problem : problem.kind;
    notice.dataset.kind = kind;
    const titles: Record<string, Key> = {
      loading: "noticeLoading", pending: "noticePendingTitle", missing: "noticeMissingTitle", nothing: "noticeNothingTitle", failed: "noticeFailedTitle", error: "noticeErrorTitle",
      offline: "noticeErrorTitle", version: "noticeErrorTitle", codec: "noticeErrorTitle", "sign-in": "noticeSignInTitle", forbidden: "noticeForbiddenTitle", webgl: "noticeWebglTitle",
      lost: "noticeLostTitle", "no-series": "noticeNoSeriesTitle",
    };
    const texts: Partial<Record<string, Key>> = {
      pending: "noticePendingText", missing: "noticeMissingText", offline: "noticeOfflineText", version: "noticeVersionText", codec: "noticeCodecText", "sign-in": "noticeSignInText",
      forbidden: "noticeForbiddenText", webgl: "noticeWebglText", lost: "noticeLostText", "no-series": "noticeNoSeriesText",
    };
    const pending = typeof problem === "object" && problem.kind === "pending" ? problem : null;
    const values: Record<string, number> = pending ? { encoded: pending.encoded, slices: pending.slices } : {};
    element("notice-title").textContent = text(titles[kind]);
    element("notice-text").textContent = texts[kind] ? text(texts[kind]!, values) : "";
    element("notice-detail").textContent = typeof problem === "object" && "detail" in problem ? problem.detail : "";
    const bar = element<HTMLProgressElement>("notice-progress");
    bar.hidden = kind !== "pending";
    bar.ariaLabel = text("noticePendingTitle");
    if (pending) [bar.max, bar.value] = [Math.max(1, pending.slices), pending.encoded];
    this.offer(kind);
    if (["loading", "missing", "sign-in", "forbidden", "offline", "no-series"].includes(kind)) element("notice-image").hidden = true;
  }

  private offer(kind: string): void {
    const actions: HTMLElement[] = [];
    if (kind === "sign-in") {
      const obstacle = String(server.signIn.obstacle ?? "");
      if (obstacle) element("notice-detail").textContent = OBSTACLES[obstacle] ? text(OBSTACLES[obstacle]) : obstacle;
      // A window, because the provider leads back to the console and not to this page.
      else actions.push(button(text("signIn"), () => server.signIn.begin({ inWindow: true })));
    }
    if (["error", "offline", "failed"].includes(kind)) actions.push(button(text("retry"), () => this.actions.retry()));
    if (["version", "codec", "lost"].includes(kind)) actions.push(button(text("reload"), () => location.reload()));
    const link = (label: string, href: string) => {
      const made = document.createElement("a");
      made.textContent = label;
      made.href = href;
      return made;
    };
    const study = new URLSearchParams(location.search).get("study");
    const { ohif } = document.documentElement.dataset;
    if (ohif && study && ["nothing", "failed", "codec", "webgl", "lost", "pending"].includes(kind)) {
      actions.push(link(text("toOhif"), `${ohif}viewer?StudyInstanceUIDs=${encodeURIComponent(study)}`));
    }
    if (kind !== "loading") actions.push(link(text("toConsole"), "./"));
    element("notice-actions").replaceChildren(...actions);
  }

  /** Shows a thumbnail where nothing else can be shown. */
  async showThumbnail(target: server.Target): Promise<void> {
    const image = element<HTMLImageElement>("notice-image");
    const bytes = await server.thumbnail(target).catch(() => null);
    if (!bytes) return;
    image.src = URL.createObjectURL(bytes);
    image.hidden = false;
  }

  private key(event: KeyboardEvent): void {
    const { viewer, input } = this;
    if (!viewer?.scene || !input || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT"].includes((event.target as Element).tagName) || element<HTMLDialogElement>("help").open) return;
    const isButton = (event.target as Element).tagName === "BUTTON";
    const view = this.active ?? viewer.views[0];
    const plane = view.plane ?? viewer.slicePlane;
    const zoom = (factor: number) => input.zoom(view, factor);
    const shown = viewer.views.filter(({ name }) => name !== "panorama" || this.isPanorama);
    const beside = (step: number) => {
      const next = shown[(shown.indexOf(view) + step + shown.length) % shown.length];
      this.activate(next);
      next.element.focus({ preventScroll: true });
    };
    const presets = PRESETS.filter((preset) => viewer.hasPreset(preset));
    const keys: Record<string, () => void> = {
      ArrowUp: () => viewer.scroll(plane, -1), ArrowDown: () => viewer.scroll(plane, 1), PageUp: () => viewer.scroll(plane, -10), PageDown: () => viewer.scroll(plane, 10),
      Home: () => viewer.scroll(plane, -1e6), End: () => viewer.scroll(plane, 1e6),
      ArrowLeft: () => beside(-1), ArrowRight: () => beside(1),
      "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
      p: () => this.useTool("point"), w: () => this.useTool("window"), m: () => this.useTool("pan"), z: () => this.useTool("zoom"), l: () => this.useTool("length"),
      a: () => this.useTool("angle"), n: () => this.togglePanorama(), x: () => this.toggleCross(), v: () => this.maximize(view), o: () => this.loadOriginals(),
      r: () => this.reset(), "?": () => this.help(), Escape: () => input.dropUnfinished(), Delete: () => input.dropUnfinished(true), Backspace: () => input.dropUnfinished(true),
    };
    if (!isButton) keys[" "] = () => this.toggleCine();
    presets.forEach((preset, at) => (keys[String(at + 1)] = () => this.usePreset(preset)));
    // A keyboard with Hangul gives other characters for the same keys.
    const action = keys[event.key] ?? (/^Key[A-Z]$/.test(event.code) ? keys[event.code.slice(3).toLowerCase()] : undefined);
    if (!action) return;
    event.preventDefault();
    action();
  }
}

/** The window that a series opens with: bone for a volume of a CT, what is stored for others. */
export function firstPreset(viewer: Viewer): PresetName {
  if (viewer.hasPreset("bone")) return "bone";
  return viewer.hasPreset("stored") ? "stored" : "auto";
}

/** A name in its own script, then in Latin letters. */
function personName(name: Record<string, string> | undefined): string {
  const words = (group: string | undefined) => (group ?? "").split("^").filter(Boolean).join(/[\p{Script=Hangul}\p{Script=Han}]/u.test(group ?? "") ? "" : " ");
  const own = /\p{Script=Hangul}/u.test(name?.Phonetic ?? "") ? name?.Phonetic : name?.Ideographic;
  const [first, second] = [words(own), words(name?.Alphabetic)];
  return first && second ? `${first} (${second})` : first || second;
}

