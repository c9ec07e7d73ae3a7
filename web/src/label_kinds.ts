/** Where the model knows a label from (demo/label_kinds.py). The values are CSS classes. */

import { WORDS } from "./demo_words";
import { wordsOfLabel } from "./label_text";
import type { Site } from "./site";
import { describe } from "./text_model";
import type { ZeroShot } from "./zeroshot";

export type LabelKind = "seen" | "unseen" | "typed";

export const KINDS: readonly { kind: LabelKind; mark: string; meaning: string }[] = [
  { kind: "seen", mark: "", meaning: WORDS.seen },
  { kind: "unseen", mark: WORDS.markUnseen, meaning: WORDS.unseen },
  { kind: "typed", mark: WORDS.markTyped, meaning: WORDS.typed },
];

/** The kind of each label of `chosen`; `own` is the bundle's own map. */
export function labelKinds(site: Site, own: ZeroShot, chosen: ZeroShot): Map<string, LabelKind> {
  return new Map(
    chosen.classNames.map((label, i) => {
      if (chosen.seen[i]) return [label, "seen"];
      const described = describe(site.descriptions, label) !== wordsOfLabel(label);
      return [label, described || own.has(label) ? "unseen" : "typed"];
    }),
  );
}
