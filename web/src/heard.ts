/** What is heard when: windows with their labels, joined to stretches of one label (demo/heard.py). */

export const NOTHING = ""; // the label of a window that is silent or like none of the labels

export interface Heard {
  label: string;
  start: number; // seconds
  end: number;
  probability: number; // the mean of those of its windows, weighted by duration
}

export function heard(
  starts: readonly number[],
  ends: readonly number[],
  labels: readonly string[],
  probabilities: readonly number[],
): Heard[] {
  const joined: Heard[] = [];
  let previous = NOTHING;
  labels.forEach((label, i) => {
    const [start, end, share] = [starts[i]!, ends[i]!, probabilities[i]!];
    const last = joined.at(-1);
    if (label !== NOTHING && label === previous && last && start <= last.end + 1e-6) {
      const before = last.end - last.start;
      const more = Math.max(end - last.end, 0);
      last.probability = (before * last.probability + more * share) / Math.max(before + more, 1e-9);
      last.end = Math.max(end, last.end);
    } else if (label !== NOTHING) {
      joined.push({ label, start, end, probability: share });
    }
    previous = label;
  });
  return joined;
}

/** A time in a recording, rounded to seconds: 0:05, 12:34, 1:02:03. */
export function clock(seconds: number): string {
  const whole = Math.floor(seconds + 0.5);
  const [minutes, rest] = [Math.floor(whole / 60), String(whole % 60).padStart(2, "0")];
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
