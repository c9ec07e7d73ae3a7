/** "Live": rank labels for the last seconds of the microphone, twice a second, and log what was heard. */

import { NUMBERS, say, WORDS } from "./demo_words";
import { drawRanking, judge, labelNotes } from "./draw_ranking";
import { clock, NOTHING } from "./heard";
import { errorCard, escape, escapeName, factLine, hintCard, percent } from "./html";
import type { LabelBox } from "./label_box";
import { LiveLog } from "./live_log";
import { LastSamples, Microphone } from "./microphone";
import type { Models } from "./models";
import { runsOn } from "./embedded";
import { rankLabels } from "./ranked_labels";
import { resample } from "./resample";
import { levelDbfs, LOWEST_DBFS, windowsTogether } from "./windows";

const EVERY_MS = 1000 * NUMBERS["demo.tabs.live.EVERY_S"];
const LEAD_S = 0.1; // of sound before the first window, which the resampler's filter reaches into

interface Listening {
  microphone: Microphone;
  samples: LastSamples;
  answer: string;
}

export class LiveTab {
  box!: LabelBox;
  private listening: Listening | null = null;
  private log = new LiveLog();

  constructor(
    private readonly place: HTMLElement,
    private readonly models: Models,
  ) {
    this.find("#live").innerHTML = hintCard(WORDS.liveBefore);
    this.find("#listen").addEventListener("click", () => void (this.listening ? this.stop() : this.start()));
    this.find("#save").addEventListener("click", () => this.save());
  }

  private async start(): Promise<void> {
    const button = this.find<HTMLButtonElement>("#listen");
    button.disabled = true;
    this.find("#log").innerHTML = "";
    this.find("#save").hidden = true;
    this.find("#live").innerHTML = hintCard(WORDS.waiting, WORDS.waiting, "waiting");
    try {
      let samples: LastSamples | null = null;
      const microphone = await Microphone.open((block) => samples?.push(block));
      samples = new LastSamples(Math.ceil((this.neededSeconds + LEAD_S) * microphone.rateHz));
      this.log = new LiveLog();
      this.listening = { microphone, samples, answer: "" };
      button.textContent = "Stop";
      button.classList.add("on");
      void this.follow(this.listening);
    } catch (error) {
      this.find("#live").innerHTML = errorCard((error as Error).message, WORDS.noMicrophone);
    } finally {
      button.disabled = false;
    }
  }

  private stop(): void {
    const { microphone, samples, answer } = this.listening!;
    this.listening = null;
    microphone.close();
    const button = this.find("#listen");
    button.textContent = "Record";
    button.classList.remove("on");
    const last = answer ? `<br>${say(WORDS.lastAnswer, escapeName(answer))}` : "";
    const seconds = (samples.heard / microphone.rateHz).toFixed(0);
    const text = `<b>${WORDS.stopped}</b> after ${seconds} s.${last}<br>${WORDS.startAgain}`;
    this.find("#live").innerHTML = hintCard(text, `${WORDS.stopped}. ${answer}`, "stopped");
  }

  private async follow(listening: Listening): Promise<void> {
    while (listening === this.listening) {
      const start = performance.now();
      try {
        await this.answer(listening);
      } catch (error) {
        if (listening === this.listening) this.find("#live").innerHTML = errorCard((error as Error).message);
      }
      await new Promise((next) => setTimeout(next, Math.max(0, EVERY_MS - (performance.now() - start))));
    }
  }

