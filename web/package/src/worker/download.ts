// A file from a URL: kept in the browser, and continued where a break left it.
//
// Every chunk goes to the core and, while there is room, to the cache. A connection that breaks is tried again from the
// byte it reached; so is a download that an earlier page did not finish.

import { aborted, BitNetError } from "../errors.js";
import type { Fallback } from "../features.js";
import type { CachePolicy } from "../protocol.js";
import { type Described, type Entry, openEntry } from "./store.js";
import { bytesOf } from "./stream.js";
import type { Incoming } from "./delivery.js";

/** How often a download without progress is tried again, and the first wait in milliseconds, doubled each time. */
const [TRIES, FIRST_WAIT] = [4, 250];

interface Options {
  cache: CachePolicy;
  signal: AbortSignal;
  fallbacks: Fallback[];
}

/** Opens `url`, or what the cache has of it. */
export async function download(url: string, options: Options): Promise<Incoming> {
  const entry = await entryFor(url, options);
  if (entry?.complete) {
    const size = entry.length;
    return { size, chunks: finishing(entry.chunks(size), entry), cached: true };
  }
  const start = entry?.length ?? 0;
  const response = await request(url, start, entry?.version, options.signal);
  const described = describe(response);
  const kept = response.status === 206 ? start : 0;
  return {
    size: described.size,
    chunks: fetched(url, response, described, entry, kept, options),
    cached: false,
  };
}

async function* finishing(chunks: AsyncIterable<Uint8Array>, entry: Entry): AsyncIterable<Uint8Array> {
  try {
    yield* chunks;
  } finally {
    entry.close();
  }
}

async function entryFor(url: string, { cache, fallbacks }: Options): Promise<Entry | undefined> {
  if (cache === false) {
    return undefined;
  }
  try {
    return await openEntry(url, (reason) => {
      fallbacks.push({ wanted: "private file system", used: "Cache API", reason });
    });
  } catch (cause) {
    return withoutCache(cause, cache, fallbacks);
  }
}

/** Goes on without the cache, if that is allowed, and says so. */
function withoutCache(cause: unknown, cache: CachePolicy, fallbacks: Fallback[]): undefined {
  const said = cause instanceof Error ? cause.message : String(cause);
  const full = cause instanceof Error && cause.name === "QuotaExceededError";
  if (cache === true) {
    throw new BitNetError(full ? "quota" : "unavailable", `the download cannot be kept: ${said}`, { cause });
  }
  fallbacks.push({ wanted: "cache", used: "memory only", reason: full ? `the browser grants no more storage: ${said}` : said });
  return undefined;
}

async function* fetched(
  url: string,
  first: Response,
  described: Described,
  entry: Entry | undefined,
  kept: number,
  options: Options,
): AsyncIterable<Uint8Array> {
  const { signal, cache, fallbacks } = options;
  let store = entry;
  try {
    let at = 0;
    if (store !== undefined) {
      if (kept > 0) {
        for await (const chunk of store.chunks(kept)) {
          at += chunk.length;
          yield chunk;
        }
      }
      await store.begin(kept, described);
    }
    let response = first;
    for (let failures = 0; ; ) {
      // Bytes that are there already, where the server does not continue.
      let skip = response.status === 206 ? 0 : at;
      try {
        for await (const whole of bodyOf(response)) {
          const chunk = whole.subarray(Math.min(skip, whole.length));
          skip -= whole.length - chunk.length;
          if (chunk.length === 0) {
            continue;
          }
          try {
            await store?.append(chunk);
          } catch (cause) {
            await store?.discard().catch(() => undefined);
            store?.close();
            store = withoutCache(cause, cache, fallbacks);
          }
          at += chunk.length;
          failures = 0;
          yield chunk;
        }
        if (described.size === undefined || at >= described.size) {
          break;
        }
        throw new BitNetError("network", `${url}: the connection ended after ${at} of ${described.size} bytes`);
      } catch (error) {
        if (signal.aborted) {
          throw aborted(signal);
        }
        // A server's no, a cache that must not fail, a file that changed: trying again changes nothing.
        if (error instanceof BitNetError && error.code !== "network") {
          throw error;
        }
        response = await again(url, at, described, ++failures, error, signal);
      }
    }
    try {
      await store?.finish(at);
    } catch (cause) {
      await store?.discard().catch(() => undefined);
      withoutCache(cause, cache, fallbacks);
    }
  } finally {
    store?.close();
  }
}

/** Asks for the rest from byte `at`, waiting longer each time. */
async function again(
  url: string,
  at: number,
  described: Described,
  failures: number,
  cause: unknown,
  signal: AbortSignal,
): Promise<Response> {
  for (let tries = failures; tries <= TRIES; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT * 2 ** (tries - 1)));
    if (signal.aborted) {
      throw aborted(signal);
    }
    let response: Response;
    try {
      response = await request(url, at, described.version, signal);
    } catch (error) {
      if (signal.aborted) {
        throw aborted(signal);
      }
      cause = error;
      continue;
    }
    const now = describe(response);
    if (now.version !== described.version || now.size !== described.size) {
      await response.body?.cancel();
      throw new BitNetError("bad-file", `${url}: the file changed while it was downloaded`);
    }
    return response;
  }
  const said = cause instanceof Error ? cause.message : String(cause);
  throw new BitNetError("network", `${url}: gave up after ${at} bytes: ${said}`, { cause });
}

async function request(url: string, start: number, version: string | undefined, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = {};
  if (start > 0) {
    headers["Range"] = `bytes=${start}-`;
    if (version !== undefined) {
      headers["If-Range"] = version;
    }
  }
  let response: Response;
  try {
    response = await fetch(url, { headers, signal });
  } catch (cause) {
    if (signal.aborted) {
      throw aborted(signal);
    }
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new BitNetError("network", `${url}: ${said} (is the address right, and does its server allow this page to read it?)`, { cause });
  }
  if (response.status === 416) {
    // Nothing behind `start`: begin anew.
    return request(url, 0, undefined, signal);
  }
  if (!response.ok) {
    throw new BitNetError("network", `${url}: the server said ${response.status} ${response.statusText}`.trim());
  }
  return response;
}

function describe(response: Response): Described {
  const { headers } = response;
  const whole = /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  // The length of a compressed answer is not that of the file.
  const length = headers.get("content-encoding") === null ? headers.get("content-length") : null;
  const size = response.status === 206 ? whole : length;
  const etag = headers.get("etag");
  // A weak tag does not promise equal bytes.
  const version = etag?.startsWith("W/") === false ? etag : (headers.get("last-modified") ?? undefined);
  return { size: size === null || size === undefined ? undefined : Number(size), version };
}

async function* bodyOf(response: Response): AsyncIterable<Uint8Array> {
  if (response.body !== null) {
    yield* bytesOf(response.body);
  }
}
