/** GloVe: a text -> the mean of its known words' vectors (serving/text_model/glove.py). */

import type { Tensors } from "./tensors";

export class Glove {
  private readonly rowOf = new Map<string, number>();
  private readonly vectors: Int8Array;
  private readonly scales: Float32Array;
  private readonly size: number;

  /** From the arrays vectors [n, size] int8, scales [n], sorted_words in UTF-8, lengths [n] of each word in it. */
  constructor(arrays: Tensors) {
    this.vectors = arrays.get("vectors", Int8Array);
    this.scales = arrays.floats("scales");
    this.size = this.vectors.length / this.scales.length;
    const letters = arrays.get("sorted_words", Uint8Array);
    const decoder = new TextDecoder();
    let start = 0;
    arrays.get("lengths", Uint8Array).forEach((length, row) => {
      this.rowOf.set(decoder.decode(letters.subarray(start, start + length)), row);
      start += length;
    });
  }

  /** [size]; zeros if no word is known. */
  encode(text: string): Float32Array {
    const rows = gloveWords(text).flatMap((word) => this.rowOf.get(word) ?? []);
    const sum = new Float32Array(this.size);
    for (const row of rows) {
      for (let i = 0; i < this.size; i++) {
        sum[i]! += (this.vectors[row * this.size + i]! * this.scales[row]!) / rows.length;
      }
    }
    return sum;
  }

  knows(text: string): boolean {
    return gloveWords(text).some((word) => this.rowOf.has(word));
  }
}

/** The words that GloVe may know: runs of ASCII letters and digits, in lower case, without accents. */
function gloveWords(text: string): string[] {
  const letters = text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
  return (letters.match(/[\p{L}\p{N}]+/gu) ?? []).filter((word) => /^[\x00-\x7f]+$/.test(word));
}
