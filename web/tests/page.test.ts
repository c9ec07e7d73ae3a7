import { afterEach, expect, test, vi } from "vitest";
import { decodeSound, toWav } from "../src/decode";
import { say, WORDS } from "../src/demo_words";
import { drawHeader } from "../src/draw_header";
import { unseenAccuracy } from "../src/expected_score";
import { Engine } from "../src/engine";
import { LiveLog } from "../src/live_log";
import { LastSamples, Microphone } from "../src/microphone";
import { resample } from "../src/resample";
import { sampleRate } from "../src/sample_rate";
import type { Site } from "../src/site";
import { Tensors } from "../src/tensors";
import { describe } from "../src/text_model";
import { cutWindows } from "../src/windows";

afterEach(() => vi.unstubAllGlobals());

test("the header of a recorded WAV states its rate", () => {
  expect(sampleRate(toWav(Float32Array.of(0, 0.5, -0.5), 48_000))).toBe(48_000);
});

const file = (...parts: (string | readonly number[])[]) => {
  const bytes = parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part));
  return Uint8Array.from([...bytes, ...Array<number>(64).fill(0)]).buffer;
};
const zeros = (count: number) => Array<number>(count).fill(0);
/** A frame of MPEG audio: its header, and as many bytes as it has at this bit rate. */
const frame = (header: number[], bytes: number) => [...header, ...zeros(bytes - header.length)];
const MP3_24_KHZ = frame([0xff, 0xf3, 0x94, 0], 240); // 80 kbit/s
const MP3_44_KHZ = frame([0xff, 0xfb, 0x92, 0], 418); // 128 kbit/s, with a byte of padding

test("the rates of FLAC, Vorbis, Opus and MP3 are read from their headers, and unknown ones are told", () => {
  const page = ["OggS", [...zeros(22), 1, 30]] as const;
  const flac = ["fLaC", zeros(14), [0x0a, 0xc4, 0x42, 0xf0]] as const;
  expect(sampleRate(file(...flac))).toBe(44_100);
  expect(sampleRate(file(...page, "\x01vorbis", [0, 0, 0, 0, 2, 0x22, 0x56, 0, 0]))).toBe(22_050);
  expect(sampleRate(file(...page, "OpusHead"))).toBe(48_000);
  expect(sampleRate(file(MP3_44_KHZ, MP3_44_KHZ))).toBe(44_100);
  const tag = ["ID3", [4, 0, 0, 0, 0, 0, 2, 7, 7]] as const;
  expect(sampleRate(file(...tag, MP3_24_KHZ, MP3_24_KHZ))).toBe(24_000);
  expect(sampleRate(file(...tag, zeros(100), MP3_24_KHZ, MP3_24_KHZ))).toBe(24_000);
  expect(sampleRate(file(...tag, ...flac))).toBe(44_100);
  expect(sampleRate(file([0, 0, 0, 24], "ftypM4A "))).toBeNull();
});

test("the sync bits of an MP3 frame somewhere in another file are not its rate", () => {
  const frames = [...MP3_24_KHZ, ...MP3_24_KHZ];
  expect(sampleRate(file([0, 0, 0, 24], "ftypM4A ", zeros(100), frames))).toBeNull();
  expect(sampleRate(file([0x1a, 0x45, 0xdf, 0xa3], zeros(100), frames))).toBeNull(); // WebM
  expect(sampleRate(file(MP3_24_KHZ, zeros(100)))).toBeNull(); // no second frame
  expect(sampleRate(file(MP3_24_KHZ, MP3_44_KHZ))).toBeNull(); // of another rate
  for (const adts of [0xf1, 0xf9]) {
    const aac = frame([0xff, adts, 0x50, 0x80, 0x24, 0x1f, 0xfc], 288);
    expect(sampleRate(file(aac, aac, frames))).toBeNull();
  }
});

test("a header that is cut off or states no rate is unknown", () => {
  for (const text of ["RIFF....WAVEfmt ", "fLaC", "OggS", "ID3", "\xff\xfb\x90"]) {
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    for (const padding of [0, 4, 40]) expect(sampleRate(Uint8Array.from([...bytes, ...zeros(padding)]).buffer)).toBeNull();
  }
});