  /** Rank labels for the newest sound, log the answer and draw it. */
  private async answer(listening: Listening): Promise<void> {
    const { samples, microphone } = listening;
    const { site } = this.models;
    const { window } = site;
    const heardSeconds = samples.heard / microphone.rateHz;
    const needed = this.neededSeconds;
    if (heardSeconds < needed + LEAD_S) {
      this.find("#live").innerHTML = this.drawWarmingUp(heardSeconds, needed);
      return;
    }
    const start = performance.now();
    const all = resample(samples.wave(), microphone.rateHz, window.rate_hz);
    const wave = all.slice(-Math.round(needed * window.rate_hz));
    const engine = await this.models.engine();
    const { rows } = await engine.ask("embedSound", { wave, rateHz: window.rate_hz });
    const { map, kinds, unknown } = await this.box.labels;
    if (listening !== this.listening) return;
    const size = site.embedding_size;
    const each = Array.from({ length: rows.length / size }, (_, i) => rows.subarray(i * size, (i + 1) * size));
    const ranked = rankLabels(map, each, each.map(() => false), this.box.favour, window);
    const answer = { site, ranked, kinds, unknown, favour: 0 };
    const verdict = judge(ranked, levelDbfs(wave) < site.silent_dbfs);
    const level = levelDbfs(wave.subarray(-window.rate_hz / 2));
    const [label, share] = ranked.ranking[0]!;
    listening.answer = verdict.spoken;
    this.log.note(verdict.text ? NOTHING : label, share, heardSeconds);
    const quiet = level < NUMBERS["demo.tabs.live.QUIET_DBFS"] && !verdict.text ? [WORDS.quiet] : [];
    const facts = factLine(
      drawLevel(level),
      `the last <b>${needed.toFixed(1)} s</b> of ${heardSeconds.toFixed(1)} s`,
      `computed in <b>${(performance.now() - start).toFixed(0)} ms</b>`,
      await runsOn(this.models),
    );
    if (listening !== this.listening) return;
    this.find("#live").innerHTML = drawRanking(answer, verdict, [...quiet, ...labelNotes(answer)], facts);
    this.find("#log").innerHTML = drawLog(this.log);
    this.find("#save").hidden = !this.log.stretches.length;
  }

  /** Of the windows that are averaged for an answer. */
  private get neededSeconds(): number {
    const { window } = this.models.site;
    return (window.samples + (windowsTogether(window) - 1) * window.hop_samples) / window.rate_hz;
  }

  private drawWarmingUp(heardSeconds: number, needed: number): string {
    const share = Math.min(heardSeconds / needed, 1);
    const text = say(WORDS.warmingSeconds, Math.min(heardSeconds, needed).toFixed(1), needed.toFixed(1));
    return (
      `<div class="card hint warming" data-spoken="${WORDS.warmingUp}"><p><b>${WORDS.warmingUp}</b><br>${text}</p>` +
      `<span class="track"><i style="width:${percent(share)}"></i></span></div>`
    );
  }

  private save(): void {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.log.csv()], { type: "text/csv" }));
    link.download = "heard.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  private find<T extends HTMLElement = HTMLElement>(selector: string): T {
    return this.place.querySelector<T>(selector)!;
  }
}

function drawLevel(level: number): string {
  const width = Math.max(0, Math.min(1, (level + 80) / 80));
  return (
    `level <i class="meter" role="meter" aria-label="level" aria-valuenow="${level.toFixed(0)}" ` +
    `aria-valuemin="${LOWEST_DBFS}" aria-valuemax="0"><i style="width:${percent(width)}"></i></i> ` +
    `<b>${level.toFixed(0)} dBFS</b>`
  );
}

/** What was heard, the newest first. */
function drawLog(log: LiveLog): string {
  if (!log.stretches.length) return "";
  const shown = log.stretches.slice(-NUMBERS["demo.drawing.draw_live.MAX_SHOWN"]).reverse();
  const rows = shown.map(
    ({ label, start, end, probability }) =>
      `<li><time>${clock(start)}-${clock(end)}</time> <b>${escapeName(label)}</b> <span>${percent(probability)}</span></li>`,
  );
  const rest = log.stretches.length - shown.length;
  const more = rest > 0 ? `<p class="reason">and ${rest} before; the CSV file has all of them</p>` : "";
  return `<div class="card log"><h2>${escape(WORDS.heardSoFar)}</h2><ol tabindex="0" aria-label="${escape(WORDS.heardSoFar)}">${rows.join("")}</ol>${more}</div>`;
}
