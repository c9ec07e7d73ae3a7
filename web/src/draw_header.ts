/** The header of the page: what the model is, and what it is good and bad at (demo/header.py). */

import { say, WORDS } from "./demo_words";
import { outOfTen, roundHalfEven, seenAccuracy, unseenAccuracy } from "./expected_score";
import { escape } from "./html";
import type { Site } from "./site";

/** runsOn: "onnxruntime-web, int8"; "" while the model is loading. */
export function drawHeader(site: Site, runsOn: string): string {
  const facts: [string, string][] = [
    ["bundle", site.bundle],
    ["network", site.network],
    ["trained on", `${site.dataset}, ${site.seen_classes.length} classes`],
  ];
  if (site.network === "yamnet-audioset") facts.push(["starts from", WORDS.startsFrom]);
  facts.push(["runs on", runsOn || "this browser: loading the model …"]);
  const rows = facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${escape(value)}</dd></div>`).join("");
  const skills = escape(goodAndBad(site).join(" "));
  return (
    `<h1>Unheard</h1><p>${WORDS.tagline}</p><dl>${rows}</dl><p class="skills">${skills}</p>` +
    '<p class="skills">The model runs in this browser: no sound leaves this device.</p>'
  );
}

function goodAndBad(site: Site): string[] {
  const [seen, ten] = [seenAccuracy(site.scores), unseenAccuracy(site.scores, 10)];
  const right = site.scores.taught_accuracy_all;
  const taught = typeof right === "number" ? say(WORDS.taughtRight, roundHalfEven(100 * right)) : WORDS.taughtUnknown;
  return [
    ...(seen === null ? [] : [say(WORDS.good, site.seen_classes.length, say(WORDS.rightAmongThem, outOfTen(seen)))]),
    ...(site.taught_classes.length ? [say(WORDS.taughtMore, site.taught_classes.length, taught)] : []),
    ...(ten === null ? [] : [say(WORDS.weaker, outOfTen(ten))]),
    ...(site.zeroshot.threshold === null ? [WORDS.noThreshold] : []),
    WORDS.oneName,
  ];
}
