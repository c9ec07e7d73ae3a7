/** The models, in a worker so that the page stays responsive: waveforms -> embeddings and log-mel, labels -> vectors. */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { Backend, EngineFacts, Reply, Request } from "./engine_messages";
import { download } from "./download";
import { Glove } from "./glove";
import { LabelError } from "./label_text";
import { resample } from "./resample";
import { siteFile, type FileName, type Site } from "./site";
import { Tensors } from "./tensors";
import { TextModel } from "./text_model";
import { cutWindows, countWindows } from "./windows";
import { WordPiece } from "./wordpiece";

type Ort = typeof import("onnxruntime-web");
const AT_ONCE = 8; // windows in one call of the model; more take memory and no less time
const MOST_THREADS = 4;

let site: Site;
let base: string;
let ort: Ort;
let provider: Backend;
let model: Promise<InferenceSession>;
let frontEnd: Promise<InferenceSession> | undefined;
let textModel: Promise<TextModel> | undefined;

const handlers = {
  async open(wanted: { site: Site; base: string; backend: Backend; threads: number }): Promise<EngineFacts> {
    ({ site, base } = wanted);
    provider = wanted.backend;
    const threads = self.crossOriginIsolated ? Math.min(wanted.threads, MOST_THREADS) : 1;
    const [binary, code] = provider === "webgpu" ? (["webgpu", "webgpu_code"] as const) : (["wasm", "wasm_code"] as const);
    const bytes = download(siteFile(site, "model"), base); // while the runtime loads
    bytes.catch(() => undefined); // is told when it is awaited
    const [wasm, library] = await Promise.all([
      download(siteFile(site, binary), base),
      provider === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm"),
    ]);
    ort = library as Ort;
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.wasmPaths = { mjs: new URL(siteFile(site, code).url, base).href };
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    model = bytes.then(openSession);
    await model;
    return { backend: provider, threads, version: ort.env.versions.web ?? "" };
  },

  /** Windows [n, samples], one after the other -> rows [n, size]. */
  async embedWindows({ windows }: { windows: Float32Array }): Promise<Float32Array> {
    return embed(windows);
  },

  /** A whole sound at its own rate -> the wave at the model's rate, and a row for each of its windows. */
  async embedSound({ wave, rateHz }: { wave: Float32Array; rateHz: number }, progress: (share: number) => void) {
    const start = performance.now();
    const mono = resample(wave, rateHz, site.window.rate_hz);
    const resampled = performance.now();
    const count = countWindows(mono.length, site.window);
    const rows = new Float32Array(count * site.embedding_size);
    for (let first = 0; first < count; first += AT_ONCE) {
      rows.set(await embed(cutWindows(mono, site.window, first, AT_ONCE)), first * site.embedding_size);
      progress(Math.min(1, (first + AT_ONCE) / count));
    }
    return { wave: mono, rows, milliseconds: { resample: resampled - start, model: performance.now() - resampled } };
  },

  /** The log-mel of a wave at the model's rate: [n_windows, frames, bands]. */
  async logMel({ wave }: { wave: Float32Array }): Promise<Float32Array> {
    const count = countWindows(wave.length, site.window);
    const parts: Float32Array[] = [];
    for (let first = 0; first < count; first += AT_ONCE) {
      const windows = cutWindows(wave, site.window, first, AT_ONCE);
      parts.push((await runFrontEnd(windows)).data as Float32Array);
    }
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  },

  async encodeLabels({ labels }: { labels: readonly string[] }) {
    textModel ??= openTextModel();
    const opened = await textModel;
    return {
      rows: await opened.encodeLabels(labels),
      unknown: labels.map((label) => [label, opened.unknownWords(label)] as [string, string[]]),
    };
  },
};

async function embed(windows: Float32Array): Promise<Float32Array> {
  const session = await model;
  const input = site.input === "waveform" ? waveTensor(windows) : await runFrontEnd(windows);
  const outputs = await session.run({ [session.inputNames[0]!]: input });
  return (await outputs[session.outputNames[0]!]!.getData()) as Float32Array;
}

async function runFrontEnd(windows: Float32Array): Promise<Tensor> {
  frontEnd ??= download(siteFile(site, "front_end"), base).then(openSession);
  const session = await frontEnd;
  const outputs = await session.run({ [session.inputNames[0]!]: waveTensor(windows) });
  return outputs[session.outputNames[0]!]!;
}

function waveTensor(windows: Float32Array): Tensor {
  return new ort.Tensor("float32", windows, [windows.length / site.window.samples, site.window.samples]);
}

function openSession(content: ArrayBuffer): Promise<InferenceSession> {
  return ort.InferenceSession.create(new Uint8Array(content), { executionProviders: [provider] });
}

async function openTextModel(): Promise<TextModel> {
  const read = (name: FileName) => download(siteFile(site, name), base);
  const { encoder, max_tokens, names } = site.text!;
  const parts = encoder.split("+");
  const glove = parts.includes("glove") ? new Glove(Tensors.parse(await read("glove"))) : null;
  if (!parts.includes("minilm")) return new TextModel(site.descriptions, names, glove, null);
  const [content, stored] = await Promise.all([read("minilm"), read("tokenizer")]);
  const session = await ort.InferenceSession.create(new Uint8Array(content), { executionProviders: ["wasm"] });
  const tokenizer = new WordPiece(JSON.parse(new TextDecoder().decode(stored)), max_tokens);
  const run = async (tokens: readonly number[]) => {
    const input = new ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, tokens.length]);
    return (await session.run({ tokens: input })).embedding!.data as Float32Array;
  };
  return new TextModel(site.descriptions, names, glove, { tokenizer, run });
}

// One request at a time: a session of ONNX Runtime runs one call.
let last: Promise<unknown> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  last = last.then(async () => {
    const answer = (reply: Omit<Reply, "id">) => self.postMessage({ id: data.id, ...reply });
    try {
      const handler = handlers[data.name] as (input: unknown, progress: (share: number) => void) => Promise<unknown>;
      answer({ result: await handler(data.input, (share) => answer({ progress: share })) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      answer({ error: message, isLabelError: error instanceof LabelError });
    }
  });
});

export type Handlers = typeof handlers;
