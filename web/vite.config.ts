import { defineConfig } from "vite";

/** What a page must send so that threads can share memory. */
const isolated = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({
  // Relative, so that the site works in any folder of any host; BITNET_BASE sets another.
  base: process.env["BITNET_BASE"] ?? "./",
  // Prebundling would lose the Worker that lies beside the package's module.
  optimizeDeps: { exclude: ["bitnet-web"] },
  worker: { format: "es" },
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { headers: isolated },
  preview: { headers: isolated },
  test: { include: ["tests/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
