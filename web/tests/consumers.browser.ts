// The package in other people's hands: Vite's dev server, webpack, esbuild, Rollup, a plain page, and the example of the README word for word.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, type Page, test } from "@playwright/test";
import { build as esbuild } from "esbuild";
import { rollup } from "rollup";
import { createServer } from "vite";
import webpack from "webpack";

const here = path.dirname(fileURLToPath(import.meta.url));
const sources = path.join(here, "consumers");
/** Where tests/server.mjs looks for /consumers/. */
const built = path.join(here, "../node_modules/.cache/bitnet-consumers");
const START = "there was a kind boy. His name was Luke.";
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

async function tells(page: Page, address: string, threads: number) {
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(address);
  await expect.poll(async () => `${errors.join("; ")}${await page.locator("body").textContent()}`, { timeout: 30_000 }).toContain(START);
  await expect(page.locator("body")).toHaveAttribute("data-threads", String(threads));
  expect(errors).toEqual([]);
}

test("Vite's dev server", async ({ page }) => {
  const vite = await createServer({
    configFile: false,
    root: sources,
    cacheDir: path.join(built, "vite"),
    logLevel: "error",
    // What the README asks for.
    optimizeDeps: { exclude: ["bitnet-web"] },
    worker: { format: "es" },
    server: { port: 0, headers: ISOLATED, fs: { allow: [path.join(here, "..")] } },
  });
  try {
    await vite.listen();
    const address = vite.resolvedUrls?.local[0] ?? "";
    await tells(page, address, 1);
    await tells(page, `${address}?threads=2`, 2);
  } finally {
    await vite.close();
  }
});

test("webpack 5, without any configuration for the package", async ({ page }) => {
  const out = path.join(built, "webpack");
  await rm(out, { recursive: true, force: true });
  const compile = promisify((done: (error: Error | null, stats?: webpack.Stats) => void) =>
    webpack({ mode: "production", context: sources, entry: "./main.js", output: { path: out, filename: "main.js" } }, done),
  );
  const stats = await compile();
  expect(stats?.hasErrors(), stats?.toString({ errors: true, all: false })).toBe(false);
  await writeFile(path.join(out, "index.html"), '<!doctype html><title>webpack</title><body></body><script src="main.js"></script>');
  await tells(page, "/consumers/webpack/", 1);
  await tells(page, "/consumers/webpack/?threads=2", 2);
});

/** What the README has copied beside the output of bundlers that do not see addresses of files. */
const ASSETS = ["worker.js", "demo.gguf", ...["simd128", "relaxed", "threads", "webgpu", "constraints"].map((name) => `bitnet-${name}.wasm`)];

/** Copies them to `out`, by the names that the package exports, and makes a page of main.js there. */
async function finish(out: string) {
  for (const name of ASSETS) {
    await copyFile(fileURLToPath(import.meta.resolve(`bitnet-web/${name}`)), path.join(out, name));
  }
  await writeFile(path.join(out, "index.html"), '<!doctype html><title>bundled</title><body></body><script type="module" src="main.js"></script>');
}

test("esbuild, with the files copied that the README names", async ({ page }) => {
  const out = path.join(built, "esbuild");
  await esbuild({ entryPoints: [path.join(sources, "main.js")], bundle: true, format: "esm", outdir: out, logLevel: "error" });
  await finish(out);
  await tells(page, "/consumers/esbuild/", 1);
  await tells(page, "/consumers/esbuild/?threads=2", 2);
});

test("Rollup, with the files copied that the README names", async ({ page }) => {
  const out = path.join(built, "rollup");
  // Finds packages as Node does.
  const resolveId = (name: string) => (name === "bitnet-web" ? fileURLToPath(import.meta.resolve(name)) : null);
  const bundle = await rollup({ input: path.join(sources, "main.js"), plugins: [{ name: "packages", resolveId }] });
  await bundle.write({ dir: out, format: "es" });
  await bundle.close();
  await finish(out);
  await tells(page, "/consumers/rollup/", 1);
  await tells(page, "/consumers/rollup/?threads=2", 2);
});

test("a plain page, from another origin than its own", async ({ page, baseURL }) => {
  const plain = path.join(built, "plain");
  await mkdir(plain, { recursive: true });
  const main = (await readFile(path.join(sources, "main.js"), "utf8")).replace('"bitnet-web"', '"/package/index.js"');
  await writeFile(path.join(plain, "index.html"), `<!doctype html><title>plain</title><body></body><script type="module">${main}</script>`);
  await tells(page, "/consumers/plain/", 1);
  await tells(page, "/consumers/plain/?threads=2", 2);
  // As from a CDN: a page of another origin imports the module; the Worker and the core come from there, too.
  const body = `<!doctype html><title>elsewhere</title><body></body><script type="module">${main.replace("/package/", `${baseURL}/package/`)}</script>`;
  const elsewhere = createHttpServer((_, response) => void response.writeHead(200, { "content-type": "text/html" }).end(body));
  await new Promise<void>((resolve) => void elsewhere.listen(0, "localhost", resolve));
  try {
    await tells(page, `http://localhost:${(elsewhere.address() as AddressInfo).port}/`, 1);
  } finally {
    elsewhere.close();
    elsewhere.closeAllConnections();
  }
});

for (const file of ["../../README.md", "../package/README.md"]) {
  test(`the example of ${path.relative("../..", file)}`, async ({ page }) => {
    const readme = await readFile(path.join(here, file), "utf8");
    const example = /```js\n([^]*?import \{ BitNet[^]*?)```/.exec(readme)?.[1];
    expect(example, "an example in JavaScript").toBeDefined();
    await page.route("/readme.html", (route) =>
      route.fulfill({
        contentType: "text/html",
        headers: ISOLATED,
        body: `<!doctype html><title>README</title>
          <script type="importmap">{ "imports": { "bitnet-web": "/package/index.js" } }</script>
          <body></body><script type="module">${example}; document.body.dataset.done = "yes";</script>`,
      }),
    );
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto("/readme.html");
    await expect(page.locator("body"), errors.join("\n")).toHaveAttribute("data-done", "yes", { timeout: 60_000 });
    expect((await page.locator("body").textContent())?.length).toBeGreaterThan(100);
    expect(errors).toEqual([]);
  });
}
