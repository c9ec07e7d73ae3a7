/** site.json: what export.web writes beside the page. All paths are relative to the page. */

import type { Window } from "./windows";
import type { ZeroShotFacts } from "./zeroshot";

/** A file of the site. `bytes` is what goes over the wire. */
export interface SiteFile {
  url: string;
  bytes: number;
  sha256: string; // base64, of the file as it is sent
}

export type FileName =
  | "model"
  | "front_end"
  | "zeroshot"
  | "minilm"
  | "tokenizer"
  | "glove"
  | "wasm"
  | "wasm_code"
  | "webgpu"
  | "webgpu_code";

export interface Example {
  url: string;
  name: string;
  labels: string[];
}

export interface Site {
  bundle: string;
  network: string;
  dataset: string;
  license: string;
  precision: string;
  input: "waveform" | "log_mel";
  embedding_size: number;
  embedding_space: string;
  window: Window;
  front_end: { hop_s: number; low_hz: number; high_hz: number; log_offset: number; mel_bands: number };
  seen_classes: string[]; // of the training
  taught_classes: string[]; // by examples, and not of the training
  scores: Record<string, unknown>;
  silent_dbfs: number;
  zeroshot: ZeroShotFacts;
  descriptions: Record<string, string>;
  text: { encoder: string; max_tokens: number; names: boolean } | null;
  label_lists: Record<string, string[]>;
  examples: Example[];
  palette: string; // 256 colours of 3 bytes, base64
  files: Partial<Record<FileName, SiteFile>>;
}

export async function readSite(): Promise<Site> {
  const reply = await fetch("site.json", { cache: "no-cache" }); // it names the files of one export
  if (!reply.ok) throw new Error(`site.json: the server answered ${reply.status}`);
  return reply.json();
}

export function siteFile(site: Site, name: FileName): SiteFile {
  const file = site.files[name];
  if (!file) throw new Error(`the site has no ${name}; export it again`);
  return file;
}
