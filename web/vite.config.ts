import { defineConfig, type Plugin } from "vite";

/** What a page must send so that threads can share memory. */
const isolated = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** Tells the page the names of the files that the model's Worker fetches: they are kept for offline use, the build's own choice first. */
function workerAssets(): Plugin {
  return {
    name: "worker-assets",
    enforce: "post",
    generateBundle(_, bundle) {
      const names = Object.keys(bundle).filter((name) => /\.(wasm|gguf)$/.test(name) || /worker-.*\.js$/.test(name));
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === "chunk") {
          chunk.code = chunk.code.replaceAll("__WORKER_ASSETS__", JSON.stringify(names));
        }
      }
    },
  };
}

export default defineConfig({
  // Relative, so that the site works in any folder of any host; BITNET_BASE sets another.
  base: process.env["BITNET_BASE"] ?? "./",
  // Prebundling would lose the Worker that lies beside the package's module.
  optimizeDeps: { exclude: ["bitnet-web"] },
  worker: { format: "es" },
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { headers: isolated },
  preview: { headers: isolated },
  plugins: [workerAssets()],
  test: { include: ["tests/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
