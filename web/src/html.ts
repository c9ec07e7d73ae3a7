/** HTML that several parts of the page use, with the demo's classes (demo/drawing/html_elements.py). */

import { WORDS } from "./demo_words";

const ESCAPED: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };

export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPED[character]!);
}

/** A class name or file name, with spaces instead of underscores. */
export function escapeName(name: string): string {
  return escape(name.replaceAll("_", " "));
}

/** A card with a hint in place of a result. text: HTML. */
export function hintCard(text: string, spoken = "", classes = ""): string {
  return `<div class="card hint ${classes}" data-spoken="${escape(spoken)}"><p>${text}</p></div>`;
}

/** A card with an error message in place of a result. */
export function errorCard(message: string, title: string = WORDS.noResult): string {
  return `<div class="card hint refused" role="alert"><p><b>${title}</b><br>${escape(message)}</p></div>`;
}

/** A line of short facts. parts: HTML. */
export function factLine(...parts: string[]): string {
  return `<p class="facts">${parts.map((part) => `<span>${part}</span>`).join("")}</p>`;
}

/** The colour of class `number` of `count`, for a light or dark page. */
export function colour(number: number, count: number): string {
  const hue = Math.round((25 + (360 * number) / Math.max(count, 1)) % 360);
  return `hsl(${hue} ${number % 2 ? 70 : 55}% ${number % 2 ? 46 : 60}%)`;
}

export function percent(share: number, digits = 0): string {
  return `${(100 * share).toFixed(digits)}%`;
}
