/** What a sound may be called: labels, lists that fill them, and "favour new sounds" (demo/labels/label_box.py). */

import { NUMBERS, WORDS } from "./demo_words";
import { expectation } from "./expected_score";
import { escape } from "./html";
import { normaliseLabel, readLabels, writeLabels } from "./label_text";
import type { ChosenLabels, Models } from "./models";
import type { ZeroShot } from "./zeroshot";

const STEP = NUMBERS["demo.labels.favour_new.STEP"];

export class LabelBox {
  private readonly presets: Map<string, string>;
  private chosen: Promise<ChosenLabels>;

  /** changed: is called when the labels or the slider have changed; promise: says how often an answer is right. */
  constructor(
    private readonly place: HTMLElement,
    private readonly models: Models,
    private readonly promise: HTMLElement,
    private readonly changed: () => void,
  ) {
    this.presets = presets(models);
    this.place.innerHTML = this.draw();
    this.chosen = this.choose();
    let typing = 0;
    this.text.addEventListener("input", () => {
      clearTimeout(typing);
      typing = window.setTimeout(() => this.renew(), 300);
    });
    this.slider.addEventListener("input", () => {
      this.number.value = this.slider.value;
      this.changed();
    });
    this.number.addEventListener("input", () => {
      if (!this.number.checkValidity() || this.number.value === "") return;
      this.slider.value = this.number.value;
      this.changed();
    });
    for (const radio of this.place.querySelectorAll<HTMLInputElement>("input[type=radio]")) {
      radio.addEventListener("change", () => this.fill(this.presets.get(radio.value)!));
    }
  }

  /** The labels as they are typed, ready to rank. Rejects with a LabelError if one cannot be used. */
  get labels(): Promise<ChosenLabels> {
    return this.chosen;
  }

  /** The slider: added to the map's own offset. */
  get favour(): number {
    return Number(this.slider.value);
  }

  /** Replace what is typed. */
  fill(labels: string): void {
    this.text.value = labels;
    this.renew();
  }

  private renew(): void {
    this.chosen = this.choose();
    for (const radio of this.place.querySelectorAll<HTMLInputElement>("input[type=radio]")) {
      radio.checked = this.presets.get(radio.value) === this.text.value;
    }
    void this.showPromise();
    this.changed();
  }

  private choose(): Promise<ChosenLabels> {
    return this.models.choose(this.text.value);
  }

  /** Say what to expect of a ranking of these labels. */
  async showPromise(): Promise<void> {
    const chosen = this.chosen;
    let html = "";
    try {
      const { map, kinds } = await chosen;
      const text = expectation(this.models.site.scores, kinds);
      const count = map.classNames.length;
      const counted = `<b>${count} label${count > 1 ? "s" : ""}.</b>`;
      if (text) html = `<p class="promise">${counted} ${escape(text)}</p>`;
    } catch {
      // the ranking says what is wrong
    }
    if (chosen === this.chosen) this.promise.innerHTML = html;
  }

  private draw(): string {
    const { zeroshot, knowsText } = this.models;
    const name = `preset-${this.place.id}`;
    const radios = [...this.presets.keys()]
      .map((preset, i) => {
        const checked = i ? "" : " checked";
        return `<label><input type="radio" name="${name}" value="${escape(preset)}"${checked}> ${escape(preset)}</label>`;
      })
      .join("");
    const advice = knowsText
      ? WORDS.adviceText
      : `This page came without a text model, so it understands only the names of its ${zeroshot.classNames.length} classes.`;
    const end = largestFavour(zeroshot);
    const range = `min="${-end}" max="${end}" step="${STEP}" value="0"`;
    return (
      (this.presets.size > 1 ? `<fieldset class="preset"><legend>${WORDS.startFrom}</legend>${radios}</fieldset>` : "") +
      `<label class="field"><span>${WORDS.labels}</span><small>${advice}</small>` +
      `<textarea class="labels" rows="3" spellcheck="false">${escape(this.presets.get(WORDS.ownPreset)!)}</textarea></label>` +
      `<label class="field"><span>${WORDS.favourNew}</span><small>${WORDS.favourNewInfo}</small>` +
      `<span class="offset"><input type="range" class="favour" ${range}>` +
      `<input type="number" class="favour-number" aria-label="${WORDS.favourNew}" ${range}></span></label>`
    );
  }

  private get text(): HTMLTextAreaElement {
    return this.place.querySelector("textarea")!;
  }

  private get slider(): HTMLInputElement {
    return this.place.querySelector(".favour")!;
  }

  private get number(): HTMLInputElement {
    return this.place.querySelector(".favour-number")!;
  }
}

/** Name -> labels as they are typed. Only lists whose labels this page all understands. */
function presets({ site, zeroshot, knowsText }: Models): Map<string, string> {
  const known = new Set(zeroshot.classNames.map(normaliseLabel));
  const lists = Object.entries(site.label_lists).map(([name, labels]): [string, string] => [name, writeLabels(labels)]);
  const understood = lists.filter(
    ([, text]) => knowsText || (readLabels(text) ?? []).every((label) => known.has(normaliseLabel(label))),
  );
  return new Map([[WORDS.ownPreset, writeLabels(zeroshot.classNames)], ...understood]);
}

/** The end of the slider, in units of a score: there, hardly any class with recordings still ranks before the others. */
export function largestFavour(zeroshot: ZeroShot): number {
  const spread = NUMBERS["demo.labels.favour_new.SHARE_OF_TEMPERATURE"] * zeroshot.temperature;
  return Number((Math.ceil(Math.max(spread - zeroshot.offset, STEP) / STEP) * STEP).toFixed(1));
}
