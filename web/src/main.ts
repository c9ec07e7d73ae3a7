/** The page: reads site.json, loads the models, and binds the two tabs. */

import "../../demo/style.css";
import "./page.css";
import { drawHeader } from "./draw_header";
import { runsOn } from "./embedded";
import type { Backend } from "./engine_messages";
import { errorCard } from "./html";
import { LabelBox } from "./label_box";
import { LAYOUT } from "./layout";
import { LiveTab } from "./live_tab";
import { Models } from "./models";
import { NameTab } from "./name_tab";
import { addScripting } from "./scripting";
import { readSite } from "./site";
import { bindTabs } from "./tabs";

const find = <T extends HTMLElement = HTMLElement>(selector: string) => document.querySelector<T>(selector)!;

const KEEP_AFTER_MS = 3000;

/** Half of the logical cores, as ONNX Runtime Web takes: threads that share a core, or wait for one, slow it down. */
function usualThreads(): number {
  return Math.ceil((navigator.hardwareConcurrency || 1) / 2);
}

/** Follow the system's colours; ?theme=dark or light chooses. */
function followTheme(chosen: string | null): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark", chosen ? chosen === "dark" : dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

/** Tell screen readers the newest answer in short. */
function speakAnswers(...places: HTMLElement[]): void {
  const status = find("#spoken");
  for (const place of places) {
    new MutationObserver(() => {
      const text = place.querySelector<HTMLElement>("[data-spoken]")?.dataset.spoken ?? "";
      if (status.textContent !== text) status.textContent = text;
    }).observe(place, { childList: true, subtree: true });
  }
}

/** Offer WebGPU where the browser has an adapter. WebAssembly stays the choice until the visitor takes another. */
async function offerWebGpu(models: Models): Promise<void> {
  const { gpu } = navigator as Navigator & { gpu?: { requestAdapter(): Promise<unknown> } };
  if (!models.site.files.webgpu || !(await gpu?.requestAdapter().catch(() => null))) return;
  find("#backend").hidden = false;
  for (const radio of document.querySelectorAll<HTMLInputElement>("#backend input")) {
    radio.addEventListener("change", async () => {
      find("#header").innerHTML = drawHeader(models.site, "");
      try {
        await models.use(radio.value as Backend);
      } catch {
        find<HTMLInputElement>("#backend input[value=wasm]").checked = true;
        await models.use("wasm");
      }
      find("#header").innerHTML = drawHeader(models.site, await runsOn(models));
    });
  }
}

async function start(): Promise<void> {
  const query = new URLSearchParams(location.search);
  followTheme(query.get("theme"));
  const site = await readSite();
  const models = await Models.load(site, Number(query.get("threads")) || usualThreads());
  find("#page").innerHTML = LAYOUT;
  find("#header").innerHTML = drawHeader(site, "");
  const [name, live] = [new NameTab(find("#panel-name"), models), new LiveTab(find("#panel-live"), models)];
  name.box = new LabelBox(find("#labels-name"), models, find("#promise"), () => void name.rankAgain(name.box));
  live.box = new LabelBox(find("#labels-live"), models, find("#promise"), () => undefined);
  bindTabs(find("[role=tablist]"), (id) => (id === "tab-live" ? live : name).box.showPromise());
  name.addExamples(site.examples, name.box);
  speakAnswers(find("#ranking"), find("#live"));
  addScripting(models);
  find("#header").innerHTML = drawHeader(site, await runsOn(models));
  await offerWebGpu(models);
  // It loads the files of the site, so it waits until the first sound is probably named.
  setTimeout(() => void navigator.serviceWorker?.register("service-worker.js"), KEEP_AFTER_MS);
}

start().catch((error: Error) => {
  find("#page").insertAdjacentHTML("beforeend", errorCard(error.message, "The page cannot start."));
});
