/** A recording with the embeddings of its windows, and what they were computed on. */

import type { Sound } from "./decode";
import type { Models } from "./models";
import { countWindows, windowLevels } from "./windows";

/** The embeddings of a recording. wave: at the model's rate. */
export interface Embedded {
  sound: Omit<Sound, "wave">;
  wave: Float32Array;
  rows: Float32Array[];
  levels: number[];
  milliseconds: Record<string, number>;
}

/** Resample and embed a decoded sound. */
export async function embedSound(models: Models, sound: Sound, progress?: (share: number) => void): Promise<Embedded> {
  const engine = await models.engine();
  const { wave, rateHz } = sound;
  const { rows, wave: resampled, milliseconds } = await engine.ask("embedSound", { wave, rateHz }, progress);
  const size = models.site.embedding_size;
  const count = countWindows(resampled.length, models.site.window);
  const { wave: _, ...facts } = sound;
  return {
    sound: facts,
    wave: resampled,
    rows: Array.from({ length: count }, (_, i) => rows.subarray(i * size, (i + 1) * size)),
    levels: windowLevels(resampled, models.site.window),
    milliseconds,
  };
}

/** "WebAssembly, 2 threads, int8" */
export async function runsOn(models: Models): Promise<string> {
  const { backend, threads } = await models.facts();
  const where = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  return `${where}, ${models.site.precision}`;
}

