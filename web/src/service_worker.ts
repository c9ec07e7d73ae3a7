/**
 * Keeps the site for use without a network, and makes the page cross-origin isolated. What most visitors never need
 * (WebGPU's runtime, the text model) is kept once it was loaded.
 *
 * export.web writes a line with SITE before this script: the name of the cache has a hash of all files, so another
 * export is another cache. A page keeps the version that it began with; the next version takes over when the last tab
 * of the old one is closed.
 */

declare const self: ServiceWorkerGlobalScope & { SITE: { hash: string; files: string[]; on_demand: string[] } };
interface ServiceWorkerGlobalScope extends EventTarget {
  registration: { scope: string };
  clients: { claim(): Promise<void> };
}
interface ExtendableEvent extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface MessageEvent extends ExtendableEvent {
  data: string[];
}
interface FetchEvent extends ExtendableEvent {
  request: Request;
  respondWith(reply: Promise<Response>): void;
}

// Sites in other folders of this server have caches of their own.
const PREFIX = `unheard ${self.registration.scope} `;
const CACHE = PREFIX + self.SITE.hash;
// Threads of WebAssembly need a page that is isolated from other origins; servers seldom send these headers.
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

function isolated(reply: Response): Response {
  const headers = new Headers(reply.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(reply.body, { status: reply.status, statusText: reply.statusText, headers });
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const path = new URL(request.url);
  path.search = path.hash = "";
  const known = await cache.match(path.href.endsWith("/index.html") ? path.href.slice(0, -"index.html".length) : path.href);
  if (known) return isolated(known);
  const reply = await fetch(request);
  const relative = path.href.slice(self.registration.scope.length);
  if (reply.ok && self.SITE.on_demand.includes(relative)) {
    await cache.put(path.href, reply.clone()).catch(() => {}); // the browser's storage may be full
  }
  return isolated(reply);
}

/** Keep files that are loaded on demand, unless they are kept. The browser has them still if the page just had them. */
async function keep(files: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const file of files.filter((each) => self.SITE.on_demand.includes(each))) {
    if (!(await cache.match(file))) await cache.add(file).catch(() => {}); // no network, or the storage is full
  }
}

/** Take what the last version kept of the same files: their names have a hash of their content. */
async function inherit(from: string): Promise<void> {
  const [old, cache] = [await caches.open(from), await caches.open(CACHE)];
  for (const file of self.SITE.on_demand) {
    const known = await old.match(file);
    if (known) await cache.put(file, known).catch(() => {});
  }
}

self.addEventListener("install", (event) => {
  // The browser's own cache may have files of an older export: ask the server whether they are the newest.
  const files = self.SITE.files.map((file) => new Request(file, { cache: "no-cache" }));
  (event as ExtendableEvent).waitUntil(caches.open(CACHE).then((cache) => cache.addAll(files)));
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    for (const name of await caches.keys()) {
      if (!name.startsWith(PREFIX) || name === CACHE) continue;
      await inherit(name);
      await caches.delete(name);
    }
    await self.clients.claim();
  };
  (event as ExtendableEvent).waitUntil(clean());
});

self.addEventListener("message", (event) => (event as MessageEvent).waitUntil(keep((event as MessageEvent).data)));

self.addEventListener("fetch", (event) => {
  const { request } = event as FetchEvent;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) {
    (event as FetchEvent).respondWith(answer(request));
  }
});
export {};
