/** A sound file -> one channel at the file's own rate, decoded by the browser. */

import { sampleRate, withRate } from "./sample_rate";

const MOST_SECONDS = 1800; // longest recording: decoded whole, an hour of stereo at 48 kHz takes 1.4 GB
const UNKNOWN_RATE_HZ = 48_000;

/** A recording that cannot be used. */
export class SoundError extends Error {}

export interface Sound {
  wave: Float32Array; // the mean of its channels
  rateHz: number;
  channels: number;
  seconds: number;
  milliseconds: number; // of decoding
}

/** Decode a file. contextRate: of the AudioContext that decodes; the file's own rate unless a test asks for another. */
export async function decodeSound(content: ArrayBuffer, name: string, contextRate?: number): Promise<Sound> {
  const start = performance.now();
  const rateHz = contextRate ?? sampleRate(content) ?? UNKNOWN_RATE_HZ;
  const { context, readable } = prepare(content, name, rateHz);
  let decoded: AudioBuffer;
  try {
    decoded = await context.decodeAudioData(readable);
  } catch {
    throw new SoundError(`${name}: this browser cannot read it as a sound; choose WAV, FLAC, OGG, MP3 or another file`);
  }
  if (!decoded.length) throw new SoundError(`${name}: has no samples; choose a recording of at least one sample`);
  const seconds = decoded.length / rateHz;
  refuseLong(name, seconds);
  const wave = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let i = 0; i < wave.length; i++) wave[i]! += samples[i]! / decoded.numberOfChannels;
  }
  if (!wave.every(Number.isFinite)) throw new SoundError(`${name}: has samples that are not finite; choose another file`);
  return { wave, rateHz, channels: decoded.numberOfChannels, seconds, milliseconds: performance.now() - start };
}

/**
 * A context that decodes the file's samples as they are. Browsers have none at very low or high rates (Chromium: below 3
 * and above 768 kHz), and decode no file that states one. So there a WAV file is decoded as if it stated 48 kHz.
 */
function prepare(content: ArrayBuffer, name: string, rateHz: number): { context: OfflineAudioContext; readable: ArrayBuffer } {
  try {
    return { context: new OfflineAudioContext(1, 1, rateHz), readable: content };
  } catch {
    const readable = withRate(content, UNKNOWN_RATE_HZ);
    if (readable) return { context: new OfflineAudioContext(1, 1, UNKNOWN_RATE_HZ), readable };
    throw new SoundError(`${name}: has ${rateHz} Hz, a rate that this browser decodes in no such file; save it as WAV`);
  }
}

/** SoundError: a recording takes more memory than a browser has. */
export function refuseLong(name: string, seconds: number): void {
  if (seconds <= MOST_SECONDS) return;
  throw new SoundError(
    `${name}: has ${Math.round(seconds / 60)} minutes; a browser decodes up to ${MOST_SECONDS / 60}. For longer ` +
      "recordings use python -m serving.label or python -m demo",
  );
}

/** The duration that the browser's player reads from a file, in seconds; null: unknown. */
export function statedSeconds(url: string): Promise<number | null> {
  return new Promise((resolve) => {
    const player = new Audio();
    player.preload = "metadata";
    player.onloadedmetadata = () => resolve(Number.isFinite(player.duration) ? player.duration : null);
    player.onerror = () => resolve(null);
    player.src = url;
  });
}

/** One channel as a WAV file in 32-bit floats, so that a recording takes the way of any other file. */
export function toWav(wave: Float32Array, rateHz: number): ArrayBuffer {
  const content = new ArrayBuffer(58 + 4 * wave.length);
  const view = new DataView(content);
  const text = (place: number, letters: string) =>
    [...letters].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, content.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 18, true);
  view.setUint16(20, 3, true); // IEEE float
  view.setUint16(22, 1, true);
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 4 * rateHz, true);
  view.setUint16(32, 4, true);
  view.setUint16(34, 32, true);
  text(38, "fact");
  view.setUint32(42, 4, true);
  view.setUint32(46, wave.length, true);
  text(50, "data");
  view.setUint32(54, 4 * wave.length, true);
  for (let i = 0; i < wave.length; i++) view.setFloat32(58 + 4 * i, wave[i]!, true);
  return content;
}
