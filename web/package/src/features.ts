// What this browser can run, asked of the browser: modules of a few bytes that use the instruction in question.

import { BitNetError, said } from "./errors.js";

/** The builds of the WebAssembly core. */
export const VARIANTS = ["simd128", "relaxed", "threads", "webgpu"] as const;

/** A build of the WebAssembly core. */
export type Variant = (typeof VARIANTS)[number];

/** Something that was not available, and what was done instead. */
export interface Fallback {
  /** What would have been used: `webgpu`, `threads`, `relaxed-simd`, `private file system`, `cache`. */
  wanted: string;
  /** What is used in its place. */
  used: string;
  /** Why. */
  reason: string;
}

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const ONE_FUNCTION = [0x03, 0x02, 0x01, 0x00];
const RETURNS_V128 = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b];
const RETURNS_I32 = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f];
const RETURNS_NOTHING = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00];

/** A module with one function without locals, whose body is `instructions`. */
function moduleOf(type: number[], sections: number[], instructions: number[], exports: number[] = []): Uint8Array<ArrayBuffer> {
  const body = [0x00, ...instructions, 0x0b];
  const code = [0x01, body.length, ...body];
  return new Uint8Array([...HEADER, ...type, ...ONE_FUNCTION, ...sections, ...exports, 0x0a, code.length, ...code]);
}

/** i32.const `value`, i8x16.splat */
const splat = (value: number) => [0x41, value, 0xfd, 0x0f];

/** `f() -> i32`: the first lane of i32x4.relaxed_dot_i8x16_i7x16_add_s(ones, ones, zeros), which is 4. */
const RELAXED_DOT = moduleOf(
  RETURNS_I32,
  [],
  [...splat(1), ...splat(1), ...splat(0), 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0x00],
  [0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00],
);

/** Whether 128-bit vectors can be used: a browser that is locked down may have no WebAssembly at all. */
export function hasSimd(): boolean {
  return typeof WebAssembly !== "undefined" && WebAssembly.validate(moduleOf(RETURNS_V128, [], splat(0)));
}

/**
 * Whether relaxed dot products can be used. They must also be right: one engine's first compiler (V8's Liftoff of 2023)
 * doubled their sums.
 *
 * @throws {BitNetError} `unavailable` if the page does not allow WebAssembly.
 */
export function hasRelaxedSimd(): "yes" | "no" | "wrong" {
  if (!WebAssembly.validate(RELAXED_DOT)) {
    return "no";
  }
  let module: WebAssembly.Module;
  try {
    module = new WebAssembly.Module(RELAXED_DOT);
  } catch (cause) {
    // Valid, and yet refused.
    const advice = "the page's Content-Security-Policy must have 'wasm-unsafe-eval' in script-src";
    throw new BitNetError("unavailable", `WebAssembly is not allowed here: ${advice} (${said(cause)})`, { cause });
  }
  const { exports } = new WebAssembly.Instance(module);
  return (exports["f"] as () => number)() === 4 ? "yes" : "wrong";
}

/** Why threads cannot be used; `undefined` if they can. */
export function whyNoThreads(): string | undefined {
  if (typeof SharedArrayBuffer === "undefined" || !globalThis.crossOriginIsolated) {
    return "the page is not cross-origin isolated (it needs the headers COOP: same-origin and COEP: require-corp)";
  }
  const atomics = moduleOf(RETURNS_NOTHING, [0x05, 0x04, 0x01, 0x03, 0x01, 0x01], [0xfe, 0x03, 0x00]);
  return WebAssembly.validate(atomics) ? undefined : "this browser's WebAssembly has no shared memory";
}

/** Why WebGPU cannot be used; `undefined` if it can. Software on the processor will do only if `software`. */
export async function whyNoGpu(software: boolean): Promise<string | undefined> {
  // There in every browser, as far as TypeScript knows.
  const gpu = globalThis.navigator?.gpu as GPU | undefined;
  if (gpu === undefined) {
    return globalThis.isSecureContext === false ? "WebGPU needs a secure page (https)" : "this browser has no WebGPU";
  }
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null) {
      return "this browser has WebGPU, but no graphics card that it would use for it";
    }
    if (!software && adapter.info.isFallbackAdapter) {
      return "there is no graphics card, only software in its place (softwareGpu: true uses it)";
    }
    return undefined;
  } catch (error) {
    return `this browser's WebGPU does not answer: ${said(error)}`;
  }
}

/** The build for CPUs to use for `threads` threads, and what had to be done without. No SIMD at all is `undefined`. */
export function chooseVariant(threads: number): { variant: Variant | undefined; fallbacks: Fallback[] } {
  const fallbacks: Fallback[] = [];
  if (!hasSimd()) {
    return { variant: undefined, fallbacks };
  }
  const relaxed = hasRelaxedSimd();
  const whyOne = threads > 1 ? whyNoThreads() : undefined;
  if (relaxed !== "yes") {
    const reason =
      relaxed === "wrong"
        ? "this browser computes relaxed dot products wrongly"
        : "this browser's WebAssembly has no relaxed SIMD";
    fallbacks.push({ wanted: "relaxed-simd", used: "simd128", reason });
    if (threads > 1) {
      fallbacks.push({ wanted: "threads", used: "one thread", reason: whyOne ?? `${reason}, which the build with threads needs` });
    }
    return { variant: "simd128", fallbacks };
  }
  if (threads > 1 && whyOne !== undefined) {
    fallbacks.push({ wanted: "threads", used: "one thread", reason: whyOne });
  }
  return { variant: threads > 1 && whyOne === undefined ? "threads" : "relaxed", fallbacks };
}
