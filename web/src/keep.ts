/** What a visitor used is kept for use without a network, though the service worker may not have seen it loaded. */

import type { FileName, Site } from "./site";

/** Ask the service worker, once it runs, to keep files that are loaded on demand. */
export async function keep(site: Site, names: FileName[]): Promise<void> {
  const urls = names.flatMap((name) => site.files[name]?.url ?? []);
  const registration = await navigator.serviceWorker?.ready;
  registration?.active?.postMessage(urls);
}
