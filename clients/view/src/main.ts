// The viewer at /view/?study=…&series=…

import { Pool, defaultWorkers } from "@cuspid/client";

import { NoWebGL, Painter } from "./gl.js";
import { Input } from "./input.js";
import { Page, element, firstPreset } from "./page.js";
import * as server from "./server.js";
import { Session } from "./session.js";
import { Viewer } from "./viewer.js";

const { worker, codec } = document.body.dataset;
const root = document.baseURI;
// At once, before anything else: the codec is compiled while the first bytes are on their way.
const pool = new Pool(
  Array.from({ length: defaultWorkers() }, () => new Worker(new URL(worker!, root))),
  WebAssembly.compileStreaming(fetch(new URL(codec!, root))),
);

let viewer: Viewer | null = null;
let painter: Painter | null = null;
let session: Session | null = null;
let target: server.Target | null = null;

const page = new Page({ retry: () => void open(), openSeries: (uid) => void open(uid) });

/** The series of the study, for the choice and for the header. */
let listed: { study: string; series: Promise<server.DataSet[]> } | null = null;

function seriesOf(study: string): Promise<server.DataSet[]> {
  if (listed?.study !== study) {
    const series = server.seriesOf(study);
    listed = { study, series };
    // The next attempt may succeed.
    series.catch(() => (listed = null));
  }
  return listed.series;
}

/** The chosen series; the first one with images if only the study is named. */
async function choose(series?: string): Promise<server.Target | null> {
  const query = new URLSearchParams(location.search);
  const study = query.get("study");
  if (!study) return null;
  const named = series ?? query.get("series");
  if (named) return { study, series: named };
  const found = (await seriesOf(study)).find((one) => !["SR", "PR", "KO", "DOC", "SEG", "RTSTRUCT"].includes(server.value(one, "00080060")));
  return found ? { study, series: server.value(found, "0020000E") } : { study, series: "" };
}

/** Who and what this is; it is written beside the images, and waited for by nothing. */
async function describe({ study, series }: server.Target): Promise<void> {
  const [found, all] = await Promise.all([server.study(study), seriesOf(study)]).catch(() => [null, []] as const);
  page.describe(found, [...all], series);
}

async function open(series?: string): Promise<void> {
  session?.close();
  session = null;
  // Another attempt sees what has arrived since.
  if (!series) listed = null;
  page.session = null;
  page.setProgress(-1);
  page.setPartial(null);
  page.say("loading");
  try {
    target = await choose(series);
  } catch (error) {
    const status = error instanceof server.HttpError ? error.status : 0;
    if (status === 401) page.say({ kind: "sign-in" });
    else if (status === 403) page.say({ kind: "forbidden", detail: String((error as Error).message) });
    else page.say({ kind: status ? "error" : "offline", detail: String((error as Error).message) });
    return;
  }
  if (!target) return page.say("no-series");
  if (series) {
    const query = new URLSearchParams(location.search);
    query.set("series", series);
    history.replaceState(null, "", `${location.pathname}?${query}`);
  }
  void describe(target);
  if (!target.series) return page.say({ kind: "missing", detail: "" });
  if (!painter) {
    void page.showThumbnail(target);
    return page.say("webgl");
  }
  start(target);
}

function start(chosen: server.Target): void {
  let hasImage = false;
  session = new Session(chosen, viewer!, painter!, pool, {
    problem(problem) {
      page.say(problem);
      if (problem && ["pending", "failed", "nothing", "codec"].includes(problem.kind) && !hasImage) {
        hasImage = true;
        void page.showThumbnail(chosen);
      }
    },
    partial: (state) => page.setPartial(state),
    progress: (part) => page.setProgress(part),
    originals: () => page.writeStatus(),
    decodeFailures: (count) => page.setFailures(count),
    started(scene, keep) {
      const isSame = keep && viewer!.scene?.isVolume === scene.isVolume;
      viewer!.show(scene, isSame);
      if (!isSame) {
        page.isPanorama = false;
        viewer!.stage.removeAttribute("data-panorama");
        page.input!.tool = scene.isVolume ? "point" : "window";
        viewer!.usePreset(firstPreset(viewer!));
        page.arrange(!scene.isVolume);
      }
      page.writeTools();
      page.writeTabs();
      performance.mark("first-image");
    },
  });
  page.session = session;
  void session.run();
}

performance.mark("script");
// Whoever comes by a link of a share goes back to the page of the link: the list of studies is for users.
if (new URLSearchParams(location.search).has("shared")) element("console").hidden = true;
const query = new URLSearchParams(location.search);
if (query.get("study") && query.get("series")) server.requestEarly({ study: query.get("study")!, series: query.get("series")! });
try {
  painter = new Painter(element<HTMLCanvasElement>("canvas"));
  viewer = new Viewer(painter, element("stage"), () => {
    session?.lookAt(viewer!.slice);
    page.writeStatus();
  });
  page.viewer = viewer;
  page.input = new Input(viewer, (view) => page.maximize(view));
  painter.canvas.addEventListener("webglcontextlost", () => page.say("lost"));
  matchMedia("(max-width: 640px)").addEventListener("change", () => page.arrange(false));
} catch (error) {
  if (!(error instanceof NoWebGL)) console.error(error);
  painter = null;
}
// A token that comes from another tab, or from the window in which somebody signed in.
server.signIn.events.addEventListener("tokens", () => {
  if (element("notice").dataset.kind === "sign-in" && !element("notice").hidden) void open();
});
void open();
