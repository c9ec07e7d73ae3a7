/** "Name that sound": rank labels for a sound, with what is heard when and its spectrogram (demo/tabs/name_sound.py). */

import { decodeSound, refuseLong, SoundError, statedSeconds, toWav } from "./decode";
import { say, WORDS } from "./demo_words";
import { drawHeard, drawStrip, spokenList } from "./draw_heard";
import { drawRanking, judge, labelNotes } from "./draw_ranking";
import { drawSpectrogram } from "./draw_spectrogram";
import { embedSound, runsOn, type Embedded } from "./embedded";
import { heard } from "./heard";
import { errorCard, factLine, hintCard } from "./html";
import type { LabelBox } from "./label_box";
import { writeLabels } from "./label_text";
import { LastSamples, Microphone } from "./microphone";
import type { Models } from "./models";
import { Player } from "./player";
import { rankLabels } from "./ranked_labels";
import type { Example } from "./site";
import { windowEnds, windowStarts } from "./windows";

const MOST_RECORDED_S = 600;

export class NameTab {
  private turn = 0; // of the sounds that were chosen; an older one's answer is not shown
  private drawn = 0; // of the answers that were asked for
  private embedded: Embedded | null = null;
  private readonly player: Player;
  private recording: { microphone: Microphone; samples: LastSamples; end: number } | null = null;

