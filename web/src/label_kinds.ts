/** Where the model knows a label from (demo/labels/label_kinds.py). The values are CSS classes. */

import { WORDS } from "./demo_words";
import { normaliseLabel, wordsOfLabel } from "./label_text";
import type { Site } from "./site";
import { describe } from "./text_model";
import type { ZeroShot } from "./zeroshot";

export type LabelKind = "seen" | "taught" | "unseen" | "typed";

export const KINDS: readonly { kind: LabelKind; mark: string; meaning: string }[] = [
  { kind: "seen", mark: "", meaning: WORDS.seen },
  { kind: "taught", mark: WORDS.markTaught, meaning: WORDS.taught },
  { kind: "unseen", mark: WORDS.markUnseen, meaning: WORDS.unseen },
  { kind: "typed", mark: WORDS.markTyped, meaning: WORDS.typed },
];

/** The kind of each label of `chosen`; `own` is the bundle's own map. */
export function labelKinds(site: Site, own: ZeroShot, chosen: ZeroShot): Map<string, LabelKind> {
  const trained = new Set(site.seen_classes.map(normaliseLabel));
  return new Map(
    chosen.classNames.map((label, i) => {
      if (chosen.hasExamples[i] && !trained.has(normaliseLabel(label))) return [label, "taught"];
      if (chosen.seen[i]) return [label, "seen"];
      const described = describe(site.descriptions, label) !== wordsOfLabel(label);
      return [label, described || own.has(label) ? "unseen" : "typed"];
    }),
  );
}
