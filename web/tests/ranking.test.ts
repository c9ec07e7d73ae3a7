/** What the page shows of a ranking. */

import { expect, test } from "vitest";
import { drawRanking, judge, labelNotes } from "../src/draw_ranking";
import { labelKinds } from "../src/label_kinds";
import { rankLabels } from "../src/ranked_labels";
import type { Site } from "../src/site";
import { ZeroShot } from "../src/zeroshot";

const window = { rate_hz: 16_000, samples: 77_040, hop_samples: 76_800 };
const site = { descriptions: { "a <new> one": "a new sound" }, seen_classes: ["dog"], window } as unknown as Site;
const axis = (i: number) => Float32Array.from({ length: 3 }, (_, j) => (i === j ? 1 : 0));
const facts = {
  class_names: ["dog", "a <new> one"],
  seen: [true, false],
  temperature: 5,
  offset: 0,
  balanced: false,
  threshold: 0.5,
  prior_weight: 1,
};
const identity = Float32Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]);
const map = new ZeroShot(facts, new Float32Array(3), identity, [axis(0), axis(1)], new Float32Array(3), null);

async function answer(labels: string[], row: Float32Array, favour = 0, own = map) {
  const chosen = await own.choose(labels, () => Promise.resolve([axis(2)]));
  const ranked = rankLabels(chosen, [row], [false], favour, window);
  return { site, ranked, kinds: labelKinds(site, own, chosen), unknown: [] as [string, string[]][], favour };
}

test("seen, unseen and typed labels have marks of their own, and their text is escaped", async () => {
  const given = await answer(["dog", "a <new> one", "my words"], axis(1));
  expect(Object.fromEntries(given.kinds)).toEqual({ dog: "seen", "a <new> one": "unseen", "my words": "typed" });
  const html = drawRanking(given, judge(given.ranked, false), labelNotes(given), "");
  expect(html).toContain('<li class="unseen" title="a new sound"><span class="label">a &lt;new&gt; one <b class="mark unseen">unseen</b>');
  expect(html).toContain('<b class="mark typed">typed by you</b>');
  expect(html).not.toContain("<new>");
});

test("a sound like none of the labels, and a silent one, get a verdict in place of a name", async () => {
  const { ranked } = await answer(["dog", "a <new> one"], axis(2));
  expect(judge(ranked, false).text).toBe("none of these");
  expect(judge(ranked, true).text).toBe("nothing to hear");
  expect(ranked.named).toEqual([""]);
  expect(judge((await answer(["dog", "a <new> one"], axis(0))).ranked, false)).toMatchObject({ text: "", spoken: "dog, 99%" });
});

test("favour new sounds lets the label without recordings pass the other", async () => {
  const between = Float32Array.of(0.8, 0.6, 0);
  expect((await answer(["dog", "a <new> one"], between)).ranked.ranking[0]![0]).toBe("dog");
  expect((await answer(["dog", "a <new> one"], between, 3)).ranked.ranking[0]![0]).toBe("a <new> one");
});

test("typed labels are refused without a text model", async () => {
  await expect(map.choose(["dog", "my words"], null)).rejects.toThrow(
    "labels: got my words; this bundle knows dog, a <new> one, and this page has no text model",
  );
});

test("one label alone has a similarity and no percentage", async () => {
  const given = await answer(["dog"], axis(0));
  expect(labelNotes(given)[0]).toContain("similarity to the sound is 1.00 of 1; from 0.50 it counts as heard.");
  expect(drawRanking(given, judge(given.ranked, false), [], "")).toContain('<span class="share">sounds like it</span>');
});

test("even noise and a recording shorter than a frame are not named, whatever their similarity", async () => {
  const noisy = new ZeroShot(facts, new Float32Array(3), identity, [axis(0), axis(1)], new Float32Array(3), null, [
    { direction: Float32Array.of(0.8, 0.6, 0), threshold: 0.75 },
  ]);
  const { ranked } = await answer(["dog", "a <new> one"], axis(0), 0, noisy);
  expect(judge(ranked, false)).toMatchObject({
    text: "none of these",
    reason: "The sound is even noise, like that of a fan or an untuned radio.",
  });
  expect(ranked.named).toEqual([""]);
  expect(judge(ranked, false, 0.0249)).toMatchObject({
    text: "nothing to hear",
    reason: "The recording lasts only 24.9 ms, so the ranking below means nothing.",
  });
  expect(judge((await answer(["dog"], axis(0))).ranked, false, 0.025).text).toBe("");
});

test("a label that was taught by examples has a mark of its own, unless the model was trained on it", async () => {
  const sums = [axis(0), axis(2)];
  const seen = { ...facts, seen: [true, true] };
  const taught = new ZeroShot(seen, new Float32Array(3), identity, [axis(0), axis(1)], null, null, [], sums);
  const { kinds } = await answer(["dog", "a <new> one"], axis(0), 0, taught);
  expect(Object.fromEntries(kinds)).toEqual({ dog: "seen", "a <new> one": "taught" });
});
