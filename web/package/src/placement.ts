// Where a model runs.

import { BitNetError } from "./errors.js";
import { chooseVariant, type Fallback, type Variant, VARIANTS, whyNoGpu, whyNoThreads } from "./features.js";
import type { LoadOptions } from "./model.js";

/** A build, and how many threads it runs on. */
export interface Place {
  variant: Variant;
  threads: number;
}

/** Where a model runs, where it does if there is no GPU after all, and what is not available for it. */
export interface Placements {
  best: Place;
  otherwise?: Place;
  fallbacks: Fallback[];
}

/** The most threads taken unasked: more cores share the same memory bandwidth. */
const MOST_THREADS = 8;

/**
 * Files of fewer bytes run on the processor if nothing is chosen: it has read them before a GPU has started the kernels of a token.
 * The native command draws the line there, too.
 */
const GPU_FROM = 64 << 20;

/** Where a model of `size` bytes runs. */
export async function placements(options: LoadOptions, size: number | undefined): Promise<Placements> {
  const { device = "auto", threads: asked, softwareGpu = false } = options;
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= 256)) {
    throw new BitNetError("argument", `threads: expected 1 to 256, found ${asked}`);
  }
  if (!["auto", "webgpu", "wasm"].includes(device)) {
    throw new BitNetError("argument", `device: expected auto, webgpu or wasm, found ${String(device)}`);
  }
  if (options.variant !== undefined && !VARIANTS.includes(options.variant)) {
    throw new BitNetError("argument", `variant: expected ${VARIANTS.join(", ")}, found ${String(options.variant)}`);
  }
  const wanted = asked ?? Math.min(globalThis.navigator?.hardwareConcurrency ?? 1, MOST_THREADS);
  const { variant, fallbacks } = chooseVariant(wanted);
  if (variant === undefined) {
    throw new BitNetError("unavailable", "this browser has no WebAssembly with SIMD: one of 2023 or later has, unless it is locked down");
  }
  const whyNot = options.variant === "threads" ? whyNoThreads() : undefined;
  if (whyNot !== undefined) {
    throw new BitNetError("unavailable", `threads were asked for, but ${whyNot}`);
  }
  const chosen = options.variant ?? variant;
  const cpu: Place = { variant: chosen, threads: chosen === "threads" ? wanted : 1 };
  if (device === "wasm" || (device === "auto" && options.variant !== undefined)) {
    return { best: cpu, fallbacks };
  }
  const gpu: Place = { variant: "webgpu", threads: 1 };
  if (device === "webgpu") {
    const why = await whyNoGpu(softwareGpu);
    if (why !== undefined) {
      throw new BitNetError("no-webgpu", `WebGPU was asked for, but ${why}`);
    }
    // What is not available on the processor does not matter.
    return { best: gpu, fallbacks: [] };
  }
  const small = size !== undefined && size < GPU_FROM;
  const why = small ? "so small a model is faster on the processor" : await whyNoGpu(softwareGpu);
  return why === undefined
    ? { best: gpu, otherwise: cpu, fallbacks }
    : { best: cpu, fallbacks: [{ wanted: "webgpu", used: "wasm", reason: why }, ...fallbacks] };
}
