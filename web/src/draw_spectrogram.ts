/** Draw a clip's waveform and log-mel with axes, as demo/drawing/spectrogram.py does. */

import { NUMBERS, say, WORDS } from "./demo_words";
import { clock } from "./heard";
import { percent } from "./html";
import type { Site } from "./site";
import { countWindows } from "./windows";

const MAX_COLUMNS = NUMBERS["demo.drawing.spectrogram.MAX_COLUMNS"];
const MAX_NAMED_WINDOWS = NUMBERS["demo.drawing.spectrogram.MAX_NAMED_WINDOWS"];
const TICK_STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120];
const TICKS_HZ = [250, 500, 1000, 2000, 4000, 7500];

/** wave [n] at the model's rate; logMel [n_windows * frames, bands]. Returns HTML. */
export function drawSpectrogram(site: Site, wave: Float32Array, logMel: Float32Array): string {
  const { window, front_end } = site;
  const bands = front_end.mel_bands;
  const windows = countWindows(wave.length, window);
  const clip = wave.length / window.rate_hz;
  const windowSeconds = (logMel.length / bands / windows) * front_end.hop_s;
  const seen = windows * windowSeconds;
  const total = Math.max(clip, seen);
  const padded = clip < seen;
  const hatched = Math.abs(clip - seen) > 0.005 * total;
  const marks =
    (hatched ? hatch(Math.min(clip, seen), Math.max(clip, seen), total) : "") +
    drawEdges(windows, windowSeconds, total) +
    '<i class="playhead"></i>';
  const peak = wave.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  const low = Math.log(front_end.log_offset);
  const high = Math.max(logMel.reduce((most, value) => Math.max(most, value), low), low + NUMBERS["demo.drawing.spectrogram.MIN_SPAN"]);
  const palette = Uint8Array.from(atob(site.palette), (letter) => letter.charCodeAt(0));
  const amplitudes: [number, string][] = peak ? [[0, signed(-peak)], [0.5, "0"], [1, signed(peak)]] : [[0.5, "0"]];
  const image = drawImage(logMel, bands, low, high, palette);
  return (
    `<figure class="picture" data-seconds="${total}" role="img" aria-label="${say(WORDS.picture, clip.toFixed(2))}">` +
    (windows > 1 && windows <= MAX_NAMED_WINDOWS ? drawWindowNames(windows, windowSeconds, total) : "") +
    `<div class="axis">${drawHeights(amplitudes)}</div>` +
    `<div class="plot wave">${drawOutline(wave, peak, clip / total)}${marks}</div>` +
    `<div class="axis"><b>Hz</b>${drawHeights(frequencies(site))}</div>` +
    `<div class="plot mel"><img alt="" src="${image}" style="width:${percent(seen / total, 3)}">${marks}</div>` +
    `<div class="time">${drawTimes(total)}</div>` +
    `<figcaption>${drawCaption(windows, windowSeconds, padded, hatched)}${drawKey(low, high, palette)}</figcaption></figure>`
  );
}

