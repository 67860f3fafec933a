// React, Vue and the AI SDK with the model of the package, as a program of theirs is bundled.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@playwright/test";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
/** Where tests/server.mjs looks for /consumers/. */
const built = path.join(here, "../node_modules/.cache/bitnet-consumers/frameworks");

/** What tests/consumers/frameworks.js returns of each. */
interface Seen {
  react: { shown: string; after: string };
  vue: { shown: string; after: string };
  sdk: { text: string; usage: { inputTokens: number; outputTokens: number }; hit: { id: string; score: number } };
}

test.beforeAll(async () => {
  await build({
    entryPoints: [path.join(here, "consumers/frameworks.js")],
    bundle: true,
    format: "esm",
    outdir: built,
    logLevel: "error",
    define: { "process.env.NODE_ENV": '"production"' },
    // The library as the server gives it, beside its Worker.
    plugins: [{ name: "library", setup: ({ onResolve }) => onResolve({ filter: /^(bitnet-web|\.\/index\.js)$/ }, ({ importer, path: name }) => (name === "bitnet-web" || importer.includes("package/dist") ? { path: "/package/index.js", external: true } : undefined)) }],
  });
});

test.beforeEach(async ({ page }) => {
  await page.goto("/blank.html");
  await page.addScriptTag({ type: "module", url: "/consumers/frameworks/frameworks.js" });
  await page.waitForFunction(() => "frameworks" in globalThis);
});

for (const framework of ["react", "vue"] as const) {
  test(`${framework} shows an answer, and gives the model back`, async ({ page }) => {
    const seen = (await page.evaluate(`frameworks.${framework}()`)) as Seen[typeof framework];
    expect(seen).toEqual({ shown: expect.stringContaining("85"), after: "disposed" });
  });
}

test("the AI SDK writes, streams, keeps to schemas, stops and embeds", async ({ page }) => {
  const seen = (await page.evaluate("frameworks.sdk()")) as Seen["sdk"];
  expect(seen).toMatchObject({ finishReason: "stop", same: true, cut: "length", kinds: ["number", "number"], aborts: 1, embedding: true, hit: { id: "boy" } });
  expect(seen.text).toContain("85");
  expect(seen.usage.inputTokens).toBeGreaterThan(5);
  expect(seen.usage.outputTokens).toBeGreaterThan(0);
  expect(seen.hit.score).toBeCloseTo(1, 4);
});
