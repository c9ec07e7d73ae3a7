/** What scripts in the page's console, the proof of parity and the benchmark can call: window.unheard. */

import { decodeSound } from "./decode";
import type { EngineFacts } from "./engine_messages";
import type { Models } from "./models";
import { embedSound } from "./embedded";
import { poolHeard } from "./windows";

export interface Scripting {
  /** Resolves when the model is loaded. */
  ready(): Promise<EngineFacts>;
  /** Windows [n, samples] float32, as base64 -> rows [n, size] float32, as base64. */
  embedWindows(windows: string): Promise<string>;
  /** The content of a sound file, as base64 -> the rows of its windows. contextRate: decode at this rate. */
  embedFile(content: string, contextRate?: number): Promise<string>;
  /** Milliseconds of each of `repeats` calls of the model on `windows` windows of noise. */
  time(windows: number, repeats: number): Promise<number[]>;
  /** Load the model again, with at most so many threads or on WebGPU. */
  use(backend: "wasm" | "webgpu", threads?: number): Promise<EngineFacts>;
  /** [label, probability] pairs for a file's content in base64, as the page ranks them. */
  rank(content: string, labels: string, offset?: number): Promise<[string, number][]>;
  /** The vectors of labels by the text model. */
  encodeLabels(labels: string[]): Promise<{ rows: number[][]; unknown: [string, string[]][] }>;
}

declare global {
  interface Window {
    unheard: Scripting;
  }
}

export function addScripting(models: Models): void {
  const decode = async (content: string, contextRate?: number) => {
    const sound = await decodeSound(fromBase64(content), "file", contextRate);
    return embedSound(models, sound);
  };
  window.unheard = {
    ready: () => models.facts(),
    async embedWindows(windows) {
      const engine = await models.engine();
      return toBase64(await engine.ask("embedWindows", { windows: new Float32Array(fromBase64(windows)) }));
    },
    async embedFile(content, contextRate) {
      const { rows } = await decode(content, contextRate);
      return toBase64(Float32Array.from(rows.flatMap((row) => [...row])));
    },
    async time(windows, repeats) {
      const engine = await models.engine();
      const noise = Float32Array.from({ length: windows * models.site.window.samples }, () => Math.random() - 0.5);
      const times: number[] = [];
      for (let i = 0; i < repeats; i++) {
        const start = performance.now();
        await engine.ask("embedWindows", { windows: noise });
        times.push(performance.now() - start);
      }
      return times;
    },
    use: (backend, threads) => models.use(backend, threads),
    async rank(content, labels, offset) {
      const { rows, levels } = await decode(content);
      const { map } = await models.choose(labels);
      const silent = levels.map((level) => level < models.site.silent_dbfs);
      return map.rank(poolHeard(rows, silent), offset);
    },
    async encodeLabels(labels) {
      const { rows, unknown } = await (await models.engine()).ask("encodeLabels", { labels });
      return { rows: rows.map((row) => [...row]), unknown };
    },
  };
}

function fromBase64(text: string): ArrayBuffer {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

function toBase64(numbers: Float32Array): string {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
