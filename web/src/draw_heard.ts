/** Draw what is heard when: a list, and a strip on the time axis of the spectrogram (demo/drawing/draw_heard.py). */

import { NUMBERS, say, WORDS } from "./demo_words";
import { clock, type Heard } from "./heard";
import { colour, escapeName, percent } from "./html";

const MAX_LISTED = NUMBERS["demo.drawing.draw_heard.MAX_LISTED"];

function colours(stretches: readonly Heard[]): Map<string, string> {
  const names = [...new Set(stretches.map(({ label }) => label))].sort();
  return new Map(names.map((name, i) => [name, colour(i, names.length)]));
}

export function drawHeard(stretches: readonly Heard[]): string {
  if (!stretches.length) return `<div class="heard"><h2>Heard: ${WORDS.nothingHeard}</h2></div>`;
  const shades = colours(stretches);
  const items = stretches.slice(0, MAX_LISTED).map(
    ({ label, start, end, probability }) =>
      `<li><button type="button" data-seek="${start.toFixed(3)}" title="${percent(probability)}">` +
      `<i style="background:${shades.get(label)}"></i><b>${escapeName(label)}</b> ` +
      `<time>${clock(start)}-${clock(end)}</time></button></li>`,
  );
  const rest = stretches.length - MAX_LISTED;
  const more = rest > 0 ? `<li>${say(WORDS.moreStretches, rest)}</li>` : "";
  return `<div class="heard"><h2>Heard</h2><ol>${items.join("")}${more}</ol><p class="reason">${WORDS.playHint}</p></div>`;
}

/** The list for screen readers. */
export function spokenList(stretches: readonly Heard[]): string {
  if (!stretches.length) return `Heard: ${WORDS.nothingHeard}`;
  const listed = stretches.slice(0, 8).map(({ label, start, end }) => `${label} ${clock(start)} to ${clock(end)}`);
  const rest = stretches.length - listed.length;
  return `Heard: ${listed.join(", ")}${rest > 0 ? `, and ${rest} more` : ""}`;
}

/** The strip. axis: length of the time axis in seconds. */
export function drawStrip(stretches: readonly Heard[], axis: number): string {
  const shades = colours(stretches);
  const parts = stretches.map(
    ({ label, start, end, probability }) =>
      `<span style="left:${percent(start / axis, 3)};width:${percent((end - start) / axis, 3)};` +
      `--c:${shades.get(label)};--share:${Math.round(10 + 18 * probability)}%" ` +
      `title="${escapeName(label)}, ${clock(start)}-${clock(end)}, ${percent(probability)}">` +
      `<em>${escapeName(label)}</em></span>`,
  );
  return (
    `<div class="timeline"><div class="strip" data-seconds="${axis.toFixed(3)}" role="img" ` +
    `aria-label="${WORDS.stripLabel}">${parts.join("")}</div></div>`
  );
}
