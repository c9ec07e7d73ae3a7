/** The page's side of the worker with the models. */

import type { Backend, EngineFacts, Reply, Request } from "./engine_messages";
import type { Handlers } from "./engine_worker";
import { LabelError } from "./label_text";
import type { Site } from "./site";

type Input<Name extends keyof Handlers> = Parameters<Handlers[Name]>[0];
type Result<Name extends keyof Handlers> = Awaited<ReturnType<Handlers[Name]>>;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
  progress?: (share: number) => void;
}

const CLOSED = "the model was changed; try again";

export class Engine {
  private readonly worker = new Worker(new URL("./engine_worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  private isClosed = false;

  private constructor(readonly site: Site) {
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => this.take(data));
    this.worker.addEventListener("error", (event) => this.fail(event.message || "the models' worker could not start"));
  }

  /** Load the runtime and the model. threads: at most; one where the page is not cross-origin isolated. */
  static async open(site: Site, backend: Backend, threads: number): Promise<[Engine, EngineFacts]> {
    const engine = new Engine(site);
    const facts = await engine.ask("open", { site, base: document.baseURI, backend, threads });
    return [engine, facts];
  }

  /** Ask the worker. `progress` is told the share of the work that is done. */
  ask<Name extends keyof Handlers>(
    name: Name,
    input: Input<Name>,
    progress?: (share: number) => void,
  ): Promise<Result<Name>> {
    if (this.isClosed) return Promise.reject(new Error(CLOSED));
    const id = this.next++;
    const request: Request = { id, name, input };
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (result: unknown) => void, reject, progress });
      this.worker.postMessage(request);
    });
  }

  /** End the worker. Requests under way fail: it answers no more. */
  close(): void {
    this.isClosed = true;
    this.worker.terminate();
    this.fail(CLOSED);
  }

  private take(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    if (!waiting) return;
    if (reply.progress !== undefined) {
      waiting.progress?.(reply.progress);
      return;
    }
    this.waiting.delete(reply.id);
    if (reply.error === undefined) waiting.resolve(reply.result);
    else waiting.reject(reply.isLabelError ? new LabelError(reply.error) : new Error(reply.error));
  }

  private fail(message: string): void {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }
}
