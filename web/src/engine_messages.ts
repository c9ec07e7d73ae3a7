/** What the page and the worker with the models tell each other. */

import type { Handlers } from "./engine_worker";

export type Backend = "wasm" | "webgpu";

export interface EngineFacts {
  backend: Backend;
  threads: number;
  version: string; // of ONNX Runtime Web
}

export interface Request {
  id: number;
  name: keyof Handlers;
  input: unknown;
}

/** An error, a result, or the share of the work that is done. */
export interface Reply {
  id: number;
  result?: unknown;
  progress?: number;
  error?: string;
  isLabelError?: boolean;
}
