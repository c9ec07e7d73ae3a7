/** What Python computes (tests/export/web_reference.py). pytest writes the file and names it in the environment. */

import { readFileSync } from "node:fs";
import { Tensors, type Numbers } from "../src/tensors";
import type { LabelKind } from "../src/label_kinds";
import type { ZeroShotFacts } from "../src/zeroshot";
import type { Window } from "../src/windows";

interface Reference {
  resample: { rate_hz: number; wave: number[]; expected: number[] }[];
  windows: { window: Window; counts: [number, number][]; together: number; rows: number[][]; smooth: number[][] }[];
  levels: [number[], number][];
  zeroshot: {
    facts: ZeroShotFacts;
    arrays: Record<string, [number[], number[]]>;
    largest_favour: number;
    own_offset: number;
    has_examples: boolean[];
    embeddings: number[][];
    ranked: [number, [string, number][][]][];
    similarities: number[][];
    none_of_these: boolean[];
    noise: boolean[];
    some: string[];
    own_offset_of_some: number;
    ranked_some: [string, number][][];
  }[];
  labels: { text: string; known: string[]; labels?: string[] | null; error?: string }[];
  normalised: [string, string][];
  heard: { starts: number[]; ends: number[]; labels: string[]; shares: number[]; expected: [string, number, number, number][] };
  clock: [number, string][];
  expectation: { scores: Record<string, unknown>; kinds: [string, LabelKind][]; expected: string }[];
  tokens: { tokenizer: string; texts: [string, number[], string[]][] };
  glove: { words: string[]; vectors: number[]; scales: number[]; texts: [string, number[], boolean][] };
}

const path = process.env.UNHEARD_WEB_REFERENCE;

/** null: Vitest was not started by pytest. */
export const reference: Reference | null = path ? JSON.parse(readFileSync(path, "utf8")) : null;

export function tensors(arrays: Record<string, [number[], Numbers]>): Tensors {
  const entries = Object.entries(arrays);
  return new Tensors(
    new Map(entries.map(([name, [, array]]) => [name, array])),
    new Map(entries.map(([name, [shape]]) => [name, shape])),
  );
}
