/** The zero-shot score of serving/zeroshot/zeroshot.py: embedding x class vectors -> ranked classes. */

import { joinLabels, LabelError, normaliseLabel } from "./label_text";
import type { Tensors } from "./tensors";

/** The numbers of zeroshot.npz that are no arrays. */
export interface ZeroShotFacts {
  class_names: string[];
  seen: boolean[];
  temperature: number;
  offset: number;
  balanced: boolean;
  threshold: number | null;
  prior_weight: number;
}

/** A unit row in the space of the comparison. A sound with a cosine of the threshold or more to it is even noise. */
export interface Noise {
  direction: Float32Array;
  threshold: number;
}

/** Labels -> unit rows of text vectors, in their order. */
export type TextEncoder = (labels: readonly string[]) => Promise<Float32Array[]>;

export class ZeroShot {
  /** Class vectors in the space of the comparison: unit rows. */
  private readonly targets: Float32Array[];
  private readonly rowOf: Map<string, number>;
  /** Whether each class was taught by examples. */
  readonly hasExamples: readonly boolean[];

  /**
   * mean [128] is subtracted from an embedding, which projection [128, size] then maps; classVectors [C][textSize] are
   * unit rows, which textProjection [textSize, size] maps, if there is one. exampleSums [C][size]: of the examples that
   * a class was taught by, as unit rows in the space of the comparison; zeros: the class has none. givenTargets
   * [C][size]: where classes stand that do not stand where their texts place them; zeros: the text places the class.
   */
  constructor(
    private readonly facts: ZeroShotFacts,
    private readonly mean: Float32Array,
    private readonly projection: Float32Array,
    private readonly classVectors: Float32Array[],
    private readonly textMean: Float32Array | null,
    private readonly textProjection: Float32Array | null,
    private readonly noise: readonly Noise[] = [],
    private readonly exampleSums: readonly Float32Array[] | null = null,
    private readonly givenTargets: readonly Float32Array[] | null = null,
  ) {
    const described = classVectors.map((row, i) => {
      const given = givenTargets?.[i];
      if (given && isSet(given)) return given;
      return textProjection ? unit(times(row, textProjection)) : row;
    });
    this.hasExamples = described.map((_, row) => exampleSums !== null && isSet(exampleSums[row]!));
    this.targets = described.map((target, row) => {
      if (!this.hasExamples[row]) return target;
      return unit(target.map((value, i) => facts.prior_weight * value + exampleSums![row]![i]!));
    });
    this.rowOf = new Map(facts.class_names.map((name, row) => [normaliseLabel(name), row]));
  }

  static parse(facts: ZeroShotFacts, arrays: Tensors): ZeroShot {
    const optional = (name: string) => (arrays.has(name) ? arrays.floats(name) : null);
    const count = facts.class_names.length;
    const [noise, thresholds, sums] = ["noise", "noise_thresholds", "example_sums"].map(optional);
    const given = optional("given_targets");
    const directions = noise && thresholds ? rowsOf(noise, thresholds.length) : [];
    return new ZeroShot(
      facts,
      arrays.floats("mean"),
      arrays.floats("projection"),
      rowsOf(arrays.floats("class_vectors"), count),
      optional("text_mean"),
      optional("text_projection"),
      directions.map((direction, i) => ({ direction, threshold: thresholds![i]! })),
      sums ? rowsOf(sums, count) : null,
      given ? rowsOf(given, count) : null,
    );
  }

  get classNames(): readonly string[] {
    return this.facts.class_names;
  }

  get seen(): readonly boolean[] {
    return this.facts.seen;
  }

  get temperature(): number {
    return this.facts.temperature;
  }

  /** By which seen classes score too high. */
  get offset(): number {
    return this.facts.offset;
  }

  /**
   * Subtracted from the scores of seen classes: the offset, and for a balanced map with classes of both kinds
   * log(seen classes / unseen classes).
   */
  get ownOffset(): number {
    const seen = this.seen.filter(Boolean).length;
    const unseen = this.seen.length - seen;
    return this.offset + (this.facts.balanced && seen && unseen ? Math.log(seen / unseen) : 0);
  }

  get threshold(): number | null {
    return this.facts.threshold;
  }

  get knowsTextMean(): boolean {
    return this.textMean !== null;
  }

  has(label: string): boolean {
    return this.rowOf.has(normaliseLabel(label));
  }

  /** The cosine of an embedding and each class in the space of the comparison. */
  cosines(embedding: Float32Array): number[] {
    const placed = this.place(embedding);
    return this.targets.map((target) => dot(placed, target));
  }