  constructor(
    private readonly place: HTMLElement,
    private readonly models: Models,
  ) {
    this.player = new Player(this.find("audio"), place);
    this.find("#ranking").innerHTML = hintCard(WORDS.nothingYet);
    const input = this.find<HTMLInputElement>("#sound input");
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      input.value = ""; // so that the same file can be chosen again
      if (file) void this.show(file, file.name);
    });
    this.acceptDrops(this.find("#sound .drop"));
    this.find("#record").addEventListener("click", () => void this.record());
  }

  /** Draw the buttons of the examples. box: gets the labels that fit one. */
  addExamples(examples: readonly Example[], box: LabelBox): void {
    const place = this.find("#examples");
    for (const example of examples) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = example.name;
      button.addEventListener("click", () => {
        const known = example.labels.filter((label) => this.models.knowsText || this.models.zeroshot.has(label));
        if (known.length > 1 && known[0] === example.labels[0]) box.fill(writeLabels(known)); // the first is the right one
        void this.showExample(example);
      });
      place.append(button);
    }
    place.closest<HTMLElement>(".examples")!.hidden = !examples.length;
  }

  /** Rank again: other labels, or another offset. */
  async rankAgain(box: LabelBox): Promise<void> {
    if (this.embedded) await this.draw(this.embedded, box);
  }

  box!: LabelBox;

  private async showExample(example: Example): Promise<void> {
    const turn = ++this.turn;
    try {
      const reply = await fetch(example.url);
      if (!reply.ok) throw new SoundError(`${example.name}: the server answered ${reply.status}`);
      const content = await reply.blob();
      if (turn === this.turn) await this.show(content, example.name);
    } catch (error) {
      if (turn === this.turn) this.fail(error);
    }
  }

  private async show(file: Blob, name: string): Promise<void> {
    const turn = ++this.turn;
    this.embedded = null;
    const url = this.player.load(file);
    this.find("#name").textContent = name;
    this.find("#picture").innerHTML = this.find("#timeline").innerHTML = "";
    this.find("#ranking").innerHTML = hintCard("Listening …", "", "working");
    try {
      const embedded = await this.embed(file, name, url, turn);
      if (turn !== this.turn) return;
      this.embedded = embedded;
      await this.draw(embedded, this.box);
      await this.drawPicture(embedded, turn);
    } catch (error) {
      if (turn === this.turn) this.fail(error);
    }
  }

  private async embed(file: Blob, name: string, url: string, turn: number): Promise<Embedded> {
    const stated = await statedSeconds(url);
    if (stated !== null) refuseLong(name, stated);
    const sound = await decodeSound(await file.arrayBuffer(), name);
    const working = this.find("#ranking .working p");
    return embedSound(this.models, sound, (share) => {
      if (turn === this.turn) working.textContent = `Listening … ${Math.round(100 * share)} %`;
    });
  }

  private async draw(embedded: Embedded, box: LabelBox): Promise<void> {
    const drawn = ++this.drawn;
    try {
      const { map, kinds, unknown } = await box.labels;
      if (drawn !== this.drawn || embedded !== this.embedded) return;
      const { site } = this.models;
      const start = performance.now();
      const silent = embedded.levels.map((level) => level < site.silent_dbfs);
      const ranked = rankLabels(map, embedded.rows, silent, box.favour, site.window);
      const answer = { site, ranked, kinds, unknown, favour: box.favour };
      const facts = await this.drawFacts(embedded, performance.now() - start);
      const level = Math.max(...embedded.levels);
      const verdict = judge(ranked, level < site.silent_dbfs, embedded.sound.seconds);
      const notes = silent.every(Boolean)
        ? [say(WORDS.tooSoft, level.toFixed(0), site.silent_dbfs.toFixed(0))]
        : labelNotes(answer);
      const [ranking, timeline] = [this.find("#ranking"), this.find("#timeline")];
      timeline.innerHTML = "";
      if (embedded.rows.length === 1 || verdict.text === WORDS.nothingToHear) {
        ranking.innerHTML = drawRanking(answer, verdict, notes, facts);
        return;
      }
      const seconds = embedded.wave.length / site.window.rate_hz;
      const [starts, ends] = [
        windowStarts(embedded.rows.length, site.window),
        windowEnds(embedded.rows.length, site.window, seconds),
      ];
      const stretches = heard(starts, ends, ranked.named, ranked.shares);
      const said = stretches.length ? { text: "", reason: "", spoken: spokenList(stretches) } : verdict;
      const folded = new Set(stretches.map(({ label }) => label)).size > 1;
      const headline = said.text ? "" : drawHeard(stretches);
      ranking.innerHTML = drawRanking(answer, said, notes, facts, headline, folded);
      const padded = (embedded.rows.length * site.window.hop_samples) / site.window.rate_hz;
      timeline.innerHTML = drawStrip(stretches, Math.max(seconds, padded));
    } catch (error) {
      if (drawn === this.drawn) {
        this.find("#ranking").innerHTML = errorCard((error as Error).message);
        this.find("#timeline").innerHTML = "";
      }
    }
  }

  private async drawPicture(embedded: Embedded, turn: number): Promise<void> {
    const engine = await this.models.engine();
    const logMel = await engine.ask("logMel", { wave: embedded.wave });
    if (turn !== this.turn) return;
    this.find("#picture").innerHTML = `<div class="card">${drawSpectrogram(this.models.site, embedded.wave, logMel)}</div>`;
  }

  private async drawFacts({ sound, levels, milliseconds }: Embedded, rank: number): Promise<string> {
    const stages = Object.entries({ decode: sound.milliseconds, ...milliseconds, rank });
    const channels = ["", "mono", "stereo"][sound.channels] ?? `${sound.channels} channels`;
    return factLine(
      `${sound.seconds.toFixed(2)} s, ${channels}, ${sound.rateHz} Hz`,
      `peak <b>${Math.max(...levels).toFixed(0)} dBFS</b>`,
      ...stages.map(([stage, ms]) => `${stage} <b>${ms.toFixed(1)} ms</b>`),
      `total <b>${stages.reduce((sum, [, ms]) => sum + ms, 0).toFixed(1)} ms</b>`,
      await runsOn(this.models),
    );
  }

  private async record(): Promise<void> {
    const button = this.find<HTMLButtonElement>("#record");
    if (this.recording) {
      const { microphone, samples, end } = this.recording;
      clearTimeout(end);
      this.recording = null;
      const wave = samples.wave();
      microphone.close();
      button.textContent = "Record";
      button.classList.remove("on");
      if (wave.length) await this.show(new Blob([toWav(wave, microphone.rateHz)], { type: "audio/wav" }), "recording");
      return;
    }
    button.disabled = true;
    try {
      const samples = new LastSamples(MOST_RECORDED_S * 192_000);
      const microphone = await Microphone.open((block) => samples.push(block));
      const end = window.setTimeout(() => void this.record(), MOST_RECORDED_S * 1000);
      this.recording = { microphone, samples, end };
      button.textContent = "Stop";
      button.classList.add("on");
    } catch (error) {
      this.find("#ranking").innerHTML = errorCard((error as Error).message, WORDS.noMicrophone);
    } finally {
      button.disabled = false;
    }
  }

  private acceptDrops(drop: HTMLElement): void {
    for (const event of ["dragenter", "dragover"] as const) {
      drop.addEventListener(event, (dragged) => {
        dragged.preventDefault();
        drop.classList.add("over");
      });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (dropped) => {
      dropped.preventDefault();
      drop.classList.remove("over");
      const file = dropped.dataTransfer?.files[0];
      if (file) void this.show(file, file.name);
    });
  }

  private fail(error: unknown): void {
    this.find("#ranking").innerHTML = errorCard((error as Error).message);
  }

  private find<T extends HTMLElement = HTMLElement>(selector: string): T {
    return this.place.querySelector<T>(selector)!;
  }
}
