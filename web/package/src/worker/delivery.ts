// How a file comes into the core's memory: chunk by chunk, straight to where it stays.

import type { Landing } from "../../wasm/simd128/bitnet.js";
import { aborted, BitNetError, failureOf } from "../errors.js";
import type { Fallback } from "../features.js";
import type { LoadRequest } from "../protocol.js";
import type { Core } from "./core.js";
import { download } from "./download.js";
import { bytesOf } from "./stream.js";
import type { Caller } from "./worker.js";

/** Chunks, and the file's size where it is known. */
export interface Incoming {
  readonly size: number | undefined;
  /** Whether the file has just this size. */
  readonly exact: boolean;
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Whether it comes from the cache. */
  readonly cached: boolean;
  /** Whether its bytes come from the cache or were put together, so that another attempt may give others. */
  readonly suspect: boolean;
  /** Keeps the file, which proved to be a model. */
  keep?(): Promise<void>;
  /** Keeps nothing of the file. */
  discard?(): Promise<void>;
  /** Lets others have what is kept of the file. */
  close?(): Promise<void>;
}

/** The least time between two reports of progress, in milliseconds. */
const BETWEEN_REPORTS = 50;

async function incoming(request: LoadRequest, caller: Caller, fallbacks: Fallback[], anew: boolean): Promise<Incoming> {
  const { source } = request;
  const once = { exact: true, cached: false, suspect: false };
  switch (source.kind) {
    case "url":
      return download(source.url, { cache: request.cache, label: source.label, headers: source.headers, signal: caller.signal, fallbacks }, anew);
    case "blob":
      return { ...once, size: source.blob.size, chunks: bytesOf(source.blob.stream()) };
    case "fed":
      return { ...once, size: source.size, chunks: pulled(caller) };
  }
}

async function* pulled(caller: Caller): AsyncIterable<Uint8Array> {
  for (;;) {
    const piece = await caller.pull();
    if (piece === null) {
      return;
    }
    yield piece;
  }
}

/**
 * Brings the file in and has it opened by `open`. Only then it is kept; one that is no model is not, and what is kept of such a one is
 * fetched anew.
 */
export async function deliver<T>(
  core: Core,
  request: LoadRequest,
  caller: Caller,
  fallbacks: Fallback[],
  open: (landing: Landing) => Promise<T>,
): Promise<{ opened: T; cached: boolean }> {
  for (let anew = false; ; anew = true) {
    const file = await incoming(request, caller, fallbacks, anew);
    try {
      const opened = await open(await landed(core, request, caller, file));
      await file.keep?.();
      return { opened, cached: file.cached };
    } catch (error) {
      const { code } = failureOf(error);
      if (code === "bad-file" || code === "unsupported") {
        await file.discard?.();
      }
      if (code !== "bad-file" || anew || !file.suspect || caller.signal.aborted) {
        throw error;
      }
    } finally {
      await file.close?.();
    }
  }
}

/** Takes the bytes of the file, checking its hash if one is known. */
async function landed(core: Core, request: LoadRequest, caller: Caller, { size, exact, chunks }: Incoming): Promise<Landing> {
  const landing = new core.Landing(request.source.name, size, exact);
  try {
    const hasher = request.sha256 === undefined ? undefined : new core.Hasher();
    let reported = -Infinity;
    const report = () => {
      const total = size !== undefined && landing.length > size ? undefined : size;
      caller.tell({ kind: "progress", id: caller.id, phase: "download", done: landing.length, total });
      reported = performance.now();
    };
    for await (const chunk of chunks) {
      if (caller.signal.aborted) {
        throw aborted(caller.signal);
      }
      landing.push(chunk);
      hasher?.update(chunk);
      if (performance.now() - reported >= BETWEEN_REPORTS) {
        report();
      }
    }
    report();
    const found = hasher?.finish();
    if (found !== undefined && found !== request.sha256?.toLowerCase()) {
      throw new BitNetError("bad-file", `${request.source.name}: expected SHA-256 ${request.sha256}, found ${found}`);
    }
    return landing;
  } catch (error) {
    landing.free();
    throw error;
  }
}