  /** An embedding in the space of the comparison: a unit row. */
  private place(embedding: Float32Array): Float32Array {
    return unit(times(embedding.map((value, i) => value - this.mean[i]!), this.projection));
  }

  scores(embedding: Float32Array, offset: number): number[] {
    return this.cosines(embedding).map((cosine, i) => this.temperature * cosine - (this.seen[i] ? offset : 0));
  }

  /** The cosines, less the map's own offset for seen classes: the number that has the threshold. */
  similarities(embedding: Float32Array): number[] {
    const cosines = this.cosines(embedding);
    if (!this.offset || !this.temperature) return cosines;
    return cosines.map((cosine, i) => (this.seen[i] ? cosine - this.offset / this.temperature : cosine));
  }

  /** Whether an embedding is like none of the classes: no similarity reaches the threshold, or it is noise. */
  noneOfThese(embedding: Float32Array): boolean {
    if (this.isNoise(embedding)) return true;
    return this.threshold !== null && Math.max(...this.similarities(embedding)) < this.threshold;
  }

  /** Whether an embedding is that of even noise, which no label means. */
  isNoise(embedding: Float32Array): boolean {
    if (!this.noise.length) return false;
    const placed = this.place(embedding);
    return this.noise.some(({ direction, threshold }) => dot(placed, direction) >= threshold);
  }

  /** [class name, probability] pairs, most probable first; the probabilities sum to 1. */
  rank(embedding: Float32Array, offset = this.ownOffset): [string, number][] {
    const shares = softmax(this.scores(embedding, offset));
    const order = shares.map((_, i) => i).sort((a, b) => shares[b]! - shares[a]! || a - b);
    return order.map((i) => [this.classNames[i]!, shares[i]!]);
  }

  /**
   * The same map with other classes. Labels that are no names of classes count as unseen.
   *
   * encode   the text encoder that made the class vectors; null: only names of the bundle's classes are accepted
   */
  async choose(labels: readonly string[], encode: TextEncoder | null): Promise<ZeroShot> {
    const rows = labels.map((label) => this.rowOf.get(normaliseLabel(label)) ?? -1);
    const typed = labels.filter((_, i) => rows[i]! < 0);
    if (typed.length && !(encode && this.textMean)) {
      throw new LabelError(
        `labels: got ${joinLabels(typed)}; this bundle knows ${joinLabels(this.classNames)}, and this page has no text ` +
          "model to understand others with: export the site again with --text-model",
      );
    }
    const encoded = typed.length ? await encode!(typed) : [];
    const ofTyped = encoded.map((row) => unit(row.map((value, i) => value - this.textMean![i]!)));
    const chosen = (stored: readonly Float32Array[] | null) =>
      stored && rows.map((row) => (row < 0 ? new Float32Array(stored[0]!.length) : stored[row]!));
    return new ZeroShot(
      { ...this.facts, class_names: [...labels], seen: rows.map((row) => row >= 0 && this.seen[row]!) },
      this.mean,
      this.projection,
      rows.map((row) => (row < 0 ? ofTyped.shift()! : this.classVectors[row]!)),
      this.textMean,
      this.textProjection,
      this.noise,
      chosen(this.exampleSums),
      chosen(this.givenTargets),
    );
  }
}

/** Whether a row has a value: zeros stand for no row. */
function isSet(row: Float32Array): boolean {
  return row.some((value) => value !== 0);
}

/** The rows of a matrix [count, size]. */
function rowsOf(matrix: Float32Array, count: number): Float32Array[] {
  const size = matrix.length / count;
  return Array.from({ length: count }, (_, row) => matrix.subarray(row * size, (row + 1) * size));
}

export function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const odds = scores.map((score) => Math.exp(score - most));
  const sum = odds.reduce((a, b) => a + b, 0);
  return odds.map((each) => each / sum);
}

export function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Scaled to length 1; zeros stay zeros. */
export function unit(row: Float32Array): Float32Array {
  const length = Math.max(Math.sqrt(dot(row, row)), 1e-12);
  return row.map((value) => value / length);
}

/** A row [n] times a matrix [n, size]. */
function times(row: Float32Array, matrix: Float32Array): Float32Array {
  const size = matrix.length / row.length;
  const sums = new Float64Array(size);
  for (let i = 0; i < row.length; i++) {
    const value = row[i]!;
    for (let j = 0; j < size; j++) sums[j]! += value * matrix[i * size + j]!;
  }
  return Float32Array.from(sums);
}
