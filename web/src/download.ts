/** Fetch a file of the site, check its hash, and unpack it. */

import { decompress } from "fzstd";
import type { SiteFile } from "./site";

const ZSTANDARD = [0x28, 0xb5, 0x2f, 0xfd];

/** The content of a file. The page unpacks packed files itself, so that servers need not know of it. */
export async function download(file: SiteFile, base: string): Promise<ArrayBuffer> {
  const reply = await fetch(new URL(file.url, base), { integrity: `sha256-${file.sha256}` }).catch((error: unknown) => {
    throw new Error(`${file.url}: could not be loaded, or was changed (${String(error)}); reload the page`);
  });
  if (!reply.ok) throw new Error(`${file.url}: the server answered ${reply.status}; reload the page`);
  const content = await reply.arrayBuffer();
  const bytes = new Uint8Array(content);
  if (ZSTANDARD.some((byte, i) => bytes[i] !== byte)) return content;
  const unpacked = decompress(bytes);
  return unpacked.buffer.slice(unpacked.byteOffset, unpacked.byteOffset + unpacked.byteLength) as ArrayBuffer;
}