test.each([500, 2_000, 8_000, 384_000, 1_000_000])("the samples of a WAV file at %i Hz are decoded as they are", async (rateHz) => {
  vi.stubGlobal("OfflineAudioContext", contexts());
  const sound = await decodeSound(toWav(Float32Array.of(0.5, 0.25), rateHz), "whale.wav");
  expect([sound.rateHz, sound.seconds, ...sound.wave]).toEqual([rateHz, 2 / rateHz, 0.5, 0.25]);
});

test("a rate that the browser decodes in WAV alone is told with the way out", async () => {
  vi.stubGlobal("OfflineAudioContext", contexts());
  const flac = file("fLaC", zeros(14), [0x00, 0x7d, 0x02, 0xf0]); // 2 kHz
  await expect(decodeSound(flac, "whale.flac")).rejects.toThrow("whale.flac: has 2000 Hz, a rate that");
  await expect(decodeSound(file("no sound"), "bad.wav")).rejects.toThrow("bad.wav: this browser cannot read it");
});

test("a recording that is longer than its player told is refused once it is decoded", async () => {
  vi.stubGlobal("OfflineAudioContext", contexts());
  await expect(decodeSound(toWav(new Float32Array(2_000), 1), "long.wav")).rejects.toThrow("long.wav: has 33 minutes");
});

/** An OfflineAudioContext with Chromium's limits, which decodes what `toWav` writes. */
function contexts() {
  const refuse = (rateHz: number) => {
    if (rateHz < 3_000 || rateHz > 768_000) throw new Error("NotSupportedError");
  };
  return class {
    constructor(_channels: number, _length: number, readonly sampleRate: number) {
      refuse(sampleRate);
    }
    async decodeAudioData(content: ArrayBuffer) {
      const rateHz = new DataView(content).getUint32(24, true);
      refuse(rateHz);
      expect(rateHz).toBe(this.sampleRate); // nothing is resampled
      const wave = new Float32Array(content.slice(58));
      return { length: wave.length, numberOfChannels: 1, getChannelData: () => wave };
    }
  };
}

test("a tone keeps its level and place at another rate", () => {
  const wave = (rate: number) => Float32Array.from({ length: rate / 2 }, (_, i) => Math.sin((2 * Math.PI * 1000 * i) / rate));
  for (const rate of [8_000, 22_050, 44_100, 48_000]) {
    const [got, wanted] = [resample(wave(rate), rate, 16_000), wave(16_000)];
    for (let i = 500; i < 7_500; i++) expect(Math.abs(got[i]! - wanted[i]!)).toBeLessThan(1e-4);
  }
});

test("what is above the new rate's band is gone", () => {
  const tone = Float32Array.from({ length: 44_100 }, (_, i) => Math.sin((2 * Math.PI * 10_000 * i) / 44_100));
  const inner = resample(tone, 44_100, 16_000).subarray(500, -500);
  expect(Math.max(...inner.map(Math.abs))).toBeLessThan(2e-5); // -94 dB
});

test("the last window is padded with silence", () => {
  const window = { rate_hz: 4, samples: 4, hop_samples: 4 };
  expect([...cutWindows(Float32Array.of(1, 2, 3, 4, 5, 6), window)]).toEqual([1, 2, 3, 4, 5, 6, 0, 0]);
  expect([...cutWindows(Float32Array.of(1, 2, 3, 4, 5, 6), window, 1, 8)]).toEqual([5, 6, 0, 0]);
});

test("the microphone keeps the newest samples only", () => {
  const last = new LastSamples(5);
  for (const block of [[1, 2, 3], [4, 5, 6], [7]]) last.push(Float32Array.from(block));
  expect([...last.wave()]).toEqual([3, 4, 5, 6, 7]);
  expect(last.heard).toBe(7);
});

test("the log joins stretches of one label, and silence ends one", () => {
  const log = new LiveLog();
  for (const [label, end] of [["rain", 1], ["rain", 2], ["", 3], ["rain", 4], ['a "b", c', 5]] as const) log.note(label, 0.5, end);
  expect(log.csv()).toBe(
    'start_s,end_s,label,probability\n0.0,2.0,rain,0.500\n3.0,4.0,rain,0.500\n4.0,5.0,"a ""b"", c",0.500\n',
  );
});

