// Builds the page into dist/. Python (export.web) adds the model and writes the site.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { defineConfig } from "vitest/config";
import type { Plugin } from "vite";

const HERE = import.meta.dirname;
const MODULES = resolve(HERE, "node_modules");
// WebAssembly with SIMD and threads; "asyncify" is the build that has WebGPU.
const RUNTIMES = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"];

/** Copies ONNX Runtime's WebAssembly, which export.web packs and the page opens from memory, and writes the licences. */
function copyRuntime(): Plugin {
  return {
    name: "copy-runtime",
    apply: "build",
    writeBundle(options) {
      if (!options.dir?.endsWith("dist")) return; // the worker's own build
      const folder = resolve(options.dir, "runtime");
      mkdirSync(folder, { recursive: true });
      for (const name of RUNTIMES.flatMap((each) => [`${each}.mjs`, `${each}.wasm`])) {
        copyFileSync(join(MODULES, "onnxruntime-web/dist", name), join(folder, name));
      }
      const texts = [readFileSync(resolve(HERE, "../LICENSE"), "utf8"), ...licences("onnxruntime-web"), ...licences("fzstd")];
      writeFileSync(join(options.dir, "licences.txt"), texts.join("\n\n"));
    },
  };
}

/** The licence of a package, and those of the packages that it needs. */
function licences(name: string, known = new Set<string>()): string[] {
  if (known.has(name)) return [];
  known.add(name);
  const folder = join(MODULES, name);
  const stated = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|third-?party|notice)/i.test(file));
  const head = `${name} ${stated.version}, ${stated.license}, ${stated.homepage ?? stated.repository?.url ?? ""}`;
  const texts = files.map((file) => readFileSync(join(folder, file), "utf8"));
  if (name === "onnxruntime-web") texts.push(readFileSync(resolve(HERE, "licences/onnxruntime-web.txt"), "utf8"));
  const own = [head, ...texts].join("\n\n");
  return [own, ...Object.keys(stated.dependencies ?? {}).flatMap((each) => licences(each, known))];
}

export default defineConfig({
  base: "./", // the site works in any folder of any server
  publicDir: false,
  // The builds of onnxruntime-web that load WebAssembly from where the page says, not from beside themselves.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"] },
  worker: { format: "es" },
  plugins: [copyRuntime()],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { page: resolve(HERE, "index.html"), "service-worker": resolve(HERE, "src/service_worker.ts") },
      output: {
        entryFileNames: (chunk) => (chunk.name === "service-worker" ? "service-worker.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  test: { include: ["tests/*.test.ts"] },
});
