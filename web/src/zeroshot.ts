/** The zero-shot score of serving/zeroshot.py: embedding x class vectors -> ranked classes. */

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
}

/** Even noises in the space of the comparison, as unit rows, and the cosine from which on a sound is each of them. */
export interface Noises {
  rows: Float32Array[];
  thresholds: Float32Array;
}

/** Labels -> unit rows of text vectors, in their order. */
export type TextEncoder = (labels: readonly string[]) => Promise<Float32Array[]>;

export class ZeroShot {
  /** Class vectors in the space of the comparison: unit rows. */
  private readonly targets: Float32Array[];
  private readonly rowOf: Map<string, number>;

  /**
   * mean [128] is subtracted from an embedding, which projection [128, size] then maps; classVectors [C][textSize] are
   * unit rows, which textProjection [textSize, size] maps, if there is one.
   */
  constructor(
    private readonly facts: ZeroShotFacts,
    private readonly mean: Float32Array,
    private readonly projection: Float32Array,
    private readonly classVectors: Float32Array[],
    private readonly textMean: Float32Array | null,
    private readonly textProjection: Float32Array | null,
    private readonly noises: Noises | null = null,
  ) {
    this.targets = textProjection ? classVectors.map((row) => unit(times(row, textProjection))) : classVectors;
    this.rowOf = new Map(facts.class_names.map((name, row) => [normaliseLabel(name), row]));
  }

  static parse(facts: ZeroShotFacts, arrays: Tensors): ZeroShot {
    const optional = (name: string) => (arrays.has(name) ? arrays.floats(name) : null);
    const vectors = arrays.floats("class_vectors");
    const size = vectors.length / facts.class_names.length;
    const thresholds = optional("noise_thresholds");
    const noises = thresholds && {
      rows: rowsOf(arrays.floats("noise"), arrays.floats("noise").length / thresholds.length),
      thresholds,
    };
    return new ZeroShot(
      facts,
      arrays.floats("mean"),
      arrays.floats("projection"),
      rowsOf(vectors, size),
      optional("text_mean"),
      optional("text_projection"),
      noises,
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

  /** Subtracted from the scores of seen classes; for a balanced map it depends on the numbers of both kinds. */
  get ownOffset(): number {
    const seen = this.seen.filter(Boolean).length;
    const unseen = this.seen.length - seen;
    return this.facts.balanced && seen && unseen ? this.offset + Math.log(seen / unseen) : this.offset;
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
    const mapped = this.mapped(embedding);
    return this.targets.map((target) => dot(mapped, target));
  }

  private mapped(embedding: Float32Array): Float32Array {
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

  /** Whether an embedding is like none of the classes. */
  noneOfThese(embedding: Float32Array): boolean {
    if (this.isNoise(embedding)) return true;
    return this.threshold !== null && Math.max(...this.similarities(embedding)) < this.threshold;
  }

  /** Whether an embedding is that of even noise, which no label means. */
  isNoise(embedding: Float32Array): boolean {
    if (!this.noises) return false;
    const { rows, thresholds } = this.noises;
    const mapped = this.mapped(embedding);
    return rows.some((row, i) => dot(mapped, row) >= thresholds[i]!);
  }

  /** [class name, probability] pairs, most probable first; the probabilities sum to 1. */
  rank(embedding: Float32Array, offset: number): [string, number][] {
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
    return new ZeroShot(
      { ...this.facts, class_names: [...labels], seen: rows.map((row) => row >= 0 && this.seen[row]!) },
      this.mean,
      this.projection,
      rows.map((row) => (row < 0 ? ofTyped.shift()! : this.classVectors[row]!)),
      this.textMean,
      this.textProjection,
      this.noises,
    );
  }
}

function rowsOf(numbers: Float32Array, size: number): Float32Array[] {
  return Array.from({ length: numbers.length / size }, (_, row) => numbers.subarray(row * size, (row + 1) * size));
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
