/** What the page computes with: the engine, the zero-shot map, and the labels that are chosen. */

import { download } from "./download";
import { Engine } from "./engine";
import type { Backend, EngineFacts } from "./engine_messages";
import { keep } from "./keep";
import { labelKinds, type LabelKind } from "./label_kinds";
import { readLabels } from "./label_text";
import { siteFile, type Site } from "./site";
import { Tensors } from "./tensors";
import { ZeroShot } from "./zeroshot";

/** Labels as they were typed, ready to rank. */
export interface ChosenLabels {
  map: ZeroShot;
  kinds: Map<string, LabelKind>;
  unknown: [string, string[]][];
}

export class Models {
  private constructor(
    readonly site: Site,
    readonly zeroshot: ZeroShot,
    private readonly threads: number,
    private opened: Promise<[Engine, EngineFacts]>,
  ) {}

  static async load(site: Site, threads: number): Promise<Models> {
    const opened = openEngine(site, "wasm", threads); // loads meanwhile
    const arrays = Tensors.parse(await download(siteFile(site, "zeroshot"), document.baseURI));
    return new Models(site, ZeroShot.parse(site.zeroshot, arrays), threads, opened);
  }

  /** The engine, once its model is loaded. */
  async engine(): Promise<Engine> {
    return (await this.opened)[0];
  }

  async facts(): Promise<EngineFacts> {
    return (await this.opened)[1];
  }

  /** Run on another backend from now on. */
  async use(backend: Backend, threads = this.threads): Promise<EngineFacts> {
    const old = this.opened;
    this.opened = openEngine(this.site, backend, threads);
    void old.then(([engine]) => engine.close(), () => undefined);
    const facts = await this.facts();
    void keep(this.site, [backend, `${backend}_code`]);
    return facts;
  }

  get knowsText(): boolean {
    return this.site.text !== null && this.zeroshot.knowsTextMean;
  }

  /** The zero-shot map for labels as they are typed. LabelError: one cannot be used. */
  async choose(typed: string): Promise<ChosenLabels> {
    const labels = readLabels(typed, this.zeroshot.classNames) ?? this.zeroshot.classNames;
    const unknown: [string, string[]][] = [];
    const encode = async (texts: readonly string[]) => {
      const encoded = await (await this.engine()).ask("encodeLabels", { labels: texts });
      unknown.push(...encoded.unknown);
      void keep(this.site, ["minilm", "tokenizer", "glove"]);
      return encoded.rows;
    };
    const map = await this.zeroshot.choose(labels, this.knowsText ? encode : null);
    const kinds = labelKinds(this.site, this.zeroshot, map);
    return { map, kinds, unknown: unknown.filter(([label]) => kinds.get(label) === "typed") };
  }
}

function openEngine(site: Site, backend: Backend, threads: number): Promise<[Engine, EngineFacts]> {
  const opened = Engine.open(site, backend, threads);
  opened.catch(() => undefined); // is told to whoever waits for it
  return opened;
}