/** The log-mel as a PNG: low bands at the bottom, the maximum of the frames that share a column. */
function drawImage(logMel: Float32Array, bands: number, low: number, high: number, palette: Uint8Array): string {
  const frames = logMel.length / bands;
  const group = Math.ceil(frames / MAX_COLUMNS);
  const columns = Math.ceil(frames / group);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, bands];
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(columns, bands);
  for (let column = 0; column < columns; column++) {
    for (let band = 0; band < bands; band++) {
      let most = -Infinity;
      for (let frame = column * group; frame < Math.min(frames, (column + 1) * group); frame++) {
        most = Math.max(most, logMel[frame * bands + band]!);
      }
      const shade = Math.floor(Math.min(255, Math.max(0, (255 * (most - low)) / (high - low))));
      const place = 4 * ((bands - 1 - band) * columns + column);
      image.data.set([...palette.subarray(3 * shade, 3 * shade + 3), 255], place);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}

/** The minimum and maximum of each column as a filled shape, scaled to the peak. */
function drawOutline(wave: Float32Array, peak: number, width: number): string {
  const columns = Math.min(wave.length, MAX_COLUMNS);
  const [top, bottom]: [string[], string[]] = [[], []];
  const scale = peak || 1;
  for (let i = 0; i < columns; i++) {
    const end = Math.floor(((i + 1) * wave.length) / columns);
    let [most, least] = [-Infinity, Infinity];
    for (let at = Math.floor((i * wave.length) / columns); at < end; at++) {
      most = Math.max(most, wave[at]!);
      least = Math.min(least, wave[at]!);
    }
    const x = ((1000 * width * (i + 0.5)) / columns).toFixed(1);
    top.push(`${x},${(100 - 96 * (most / scale + 0.008)).toFixed(1)}`);
    bottom.unshift(`${x},${(100 - 96 * (least / scale - 0.008)).toFixed(1)}`);
  }
  const points = [...top, ...bottom].join(" ");
  return `<svg viewBox="0 0 1000 200" preserveAspectRatio="none"><polygon points="${points}"/></svg>`;
}

/** Ticks of the mel axis: all bands have the same width in mel. */
function frequencies({ front_end }: Site): [number, string][] {
  const mel = (hz: number) => 1127 * Math.log1p(hz / 700);
  const [low, high] = [mel(front_end.low_hz), mel(front_end.high_hz)];
  const width = (high - low) / (front_end.mel_bands + 1);
  return TICKS_HZ.map((hz): [number, string] => [
    (mel(hz) - low - width / 2) / (width * front_end.mel_bands),
    hz >= 1000 ? `${hz / 1000}k` : String(hz),
  ])
    .filter(([height]) => height < 1.05)
    .map(([height, text]) => [Math.min(height, 1), text]);
}

function drawHeights(ticks: [number, string][]): string {
  return ticks
    .map(([height, text]) => {
      const place = height === 0 ? ' class="bottom"' : height === 1 ? ' class="top"' : "";
      return `<span${place} style="bottom:${percent(height, 3)}">${text}</span>`;
    })
    .join("");
}

function drawTimes(total: number): string {
  const step = TICK_STEPS_S.find((each) => total / each <= 8) ?? 300;
  const inMinutes = total >= NUMBERS["demo.drawing.spectrogram.MINUTES_FROM_S"];
  const spans = Array.from({ length: Math.floor(total / step + 1e-6) + 1 }, (_, i) => {
    const tick = i * step;
    const name = inMinutes ? clock(tick) : String(Number(tick.toFixed(3)));
    return `<span style="left:${percent(tick / total, 3)}">${name}</span>`;
  });
  return `${spans.join("")}<b>${inMinutes ? "minutes" : "seconds"}</b>`;
}

function hatch(start: number, end: number, total: number): string {
  return `<i class="hatched" style="left:${percent(start / total, 3)};width:${percent((end - start) / total, 3)}"></i>`;
}

function drawEdges(windows: number, seconds: number, total: number): string {
  if (windows > 4 * MAX_NAMED_WINDOWS) return "";
  return Array.from(
    { length: windows - 1 },
    (_, i) => `<i class="edge" style="left:${percent(((i + 1) * seconds) / total, 3)}"></i>`,
  ).join("");
}

function drawWindowNames(windows: number, seconds: number, total: number): string {
  const word = windows <= NUMBERS["demo.drawing.spectrogram.MAX_LONG_NAMES"] ? "<em>window </em>" : "";
  const names = Array.from(
    { length: windows },
    (_, i) =>
      `<span style="left:${percent((i * seconds) / total, 3)};width:${percent(seconds / total, 3)}">${word}${i + 1}</span>`,
  );
  return `<div class="windows">${names.join("")}</div>`;
}

function drawCaption(windows: number, seconds: number, padded: boolean, hatched: boolean): string {
  const seen = say(WORDS.windowsSeen, windows, windows > 1 ? "s" : "", Number(seconds.toFixed(4)));
  if (!hatched) return `<span>${seen}</span>`;
  return `<span>${seen} <i class="hatched"></i> ${padded ? WORDS.padded : WORDS.remainder}.</span>`;
}

function drawKey(low: number, high: number, palette: Uint8Array): string {
  const stops = Array.from({ length: 6 }, (_, i) => `rgb(${[...palette.subarray(153 * i, 153 * i + 3)].join(" ")})`);
  const bar = `<i class="key" style="background:linear-gradient(90deg,${stops.join(",")})"></i>`;
  return `<span>log-mel ${signed(low)} ${bar} ${signed(high)}</span>`;
}

function signed(value: number): string {
  return String(Number(value.toPrecision(2))).replace("-", "\u2212");
}
