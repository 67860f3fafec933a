// The WebAssembly core: which build, its memory, and its threads.

import initGpu, * as webgpu from "../../wasm/webgpu/bitnet.js";
// That of relaxed SIMD is the same to the byte, as build.mjs makes sure; a Worker starts one build.
import initSimd, * as simd from "../../wasm/simd128/bitnet.js";
import initThreads, * as threaded from "../../wasm/threads/bitnet.js";
import { BitNetError } from "../errors.js";
import type { Variant } from "../features.js";
import type { LoadRequest, ThreadStart } from "../protocol.js";

/** What all builds have, and what only that for GPUs has. */
export type Core = Pick<typeof simd, "Hasher" | "Landing" | "memoryBytes"> & {
  Engine: Pick<typeof simd.Engine, "open"> & Partial<Pick<typeof webgpu.Engine, "openOnGpu">>;
} & Partial<Pick<typeof webgpu, "Gpu">>;

/** An open model: on a GPU, what takes time must be awaited. */
export type Engine = simd.Engine & Partial<Pick<webgpu.Engine, "prefillAsync" | "stepAsync" | "likeliestAsync">>;

/** Stack of a thread, in bytes: a multiple of a WebAssembly page. */
const STACK = 2 << 20;

/** Where the modules lie: beside this script, under names that bundlers find. */
function moduleUrl(variant: Variant): URL {
  switch (variant) {
    case "simd128":
      return new URL("./bitnet-simd128.wasm", import.meta.url);
    case "relaxed":
      return new URL("./bitnet-relaxed.wasm", import.meta.url);
    case "threads":
      return new URL("./bitnet-threads.wasm", import.meta.url);
    case "webgpu":
      return new URL("./bitnet-webgpu.wasm", import.meta.url);
  }
}

/** The module at an address. */
export async function compile(url: URL): Promise<WebAssembly.Module> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw new BitNetError("network", `cannot fetch ${url}`, { cause });
  }
  if (!response.ok) {
    throw new BitNetError("network", `${url}: ${response.status} ${response.statusText}`);
  }
  // Hosts that do not know the type .wasm would make the streaming compiler refuse.
  if (response.headers.get("content-type")?.startsWith("application/wasm")) {
    return WebAssembly.compileStreaming(response);
  }
  return WebAssembly.compile(await response.arrayBuffer());
}

/** The compiled build that `request` asks for. */
export async function moduleOf({ module, variant, wasmUrl }: LoadRequest): Promise<WebAssembly.Module> {
  return module ?? compile(wasmUrl === undefined ? moduleUrl(variant) : new URL(wasmUrl));
}

/** Starts `module`, the build `variant`, with `threads` threads. */
export async function start(module: WebAssembly.Module, { variant, threads }: LoadRequest): Promise<Core> {
  switch (variant) {
    case "simd128":
    case "relaxed":
      await initSimd({ module_or_path: module });
      return simd;
    case "webgpu":
      await initGpu({ module_or_path: module });
      return webgpu;
  }
  const { memory } = await initThreads({ module_or_path: module, thread_stack_size: STACK });
  // This Worker is one of the threads.
  const helpers = threads - 1;
  if (helpers > 0) {
    threaded.prepareHelpers(helpers);
    await Promise.all(Array.from({ length: helpers }, () => startThread(module, memory)));
  }
  return threaded;
}

/** Starts a Worker that runs one of the prepared helpers; settled when it is about to. */
function startThread(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<void> {
  return new Promise((resolve, reject) => {
    // This script again: it learns from its first message what it is to be.
    const worker = new Worker(self.location.href, { type: "module", name: "bitnet thread" });
    worker.onmessage = () => resolve();
    worker.onerror = (event) => {
      reject(new BitNetError("unavailable", `cannot start a thread: ${event.message}`));
    };
    worker.postMessage({ kind: "thread", module, memory } satisfies ThreadStart);
  });
}

/** Is a thread, until the Worker that started it ends. */
export async function beThread({ module, memory }: ThreadStart): Promise<void> {
  await initThreads({ module_or_path: module, memory, thread_stack_size: STACK });
  self.postMessage("ready");
  threaded.runThread();
}
