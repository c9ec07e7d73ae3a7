/** The page's code gives what Python gives. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { expectation } from "../src/expected_score";
import { Glove } from "../src/glove";
import { clock, heard } from "../src/heard";
import { largestFavour } from "../src/label_box";
import { normaliseLabel, readLabels } from "../src/label_text";
import { resample } from "../src/resample";
import { TextModel } from "../src/text_model";
import { countWindows, levelDbfs, smoothRows, windowsTogether } from "../src/windows";
import { WordPiece } from "../src/wordpiece";
import { ZeroShot } from "../src/zeroshot";
import { reference, tensors } from "./reference";

/** FP32 in NumPy, FP64 here: a sum of a few hundred products differs by rounding. */
const ROUNDING = 1e-5;

describe.skipIf(!reference)("as Python", () => {
  const known = reference!;

  test.each((known?.resample ?? []).map((each) => [each.rate_hz, each] as const))(
    "a sound at %i Hz is resampled",
    (rateHz, { wave, expected }) => {
      const got = resample(Float32Array.from(wave), rateHz, 16_000);
      expect(got.length).toBe(expected.length);
      // soxr's window is another one: its ripple, and the ends of the sound, within a thousandth. -60 dB
      const least = rateHz === 44_100 || rateHz === 22_050 ? 1e-6 : 1e-3;
      const edge = 400;
      const inner = (numbers: ArrayLike<number>) => Array.from(numbers).slice(edge, -edge);
      const worst = Math.max(...inner(got).map((sample, i) => Math.abs(sample - inner(expected)[i]!)));
      expect(worst).toBeLessThan(least);
    },
  );

  test("windows are counted and averaged", () => {
    for (const { window, counts, together, rows, smooth } of known.windows) {
      for (const [samples, count] of counts) expect(countWindows(samples, window)).toBe(count);
      expect(windowsTogether(window)).toBe(together);
      const got = smoothRows(rows.map((row) => Float32Array.from(row)), together);
      got.forEach((row, i) => row.forEach((value, j) => expect(value).toBeCloseTo(smooth[i]![j]!, 5)));
    }
    for (const [wave, level] of known.levels) expect(levelDbfs(Float32Array.from(wave))).toBeCloseTo(level, 4);
  });

  test.each((known?.zeroshot ?? []).map((each, i) => [["whitened prototypes", "text objective", "taught classes"][i], each] as const))(
    "a map of %s ranks classes",
    async (_, stored) => {
      const arrays = Object.entries(stored.arrays).map(([name, [shape, numbers]]) => [
        name,
        [shape, Float32Array.from(numbers)],
      ]);
      const map = ZeroShot.parse(stored.facts, tensors(Object.fromEntries(arrays)));
      const rows = stored.embeddings.map((row) => Float32Array.from(row));
      const same = (got: [string, number][], wanted: [string, number][]) => {
        expect(got.map(([label]) => label)).toEqual(wanted.map(([label]) => label));
        got.forEach(([, share], i) => expect(Math.abs(share - wanted[i]![1])).toBeLessThan(ROUNDING));
      };
      for (const [offset, ranked] of stored.ranked) rows.forEach((row, i) => same(map.rank(row, offset), ranked[i]!));
      rows.forEach((row, i) => {
        map.similarities(row).forEach((value, j) => {
          expect(Math.abs(value - stored.similarities[i]![j]!)).toBeLessThan(ROUNDING);
        });
        expect(map.noneOfThese(row)).toBe(stored.none_of_these[i]);
        expect(map.isNoise(row)).toBe(stored.noise[i]);
      });
      const some = await map.choose(stored.some, null);
      rows.forEach((row, i) => same(some.rank(row), stored.ranked_some[i]!));
      expect(map.ownOffset).toBeCloseTo(stored.own_offset, 9);
      expect(some.ownOffset).toBeCloseTo(stored.own_offset_of_some, 9);
      expect(map.hasExamples).toEqual(stored.has_examples);
      expect(largestFavour(map)).toBe(stored.largest_favour);
    },
  );

  test("labels are read as they are typed", () => {
    for (const { text, known: names, labels, error } of known.labels) {
      if (error === undefined) expect(readLabels(text, names)).toEqual(labels);
      else expect(() => readLabels(text, names)).toThrow(error);
    }
    for (const [text, normalised] of known.normalised) expect(normaliseLabel(text)).toBe(normalised);
  });

  test("what is heard when", () => {
    const { starts, ends, labels, shares, expected } = known.heard;
    heard(starts, ends, labels, shares).forEach(({ label, start, end, probability }, i) => {
      const [wantedLabel, wantedStart, wantedEnd, wantedShare] = expected[i]!;
      expect([label, start, end]).toEqual([wantedLabel, wantedStart, wantedEnd]);
      expect(probability).toBeCloseTo(wantedShare, 9);
    });
    for (const [seconds, text] of known.clock) expect(clock(seconds)).toBe(text);
  });

  test("what to expect, in words", () => {
    for (const { scores, kinds, expected } of known.expectation) expect(expectation(scores, new Map(kinds))).toBe(expected);
  });

  test("a text becomes the same tokens, and the same words are unknown", () => {
    const { tokenizer, texts } = known.tokens;
    const wordPiece = new WordPiece(JSON.parse(readFileSync(tokenizer, "utf8")), 256);
    const run = () => Promise.reject(new Error("not needed"));
    const model = new TextModel({}, false, null, { tokenizer: wordPiece, run });
    for (const [text, ids, unknown] of texts) {
      expect(wordPiece.encode(text), text).toEqual(ids);
      expect(model.unknownWords(text), text).toEqual(unknown);
    }
  });

  test("GloVe is the mean of the known words", () => {
    const { words, vectors, scales, texts } = known.glove;
    const glove = new Glove(
      tensors({
        vectors: [[words.length, 5], Int8Array.from(vectors)],
        scales: [[words.length], Float32Array.from(scales)],
        sorted_words: [[0], new TextEncoder().encode(words.join(""))],
        lengths: [[words.length], Uint8Array.from(words, (word) => word.length)],
      }),
    );
    for (const [text, expected, knows] of texts) {
      glove.encode(text).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
      expect(glove.knows(text)).toBe(knows);
    }
  });
});
