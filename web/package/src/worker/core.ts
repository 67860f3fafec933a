// The WebAssembly core: which build, its memory, and its threads.

import initGpu, * as webgpu from "../../wasm/webgpu/bitnet.js";
// That of relaxed SIMD is the same to the byte, as build.mjs makes sure; a Worker starts one build.
import initSimd, * as simd from "../../wasm/simd128/bitnet.js";
import initThreads, * as threaded from "../../wasm/threads/bitnet.js";
import { BitNetError, said } from "../errors.js";
import type { Fallback, Variant } from "../features.js";
import type { FromThread, LoadRequest, ThreadStart, ToThread } from "../protocol.js";

/** What all builds have, and what only that for GPUs has. */
export type Core = Pick<typeof simd, "Hasher" | "Landing" | "memoryBytes"> & {
  Engine: Pick<typeof simd.Engine, "open"> & Partial<Pick<typeof webgpu.Engine, "openOnGpu">>;
} & Partial<Pick<typeof webgpu, "Gpu">>;

/** What takes an answer apart. */
export type Reply = Pick<simd.Reply, "push" | "finish" | "free">;

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

/** Starts `module`, the build `variant`, with `threads` threads, or as many as can be started. */
export async function start(module: WebAssembly.Module, { variant, threads }: LoadRequest, fallbacks: Fallback[]): Promise<Core> {
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
  const started = await Promise.allSettled(Array.from({ length: threads - 1 }, () => startThread(module, memory)));
  const helpers = started.filter((result) => result.status === "fulfilled").map(({ value }) => value);
  const failed = started.find((result) => result.status === "rejected");
  if (failed !== undefined) {
    const used = helpers.length === 0 ? "one thread" : `${helpers.length + 1} threads`;
    fallbacks.push({ wanted: "threads", used, reason: said(failed.reason) });
  }
  if (helpers.length > 0) {
    threaded.prepareHelpers(helpers.length);
    for (const helper of helpers) {
      helper.postMessage({ kind: "run" } satisfies ToThread);
    }
  }
  return threaded;
}

/** How this Worker was started: only scripts that are no modules may import others this way. */
function ownType(): WorkerType {
  try {
    (self as unknown as { importScripts(...urls: string[]): void }).importScripts();
    return "classic";
  } catch {
    return "module";
  }
}

/** Starts a Worker that can run a helper; settled when it waits for one. */
function startThread(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Worker> {
  return new Promise((resolve, reject) => {
    // This script again, as bundlers had it started: it learns from its first message what it is to be.
    const worker = new Worker(self.location.href, { type: ownType(), name: "bitnet thread" });
    const fail = (reason: string) => {
      worker.terminate();
      reject(new BitNetError("unavailable", `a thread does not start: ${reason}`));
    };
    worker.onmessage = ({ data }: MessageEvent<FromThread>) => (data.kind === "ready" ? resolve(worker) : fail(data.reason));
    worker.onerror = (event) => {
      event.preventDefault();
      fail(event.message ?? "its script could not be loaded");
    };
    worker.postMessage({ kind: "thread", module, memory } satisfies ThreadStart);
  });
}

/** Prepares this Worker to be a thread, and says so. */
export async function beThread({ module, memory }: ThreadStart): Promise<void> {
  try {
    await initThreads({ module_or_path: module, memory, thread_stack_size: STACK });
    self.postMessage({ kind: "ready" } satisfies FromThread);
  } catch (error) {
    self.postMessage({ kind: "failed", reason: said(error) } satisfies FromThread);
  }
}

/** Is a thread, until the Worker that started it ends. */
export function runThread(): void {
  threaded.runThread();
}
