/** Rank labels for the windows of one recording, as demo/labels/ranked_labels.py does. */

import { NOTHING } from "./heard";
import { poolHeard, smoothRows, windowsTogether, type Window } from "./windows";
import { softmax, type ZeroShot } from "./zeroshot";

export interface RankedLabels {
  chosen: ZeroShot;
  /** [label, probability], most probable first. */
  ranking: [string, number][];
  /** The largest similarity of the recording and a label. */
  similarity: number;
  noneOfThese: boolean;
  /** Whether it is none of them because it is even noise. */
  noise: boolean;
  /** The label of each window, averaged with its neighbours; NOTHING where it is silent or like none of the labels. */
  named: string[];
  shares: number[];
}

/** favour: added to the map's own offset; above 0, labels without recordings in the training win more often. */
export function rankLabels(
  chosen: ZeroShot,
  rows: readonly Float32Array[],
  silent: readonly boolean[],
  favour: number,
  window: Window,
): RankedLabels {
  const offset = chosen.ownOffset + favour;
  const clip = poolHeard(rows, silent);
  const windows = smoothRows(rows, windowsTogether(window)).map((row, i) => {
    const shares = softmax(chosen.scores(row, offset));
    const best = shares.indexOf(Math.max(...shares));
    const nothing = silent[i] || chosen.noneOfThese(row);
    return { label: nothing ? NOTHING : chosen.classNames[best]!, share: shares[best]! };
  });
  return {
    chosen,
    ranking: chosen.rank(clip, offset),
    similarity: Math.max(...chosen.similarities(clip)),
    noneOfThese: chosen.noneOfThese(clip),
    noise: chosen.isNoise(clip),
    named: windows.map(({ label }) => label),
    shares: windows.map(({ share }) => share),
  };
}
