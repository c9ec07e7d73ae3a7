/** The fixed windows that a network sees, as serving/audio/window.py cuts them, and how loud they are. */

import { NUMBERS } from "./demo_words";

export interface Window {
  rate_hz: number;
  samples: number;
  hop_samples: number;
}

export const LOWEST_DBFS = -120;

/** Number of windows of a clip: at least 1; a rest of half a window or more adds one. */
export function countWindows(samples: number, window: Window): number {
  if (samples <= window.samples) return 1;
  const full = 1 + Math.floor((samples - window.samples) / window.hop_samples);
  return full + (samples - full * window.hop_samples >= window.samples / 2 ? 1 : 0);
}

/** The windows one after the other: [n, samples]; the last may be padded with zeros. `most`: only the first so many. */
export function cutWindows(wave: Float32Array, window: Window, first = 0, most = Infinity): Float32Array {
  const count = Math.min(countWindows(wave.length, window) - first, most);
  const windows = new Float32Array(count * window.samples);
  for (let i = 0; i < count; i++) {
    const start = (first + i) * window.hop_samples;
    windows.set(wave.subarray(start, start + window.samples), i * window.samples);
  }
  return windows;
}

/** Peak level in dB of full scale, at least LOWEST_DBFS. */
export function levelDbfs(wave: Float32Array): number {
  let peak = 0;
  for (const sample of wave) peak = Math.max(peak, Math.abs(sample));
  return peak > 0 ? Math.max(LOWEST_DBFS, 20 * Math.log10(peak)) : LOWEST_DBFS;
}

export function windowLevels(wave: Float32Array, window: Window): number[] {
  return Array.from({ length: countWindows(wave.length, window) }, (_, i) =>
    levelDbfs(wave.subarray(i * window.hop_samples, i * window.hop_samples + window.samples)),
  );
}

/** Start in seconds of the stretch that each window names. */
export function windowStarts(count: number, window: Window): number[] {
  return Array.from({ length: count }, (_, i) => (i * window.hop_samples) / window.rate_hz);
}

/** End of each stretch: the start of the next, or the end of the sound. */
export function windowEnds(count: number, window: Window, soundSeconds: number): number[] {
  return windowStarts(count, window).map((start) => Math.min(start + window.hop_samples / window.rate_hz, soundSeconds));
}

/** The embedding of a clip: the mean of its rows. */
export function pool(rows: readonly Float32Array[]): Float32Array {
  const mean = new Float32Array(rows[0]!.length);
  for (let i = 0; i < mean.length; i++) mean[i] = rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length;
  return mean;
}

/** The same without the windows that are silent, unless all are (serving/pooling.py). */
export function poolHeard(rows: readonly Float32Array[], silent: readonly boolean[]): Float32Array {
  const heard = rows.filter((_, i) => !silent[i]);
  return pool(heard.length ? heard : rows);
}

/** How many neighbouring windows are averaged: an odd number, about 3 s; 1 for windows of 4.8 s. */
export function windowsTogether(window: Window): number {
  return Math.max(1, 1 + 2 * roundHalfEven(((NUMBERS["demo.smoothing.TOGETHER_S"] * window.rate_hz) / window.hop_samples - 1) / 2));
}

function roundHalfEven(value: number): number {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** The mean of each row and its neighbours, `together` rows in all; fewer at both ends. */
export function smoothRows(rows: readonly Float32Array[], together: number): Float32Array[] {
  if (together <= 1) return [...rows];
  const half = Math.floor(together / 2);
  return rows.map((_, i) => pool(rows.slice(Math.max(i - half, 0), i + half + 1)));
}
