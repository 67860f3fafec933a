import { defineConfig, type Plugin } from "vite";

/** What a page must send so that threads can share memory. */
const isolated = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** Tells the page the names of the build's files: some are kept for offline use, and those of earlier builds no longer. */
function assets(): Plugin {
  return {
    name: "assets",
    enforce: "post",
    generateBundle(_, bundle) {
      const names = Object.keys(bundle).filter((name) => !name.endsWith(".html"));
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === "chunk") {
          chunk.code = chunk.code.replaceAll("__ASSETS__", JSON.stringify(names));
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
  plugins: [assets()],
  test: { include: ["tests/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
