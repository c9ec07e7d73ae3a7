/** How often the first answer is right, in words, from the scores in the bundle's manifest (demo/expected_score.py). */

import { say, WORDS } from "./demo_words";
import type { LabelKind } from "./label_kinds";

type Scores = Record<string, unknown>;
const SEEN_SCORES = ["seen_accuracy", "zeroshot_map_test_accuracy", "test_accuracy", "folds_accuracy"];

/** The accuracy on sounds of the bundle's own classes, 0 to 1; null: it is not known. */
export function seenAccuracy(scores: Scores): number | null {
  const name = SEEN_SCORES.find((each) => typeof scores[each] === "number");
  return name ? (scores[name] as number) : null;
}

/** How often the first of so many answers is right where the model was trained on none of them; null: not known. */
export function unseenAccuracy(scores: Scores, labels: number): number | null {
  const measured = scores.unseen_top1;
  if (typeof measured !== "object" || !measured || labels < 2) return null;
  const points = Object.entries(measured as Record<string, number>)
    .map(([count, share]): [number, number] => [Number(count), share])
    .sort((a, b) => a[0] - b[0]);
  for (let i = 0; i + 1 < points.length; i++) {
    const [[fewer, high], [more, low]] = [points[i]!, points[i + 1]!];
    if (fewer <= labels && labels <= more) {
      return high + (Math.log(labels / fewer) / Math.log(more / fewer)) * (low - high);
    }
  }
  const [first, last] = [points[0], points.at(-1)];
  if (!first || !last) return null;
  return labels >= last[0] ? last[1] : first[1];
}

/** How often the first answer is right among labels of both kinds: of the trained ones, and of the others. */
export function mixedAccuracy(scores: Scores, seen: number, fresh: number): [number, number] | null {
  const [ofSeen, ofNew] = [scores.mixed_seen, scores.mixed_unseen] as (Record<string, number> | undefined)[];
  if (typeof ofSeen !== "object" || typeof ofNew !== "object") return null;
  const distance = (key: string) => {
    const [a, b] = key.split("+").map(Number);
    return Math.hypot(Math.log(a! / seen), Math.log(b! / fresh));
  };
  const measured = Object.keys(ofSeen).filter((key) => key in ofNew && /^[1-9]\d*\+[1-9]\d*$/.test(key));
  if (!measured.length) return null;
  const nearest = measured.reduce((best, key) => (distance(key) < distance(best) ? key : best));
  return [ofSeen[nearest]!, ofNew[nearest]!];
}

/** What to expect of a ranking of these labels, in one or two sentences; "" where nothing is known. */
export function expectation(scores: Scores, kinds: ReadonlyMap<string, LabelKind>): string {
  if (kinds.size === 1) return WORDS.alone;
  const seenLabels = [...kinds.values()].filter((kind) => kind === "seen").length;
  const newLabels = kinds.size - seenLabels;
  const seen = seenAccuracy(scores);
  if (seenLabels && newLabels) {
    const fresh = say(WORDS.newLabels, newLabels, newLabels > 1 ? "s" : "");
    const together = mixedAccuracy(scores, seenLabels, newLabels);
    if (together) return say(WORDS.mixed, seenLabels, outOfTen(together[0]), fresh, outOfTen(together[1]));
    return seen === null ? "" : say(WORDS.mixedUnknown, outOfTen(seen), fresh);
  }
  if (seenLabels && seen !== null) return say(WORDS.expectSeen, outOfTen(seen));
  const fresh = unseenAccuracy(scores, newLabels);
  if (!newLabels || fresh === null) return "";
  const chance = newLabels <= 5 ? say(WORDS.byChance, outOfTen(1 / newLabels)) : "";
  return say(WORDS.expectNew, newLabels, say(WORDS.right, outOfTen(fresh)), chance);
}

/** A share as whole parts of ten, or of a hundred where it is near an end. */
export function outOfTen(share: number): string {
  const tenths = 10 * share;
  return tenths >= 1 && tenths <= 9.4 ? `${Math.round(tenths)} of 10` : `${Math.round(100 * share)} of 100`;
}
