/** Texts -> vectors, for labels that a visitor types (serving/text_model/text_model.py). */

import type { Glove } from "./glove";
import { LabelError, normaliseLabel, wordsOfLabel } from "./label_text";
import type { WordPiece } from "./wordpiece";
import { unit } from "./zeroshot";

const LETTERS_PER_PIECE = 2; // mean length up to which a word counts as unknown, as in serving/text_model/minilm.py

/** Token ids of one text -> its vector [384], of length 1. */
export type MiniLm = (tokens: readonly number[]) => Promise<Float32Array>;

export class TextModel {
  private readonly known = new Map<string, Promise<Float32Array>>();

  /**
   * descriptions  normalised class name -> one line about what it sounds like
   * withNames     take the mean of the vectors of a label and its description, as the class vectors were made
   */
  constructor(
    private readonly descriptions: Readonly<Record<string, string>>,
    private readonly withNames: boolean,
    private readonly glove: Glove | null,
    private readonly minilm: { tokenizer: WordPiece; run: MiniLm } | null,
  ) {}

  /** The vectors of labels, made as training makes those of classes: unit rows. LabelError: no word is known. */
  async encodeLabels(labels: readonly string[]): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (const label of labels) {
      const described = await this.encode(describe(this.descriptions, label));
      const named = this.withNames ? await this.encode(wordsOfLabel(label)) : null;
      rows.push(named ? unit(described.map((value, i) => value + named[i]!)) : described);
    }
    return rows;
  }

  /** The words of a label's text that no part of the model knows. */
  unknownWords(label: string): string[] {
    return splitWords(describe(this.descriptions, label)).filter((word) => !this.knows(word));
  }

  private encode(text: string): Promise<Float32Array> {
    const known = this.known.get(text) ?? this.compute(text);
    this.known.set(text, known);
    return known;
  }

  private async compute(text: string): Promise<Float32Array> {
    if (!splitWords(text).some((word) => this.knows(word))) {
      throw new LabelError(
        `label '${text}': the text model knows none of its words; it knows English: describe the sound in common ` +
          "English words",
      );
    }
    const parts: Float32Array[] = [];
    if (this.glove) parts.push(unit(this.glove.encode(text)));
    if (this.minilm) parts.push(await this.minilm.run(this.minilm.tokenizer.encode(text)));
    return unit(Float32Array.from(parts.flatMap((part) => [...part])));
  }

  /** A word counts as known to MiniLM if it is one token, or if its pieces have more than two letters on average. */
  private knows(word: string): boolean {
    if (this.glove?.knows(word)) return true;
    if (!this.minilm) return false;
    const tokens = this.minilm.tokenizer.pieces(word);
    const pieces = tokens.filter((piece) => /[a-z0-9]/.test(piece)).map((piece) => piece.replace(/^##/, ""));
    if (tokens.length === 1 && pieces.length === 1) return true;
    return pieces.reduce((sum, piece) => sum + piece.length, 0) > LETTERS_PER_PIECE * tokens.length;
  }
}

/** The bundle's description of a class. For any other label, the label with spaces for underscores. */
export function describe(descriptions: Readonly<Record<string, string>>, label: string): string {
  const name = normaliseLabel(label); // perhaps one that every object has, as "constructor"
  return Object.hasOwn(descriptions, name) ? descriptions[name]! : wordsOfLabel(label);
}

/** The words of a text, without punctuation that stands alone. */
function splitWords(text: string): string[] {
  return text
    .replaceAll("_", " ")
    .split(/\s+/u)
    .filter((word) => word && !/^[\p{P}\p{C}\p{Z}\p{Sm}\p{Sc}\p{Sk}]+$/u.test(word));
}
