// How a file comes into the core's memory: chunk by chunk, straight to where it stays.

import type { Landing } from "../../wasm/simd128/bitnet.js";
import { aborted, BitNetError } from "../errors.js";
import type { Fallback } from "../features.js";
import type { LoadRequest } from "../protocol.js";
import type { Core } from "./core.js";
import { download } from "./download.js";
import { bytesOf } from "./stream.js";
import type { Caller } from "./worker.js";


/** Chunks, and the file's size where it is known. */
export interface Incoming {
  size: number | undefined;
  chunks: AsyncIterable<Uint8Array>;
  /** Whether it comes from the cache. */
  cached: boolean;
}

/** The least time between two reports of progress, in milliseconds. */
const BETWEEN_REPORTS = 50;

async function incoming(request: LoadRequest, caller: Caller, fallbacks: Fallback[]): Promise<Incoming> {
  const { source } = request;
  switch (source.kind) {
    case "url":
      return download(source.url, { cache: request.cache, signal: caller.signal, fallbacks });
    case "blob":
      return { size: source.blob.size, chunks: bytesOf(source.blob.stream()), cached: false };
    case "fed":
      return { size: source.size, chunks: pulled(caller), cached: false };
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

/** Brings the file in, checking its hash if one is known. */
export async function deliver(
  core: Core,
  request: LoadRequest,
  caller: Caller,
  fallbacks: Fallback[],
): Promise<{ landing: Landing; cached: boolean }> {
  const { size, chunks, cached } = await incoming(request, caller, fallbacks);
  const landing = new core.Landing(request.source.name, size, true);
  const hasher = request.sha256 === undefined ? undefined : new core.Hasher();
  let reported = -Infinity;
  const report = () => {
    caller.tell({ kind: "progress", id: caller.id, phase: "download", done: landing.length, total: size });
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
  return { landing, cached };
}
