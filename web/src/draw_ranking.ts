/** Draw ranked labels as bars, and what the page says of a sound as a whole (demo/drawing/draw_ranking.py, demo/verdict.py). */

import { NUMBERS, say, WORDS } from "./demo_words";
import { escape, escapeName, percent } from "./html";
import { KINDS, type LabelKind } from "./label_kinds";
import { wordsOfLabel } from "./label_text";
import type { RankedLabels } from "./ranked_labels";
import type { Site } from "./site";
import { describe } from "./text_model";

const MAX_BARS = NUMBERS["demo.drawing.draw_ranking.MAX_BARS"];

export interface Verdict {
  text: string; // "": the most probable label is the answer
  reason: string;
  spoken: string; // for screen readers
}

/** What was typed, what it means to the model, and how it is ranked for a sound. */
export interface Answer {
  site: Site;
  ranked: RankedLabels;
  kinds: Map<string, LabelKind>;
  unknown: [string, string[]][];
  favour: number;
}

/** silent: whether the sound is too soft to be named;  seconds: its duration. */
export function judge(ranked: RankedLabels, silent: boolean, seconds = Infinity): Verdict {
  if (seconds < NUMBERS["demo.verdict.SHORTEST_S"]) {
    const reason = say(WORDS.tooShort, (1000 * seconds).toFixed(1));
    return { text: WORDS.nothingToHear, reason, spoken: WORDS.nothingToHear };
  }
  if (silent) return { text: WORDS.nothingToHear, reason: WORDS.silent, spoken: WORDS.nothingToHear };
  const [label, share] = ranked.ranking[0]!;
  if (ranked.noise) return { text: WORDS.noneOfThese, reason: WORDS.evenNoise, spoken: WORDS.noneOfThese };
  if (ranked.noneOfThese) {
    return { text: WORDS.noneOfThese, reason: say(WORDS.likeNone, wordsOfLabel(label)), spoken: WORDS.noneOfThese };
  }
  const sure = ranked.ranking.length === 1 ? WORDS.likeIt : percent(share);
  return { text: "", reason: "", spoken: `${wordsOfLabel(label)}, ${sure}` };
}

/** The card. notes, facts, headline: HTML; folded: show the bars only after a click. */
export function drawRanking(
  answer: Answer,
  verdict: Verdict,
  notes: readonly string[],
  facts: string,
  headline = "",
  folded = false,
): string {
  const { ranked, kinds } = answer;
  const [shown, rest] = [ranked.ranking.slice(0, MAX_BARS), ranked.ranking.slice(MAX_BARS)];
  const rows = shown.map(([label, share]) => drawBar(answer, label, share)).join("");
  const used = new Set(shown.map(([label]) => kinds.get(label)));
  const key = KINDS.filter(({ kind }) => used.has(kind))
    .map(({ kind, meaning }) => `<span class="${kind}">${meaning}</span>`)
    .join("");
  const together = rest.reduce((sum, [, share]) => sum + share, 0);
  const lines = [...notes, ...(rest.length ? [say(WORDS.moreLabels, rest.length, percent(together, 1))] : [])];
  const classes = ["bars", headline && "small", verdict.text && "dimmed"].filter(Boolean).join(" ");
  const above = verdict.text
    ? `<p class="verdict">${verdict.text}</p><p class="reason">${escape(verdict.reason)}</p>`
    : "";
  const [opened, closed] = folded ? [`<details><summary>${WORDS.whole}</summary>`, "</details>"] : ["", ""];
  return (
    `<div class="card" data-spoken="${escape(verdict.spoken)}">${above}${headline}${opened}` +
    `<ol class="${classes}">${rows}</ol><p class="kinds">${key}</p>` +
    `${lines.map((line) => `<p>${line}</p>`).join("")}${closed}${facts}</div>`
  );
}

function drawBar({ site, ranked, kinds }: Answer, label: string, share: number): string {
  const kind = kinds.get(label)!;
  const description = describe(site.descriptions, label);
  const title = description === wordsOfLabel(label) ? "" : ` title="${escape(description)}"`;
  const mark = KINDS.find((each) => each.kind === kind)!.mark;
  const marked = mark ? ` <b class="mark ${kind}">${mark}</b>` : "";
  const alone = ranked.ranking.length === 1;
  const likeIt = ranked.noneOfThese || ranked.chosen.threshold === null ? "" : WORDS.likeIt;
  const width = alone ? Math.max(ranked.similarity, 0) : share;
  return (
    `<li class="${kind}"${title}><span class="label">${escapeName(label)}${marked}</span>` +
    `<span class="share">${alone ? likeIt : percent(share, 1)}</span>` +
    `<span class="track"><i style="width:${percent(width, 2)}"></i></span></li>`
  );
}

/** Notes about a sound that is not silent, as HTML. */
export function labelNotes({ ranked, unknown, favour }: Answer): string[] {
  const notes: string[] = [];
  const { threshold, seen } = ranked.chosen;
  if (ranked.ranking.length === 1) {
    const counts = threshold ? say(WORDS.countsFrom, threshold.toFixed(2)) : ".";
    notes.push(say(WORDS.oneAlone, ranked.similarity.toFixed(2)) + counts);
  }
  for (const [label, words] of unknown) {
    if (words.length) notes.push(say(WORDS.unknownWords, escapeName(words.join(" ")), escapeName(label)));
  }
  if (favour && ranked.ranking.length > 1 && (seen.every(Boolean) || !seen.some(Boolean))) {
    notes.push(say(WORDS.allTheSame, seen[0] ? "trained on" : "new"));
  }
  return notes;
}
