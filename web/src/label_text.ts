/** The text form of labels, as serving/zeroshot/label_text.py and demo/labels/typed_labels.py have it. */

import { NUMBERS } from "./demo_words";

const MAX_LABELS = NUMBERS["demo.labels.typed_labels.MAX_LABELS"];
const MAX_LENGTH = NUMBERS["serving.zeroshot.label_text.MAX_LENGTH"];
const MAX_WORDS = NUMBERS["serving.zeroshot.label_text.MAX_WORDS"];
const SEPARATORS = ",;";
const PART = /\s*"(?:[^"]|"")*"\s*(?=[,;]|$)|(?!\s*")[^,;]*/y;

/** A label that cannot be used. The message says what came, what was wanted and the way out. */
export class LabelError extends Error {}

/** The form in which labels are compared: without case, underscores and extra spaces, accents composed. */
export function normaliseLabel(label: string): string {
  const folded = label.normalize("NFD").toLowerCase().replaceAll("ß", "ss");
  return folded.normalize("NFC").replaceAll("_", " ").split(/\s+/u).filter(Boolean).join(" ");
}

/** A label as a text encoder reads it: with spaces for underscores. */
export function wordsOfLabel(label: string): string {
  return label.trim().replaceAll("_", " ");
}

/**
 * Labels as they are typed: one a line, or all on one line with commas or semicolons between; each once.
 *
 * known    names of classes, which may have commas in them; a label in double quotes may too
 * returns  null where nothing is typed: all classes of the bundle
 */
export function readLabels(text: string, known: readonly string[] = []): string[] | null {
  const trimmed = text.trim();
  const parts = trimmed.includes("\n") ? trimmed.split(/\r?\n/).map(unquote) : splitLabels(trimmed, known);
  const once = new Map<string, string>();
  for (const part of parts) if (!once.has(normaliseLabel(part))) once.set(normaliseLabel(part), part.trim());
  once.delete("");
  const labels = [...once.values()];
  if (labels.length > MAX_LABELS) {
    throw new LabelError(`labels: got ${labels.length}; the page takes up to ${MAX_LABELS}`);
  }
  labels.forEach(checkLabelLength);
  return labels.length ? labels : null;
}

/** Refuse a label that takes the text model long. */
function checkLabelLength(label: string): void {
  const characters = [...label];
  const words = label.replaceAll("_", " ").split(/\s+/u).filter(Boolean);
  if (characters.length > MAX_LENGTH || words.length > MAX_WORDS) {
    const start = characters.slice(0, 40).join("");
    throw new LabelError(
      `labels: got one of ${characters.length} characters that begins with '${start}'; wanted at most ${MAX_LENGTH} ` +
        `characters and ${MAX_WORDS} words`,
    );
  }
}

/** What `readLabels` reads again. */
export function writeLabels(labels: readonly string[]): string {
  return labels.map((label) => quote(label.replaceAll("_", " "))).join(", ");
}

export function splitLabels(text: string, known: readonly string[] = []): string[] {
  const names = new Map(known.map((name) => [commaKey(name), name]));
  const longest = Math.max(1, ...known.map((name) => name.split(/[,;]/).length));
  const spans = findSpans(text);
  const labels: string[] = [];
  let i = 0;
  while (i < spans.length) {
    for (let j = Math.min(spans.length, i + longest); j > i; j--) {
      const whole = text.slice(spans[i]![0], spans[j - 1]![1]).trim();
      const name = j === i + 1 ? unquote(whole) : names.get(commaKey(whole));
      if (name !== undefined) {
        labels.push(name);
        i = j;
        break;
      }
    }
  }
  return labels.filter(Boolean);
}

export function joinLabels(labels: readonly string[]): string {
  return labels.map(quote).join(", ");
}

function quote(label: string): string {
  const needs = label.startsWith('"') || [...SEPARATORS].some((separator) => label.includes(separator));
  return needs ? `"${label.replaceAll('"', '""')}"` : label;
}

function unquote(text: string): string {
  const quoted = /^"((?:[^"]|"")*)"$/.exec(text.trim());
  return (quoted ? quoted[1]!.replaceAll('""', '"') : text).trim();
}

function commaKey(name: string): string {
  return JSON.stringify(name.split(/[,;]/).map(normaliseLabel));
}

/** Start and end of each part between separators; separators inside quotes do not count. */
function findSpans(text: string): [number, number][] {
  const spans: [number, number][] = [];
  let start = 0;
  for (;;) {
    PART.lastIndex = start;
    const found = PART.exec(text);
    const end = start + (found?.[0].length ?? 0);
    if (!found || (end < text.length && !SEPARATORS.includes(text[end]!))) {
      throw new LabelError(
        `labels: got ${text.slice(start).trim()}; wanted the label between two double quotes ("Dog, barking"), a quote ` +
          'inside it doubled ("")',
      );
    }
    spans.push([start, end]);
    if (end === text.length) return spans;
    start = end + 1;
  }
}
