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
    .filter(([count]) => count > 1) // one label alone is always right
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

/**
 * How often the first answer is right among trained and other labels together: for sounds of the trained ones, and for
 * sounds of the others; null: not known. The nearest of the measured numbers of labels count, by their logarithms.
 */
export function mixedAccuracy(scores: Scores, seenLabels: number, newLabels: number): [number, number] | null {
  const [ofSeen, ofNew] = [scores.mixed_seen, scores.mixed_unseen];
  if (!isTable(ofSeen) || !isTable(ofNew)) return null;
  const measured = Object.keys(ofSeen).filter((key) => key in ofNew && /^[1-9]\d*\+[1-9]\d*$/.test(key));
  const distance = (key: string) => {
    const [seen, fresh] = key.split("+").map(Number);
    return Math.hypot(Math.log(seen! / seenLabels), Math.log(fresh! / newLabels));
  };
  const [first, ...others] = measured;
  if (first === undefined) return null;
  const nearest = others.reduce((best, key) => (distance(key) < distance(best) ? key : best), first);
  return [ofSeen[nearest]!, ofNew[nearest]!];
}

function isTable(value: unknown): value is Record<string, number> {
  return typeof value === "object" && value !== null;
}

/** What to expect of a ranking of these labels, in one or two sentences; "" where nothing is known. */
export function expectation(scores: Scores, kinds: ReadonlyMap<string, LabelKind>): string {
  if (kinds.size === 1) return WORDS.alone;
  const count = (kind: LabelKind) => [...kinds.values()].filter((each) => each === kind).length;
  const [seenLabels, taughtLabels] = [count("seen"), count("taught")];
  const newLabels = kinds.size - seenLabels - taughtLabels;
  const sentences = [ofUntaught(scores, seenLabels, newLabels, taughtLabels)];
  const taught = seenLabels ? scores.taught_accuracy_all : scores.taught_accuracy;
  if (taughtLabels && typeof taught === "number") {
    const percent = `${roundHalfEven(100 * taught)} %`; // no "9 of 10", which would look like the number of examples
    sentences.push(say(WORDS.expectTaught, percent));
  }
  return sentences.filter(Boolean).join(" ");
}

/** As `expectation`, for trained and new labels. The scores were measured without the taught ones. */
function ofUntaught(scores: Scores, seenLabels: number, newLabels: number, taughtLabels: number): string {
  if (seenLabels && newLabels) return ofBoth(scores, seenLabels, newLabels);
  const [seen, fresh] = [seenAccuracy(scores), unseenAccuracy(scores, newLabels)];
  if (seenLabels && seen !== null) return say(taughtLabels ? WORDS.expectSeenAlone : WORDS.expectSeen, outOfTen(seen));
  if (!newLabels || fresh === null) return "";
  const chance = newLabels <= 5 ? say(WORDS.byChance, outOfTen(1 / newLabels)) : "";
  return say(WORDS.expectNew, newLabels, say(WORDS.areRight, outOfTen(fresh)), chance);
}

/** As `expectation`, for trained and other labels together. */
function ofBoth(scores: Scores, seenLabels: number, newLabels: number): string {
  const ofNew = newLabels > 1 ? say(WORDS.newLabels, newLabels) : WORDS.newLabel;
  const ofSeen = seenLabels > 1 ? say(WORDS.someLabels, seenLabels) : WORDS.oneLabel;
  const together = mixedAccuracy(scores, seenLabels, newLabels);
  if (together) return say(WORDS.expectBoth, ofSeen, outOfTen(together[0]), ofNew, outOfTen(together[1]));
  const seen = seenAccuracy(scores);
  return seen === null ? "" : say(WORDS.expectMissed, outOfTen(seen), ofNew);
}

/** A share as whole parts of ten, or of a hundred where it is near an end. */
export function outOfTen(share: number): string {
  const tenths = 10 * share;
  return tenths >= 1 && tenths <= 9.4 ? `${roundHalfEven(tenths)} of 10` : `${roundHalfEven(100 * share)} of 100`;
}

/** As Python rounds: 2.5 to 2, and 3.5 to 4. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}