test("a typed label in the log is no formula for a spreadsheet", () => {
  const log = new LiveLog();
  ["=1+1", "-2", "@a,b", "a=b"].forEach((label, i) => log.note(label, 0.5, i + 1));
  const labels = log.csv().split("\n").slice(1, -1).map((line) => line.slice(8, -6));
  expect(labels).toEqual(["'=1+1", "'-2", '"\'@a,b"', "a=b"]);
});

test("a label that is the name of what every object has is a label like any other", () => {
  for (const label of ["constructor", "toString", "__proto__"]) {
    expect(describe({ rain: "drops" }, label)).toBe(label.replaceAll("_", " "));
  }
  expect(describe({ rain: "drops" }, "Rain")).toBe("drops");
});

test("what is asked of a model that is changed meanwhile, or was, fails with the way out", async () => {
  class SilentWorker extends EventTarget {
    postMessage({ id, name }: { id: number; name: string }): void {
      if (name === "open") this.dispatchEvent(new MessageEvent("message", { data: { id, result: {} } }));
    }
    terminate(): void {}
  }
  vi.stubGlobal("Worker", SilentWorker);
  vi.stubGlobal("document", { baseURI: "http://localhost/" });
  const [engine] = await Engine.open({} as Site, "wasm", 1);
  const asked = engine.ask("encodeLabels", { labels: ["rain"] });
  engine.close();
  await expect(asked).rejects.toThrow("the model was changed; try again");
  await expect(engine.ask("encodeLabels", { labels: ["rain"] })).rejects.toThrow("the model was changed; try again");
});

test("a microphone that cannot be listened to is turned off again", async () => {
  const [stop, close] = [vi.fn(), vi.fn()];
  vi.stubGlobal("navigator", { mediaDevices: { getUserMedia: async () => ({ getTracks: () => [{ stop }] }) } });
  vi.stubGlobal(
    "AudioContext",
    class {
      audioWorklet = { addModule: () => Promise.reject(new Error("no worklet")) };
      close = close;
    },
  );
  await expect(Microphone.open(() => undefined)).rejects.toThrow("no worklet");
  expect(stop).toHaveBeenCalledOnce();
  expect(close).toHaveBeenCalledOnce();
});

test("a safetensors file is read", () => {
  const header = JSON.stringify({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8] } });
  const content = new Uint8Array(8 + header.length + 8);
  new DataView(content.buffer).setBigUint64(0, BigInt(header.length), true);
  content.set(new TextEncoder().encode(header), 8);
  new DataView(content.buffer).setFloat32(8 + header.length + 4, 2.5, true);
  const tensors = Tensors.parse(content.buffer);
  expect([...tensors.floats("a")]).toEqual([0, 2.5]);
  expect(() => tensors.floats("b")).toThrow("no Float32Array b");
});

test("places in a text are filled in their order, and what is filled in is not read again", () => {
  expect(say(WORDS.unknownWords, "{}", "$&")).toContain("{} (in “$&”)");
});

test("the header counts the classes that were measured, and those that were taught apart", () => {
  const zeroshot = { seen: [true, true, true, true], threshold: 0.5 };
  const facts = { bundle: "mine", network: "yamnet", dataset: "ESC-10", seen_classes: ["dog", "rain"], taught_classes: ["beep", "hiss"] };
  const header = (scores: object) => drawHeader({ ...facts, zeroshot, scores } as unknown as Site, "");
  expect(header({ test_accuracy: 0.8, taught_accuracy_all: 0.625 })).toContain(
    "Good at the 2 classes of its training: about 8 of 10 first answers are right among them. " +
      "Taught 2 more by examples: 62 % of the held-out examples are named right among all its classes.",
  );
  expect(header({ test_accuracy: 0.8 })).toContain("how often they are named right was not measured.");
});

test("one label alone has no score", () => {
  expect(unseenAccuracy({ unseen_top1: { "1": 1 } }, 10)).toBeNull();
  expect(unseenAccuracy({ unseen_top1: { "1": 1, "5": 0.6 } }, 2)).toBe(0.6);
});
