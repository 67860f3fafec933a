// Builds dist/: the library, its Worker, type declarations, and beside them the WebAssembly modules and the demo model.
//
// tsc writes the declarations and checks; esbuild joins the modules. Vite's library mode would turn the files that the Worker
// fetches into base64 inside it; esbuild leaves `new URL(…, import.meta.url)` as it is, which every bundler understands.
// The Worker is one file without imports, so that it runs as it is and in bundlers that make classic Workers.

import { execFileSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const dist = path.join(here, "dist");
const variants = ["simd128", "relaxed", "threads", "webgpu", "constraints"];

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });

const require = createRequire(import.meta.url);
const tsc = path.join(path.dirname(require.resolve("typescript/package.json")), "bin/tsc");
execFileSync(process.execPath, [tsc, "--project", path.join(here, "tsconfig.json")], { stdio: "inherit" });
// Nobody can import the Worker's parts, nor what no declaration of the entry mentions.
await rm(path.join(dist, "worker"), { recursive: true });
for (const name of ["address", "fields", "json", "placement", "random"]) {
  await rm(path.join(dist, `${name}.d.ts`));
}

const glue = (name) => readFile(path.join(here, "wasm", name, "bitnet.js"), "utf8");
if ((await glue("simd128")) !== (await glue("relaxed"))) {
  throw new Error("wasm/simd128/bitnet.js and wasm/relaxed/bitnet.js differ: worker/core.ts starts both builds by the first");
}

const options = { absWorkingDir: here, outdir: "dist", bundle: true, format: "esm", target: "es2022", minify: true, legalComments: "none", logLevel: "warning" };
await build({ ...options, entryPoints: { index: "src/index.ts", worker: "src/worker/worker.ts" } });
// What is for a framework imports that, and the library beside it: whoever uses both has one of each.
await build({ ...options, entryPoints: ["src/react.ts", "src/vue.ts", "src/ai-sdk.ts"], external: ["./index.js", "react", "vue"] });

const files = variants.map((name) => [
  path.join(here, "wasm", name, "bitnet_bg.wasm"),
  `bitnet-${name}.wasm`,
]);
files.push([path.join(here, "../../crates/bitnet-demo/data/demo.gguf"), "demo.gguf"]);
files.push(...["LICENSE-MIT", "LICENSE-APACHE"].map((name) => [path.join(here, "../..", name), name]));
for (const [from, name] of files) {
  await copyFile(from, path.join(dist, name));
  const { size } = await stat(from);
  console.log(`dist/${name}: ${(size / 2 ** 20).toFixed(2)} MiB`);
}
