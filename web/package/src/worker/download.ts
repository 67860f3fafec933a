// A file from a URL: kept in the browser, and continued where a break left it.
//
// Every chunk goes to the core and, while there is room, to the cache. A connection that breaks is tried again from the
// byte it reached; so is a download that an earlier page did not finish. Whether the rest is of the same file is told by the answer:
// the header If-Range would have browsers ask servers of other origins for permission, which most do not answer. Those also hide
// what they do not name in Access-Control-Expose-Headers, so that a version or a size may be unknown.

import { aborted, BitNetError, said } from "../errors.js";
import type { Fallback } from "../features.js";
import type { CachePolicy } from "../protocol.js";
import type { Incoming } from "./delivery.js";
import { type Described, type Entry, isWhole, openEntry } from "./store.js";
import { bytesOf } from "./stream.js";

/** How often a download without progress is tried again, and the first wait in milliseconds, doubled each time. */
const [TRIES, FIRST_WAIT] = [4, 250];

interface Options {
  cache: CachePolicy;
  /** A name that the file has at each of its addresses. */
  label: string | undefined;
  /** What goes with every request. */
  headers: Record<string, string> | undefined;
  signal: AbortSignal;
  fallbacks: Fallback[];
}

/** Opens `url`, or what the cache has of it; `anew` passes over all caches. */
export async function download(url: string, options: Options, anew: boolean): Promise<Incoming> {
  const entry = await entryFor(url, options);
  try {
    return await opened(url, entry, options, anew);
  } catch (error) {
    await entry?.close();
    throw error;
  }
}

async function opened(url: string, entry: Entry | undefined, options: Options, anew: boolean): Promise<Incoming> {
  const { signal } = options;
  let start = anew ? 0 : (entry?.length ?? 0);
  if (entry !== undefined && isWhole(entry, start)) {
    if (options.cache !== "revalidate" || (await isCurrent(url, entry, options))) {
      return new Kept(entry);
    }
    [start, anew] = [0, true];
  }
  let response = await request(url, start, anew, options).catch((error: unknown) => {
    // A browser may have asked for permission to ask for a part, and the server may not have answered that.
    if (start === 0 || signal.aborted) {
      throw error;
    }
    start = 0;
    return request(url, 0, anew, options);
  });
  if (start > 0 && (response.status === 416 || (entry !== undefined && differs(describe(response, start), entry)))) {
    await response.body?.cancel();
    start = 0;
    response = await request(url, 0, true, options);
  }
  return new Download(url, response, entry, response.status === 206 ? start : 0, options);
}

async function entryFor(url: string, { cache, label, fallbacks }: Options): Promise<Entry | undefined> {
  if (cache === false) {
    return undefined;
  }
  try {
    return await openEntry(url, label, (reason) => {
      fallbacks.push({ wanted: "private file system", used: "Cache API", reason });
    });
  } catch (cause) {
    return withoutCache(cause, cache, fallbacks);
  }
}

/** Goes on without the cache, if that is allowed, and says so. */
function withoutCache(cause: unknown, cache: CachePolicy, fallbacks: Fallback[]): undefined {
  const full = cause instanceof Error && cause.name === "QuotaExceededError";
  if (cache === true) {
    throw new BitNetError(full ? "quota" : "unavailable", `the download cannot be kept: ${said(cause)}`, { cause });
  }
  fallbacks.push({ wanted: "cache", used: "memory only", reason: full ? `the browser grants no more storage: ${said(cause)}` : said(cause) });
  return undefined;
}

/** A file that is there already. */
class Kept implements Incoming {
  readonly exact = true;
  readonly cached = true;
  readonly suspect = true;
  readonly size: number;
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly #entry: Entry;

  constructor(entry: Entry) {
    this.#entry = entry;
    this.size = entry.length;
    this.chunks = entry.chunks(this.size);
  }

  async keep(): Promise<void> {
    if (!this.#entry.complete) {
      await this.#entry.finish();
    }
  }

  async discard(): Promise<void> {
    // Another page may be writing it.
    await this.#entry.discard().catch(() => undefined);
  }

  close(): Promise<void> {
    return this.#entry.close();
  }
}

/** A file that comes from its server, the first bytes perhaps from the cache. */
class Download implements Incoming {
  readonly cached = false;
  readonly exact: boolean;
  readonly size: number | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly #url: string;
  readonly #described: Described;
  readonly #options: Options;
  #entry: Entry | undefined;
  /** Answers whose bytes were put together, that of the cache included. */
  #parts = 1;

  constructor(url: string, response: Response, entry: Entry | undefined, kept: number, options: Options) {
    this.#url = url;
    this.#options = options;
    this.#entry = entry;
    const { size, version } = describe(response, kept);
    this.size = size;
    // Servers of other origins do not say whether they compressed an answer; a part never is.
    this.exact = response.type !== "cors" || response.status === 206;
    this.#described = { size: this.exact ? size : undefined, version };
    this.chunks = this.#fetched(response, kept);
  }

  get suspect(): boolean {
    return this.#parts > 1;
  }

  async keep(): Promise<void> {
    await this.#stored((entry) => entry.finish());
  }

  async discard(): Promise<void> {
    await this.#entry?.discard().catch(() => undefined);
  }

  async close(): Promise<void> {
    await this.#entry?.close();
  }

  /** Does `work` with the cache; if that fails, the download goes on without. */
  async #stored(work: (entry: Entry) => Promise<void>): Promise<void> {
    const entry = this.#entry;
    if (entry === undefined) {
      return;
    }
    try {
      await work(entry);
    } catch (cause) {
      this.#entry = undefined;
      await entry.discard().catch(() => undefined);
      await entry.close().catch(() => undefined);
      withoutCache(cause, this.#options.cache, this.#options.fallbacks);
    }
  }

  async *#fetched(response: Response, kept: number): AsyncIterable<Uint8Array> {
    let at = 0;
    if (kept > 0 && this.#entry !== undefined) {
      this.#parts += 1;
      for await (const chunk of this.#entry.chunks(kept)) {
        at += chunk.length;
        yield chunk;
      }
    }
    await this.#stored((entry) => entry.begin(kept, this.#described));
    for (let next: Response | undefined = response, failures = 0; next !== undefined; ) {
      // Bytes that are there already, where the server does not continue.
      let skip = next.status === 206 ? 0 : at;
      try {
        for await (const whole of bodyOf(next)) {
          const chunk = whole.subarray(Math.min(skip, whole.length));
          skip -= whole.length - chunk.length;
          if (chunk.length === 0) {
            continue;
          }
          await this.#stored((entry) => entry.append(chunk));
          at += chunk.length;
          failures = 0;
          yield chunk;
        }
        const { size } = this.#described;
        if (size === undefined || at >= size) {
          break;
        }
        throw new BitNetError("network", `${this.#url}: the connection ended after ${at} of ${size} bytes`);
      } catch (error) {
        if (this.#options.signal.aborted) {
          throw aborted(this.#options.signal);
        }
        // A server's no, a cache that must not fail, a file that changed: trying again changes nothing.
        if (error instanceof BitNetError && error.code !== "network") {
          throw error;
        }
        this.#parts += 1;
        failures += 1;
        next = await this.#again(at, failures, error);
      }
    }
    await this.#stored((entry) => entry.end(at));
  }

  /** Asks for the rest from byte `at`, waiting longer each time. Nothing if there is no rest. */
  async #again(at: number, failures: number, cause: unknown): Promise<Response | undefined> {
    const { signal } = this.#options;
    for (let tries = failures; tries <= TRIES; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT * 2 ** (tries - 1)));
      if (signal.aborted) {
        throw aborted(signal);
      }
      // Every other time for all of it: see `opened`.
      const start = tries % 2 === 1 ? at : 0;
      let response: Response;
      try {
        response = await request(this.#url, start, false, this.#options);
      } catch (error) {
        if (signal.aborted) {
          throw aborted(signal);
        }
        cause = error;
        continue;
      }
      if (response.status === 416) {
        return undefined;
      }
      if (differs(describe(response, start), this.#described)) {
        await response.body?.cancel();
        throw new BitNetError("bad-file", `${this.#url}: the file changed while it was downloaded`);
      }
      return response;
    }
    throw new BitNetError("network", `${this.#url}: gave up after ${at} bytes: ${said(cause)}`, { cause });
  }
}

/** Asks for the bytes from `start`; `anew` passes over the browser's own cache. The answer may be that there are none (416). */
async function request(url: string, start: number, anew: boolean, { headers: given, signal }: Options): Promise<Response> {
  const headers = { ...given, ...(start > 0 ? { Range: `bytes=${start}-` } : {}) };
  let response: Response;
  try {
    response = await fetch(url, { headers, signal, cache: anew ? "reload" : "default" });
  } catch (cause) {
    if (signal.aborted) {
      throw aborted(signal);
    }
    throw new BitNetError("network", `${url}: ${said(cause)} (is the address right, and does its server allow this page to read it?)`, { cause });
  }
  if (!response.ok && !(response.status === 416 && start > 0)) {
    const advice = response.status === 401 || response.status === 403 ? " (a file that is gated needs the option headers, with an Authorization that may read it)" : "";
    throw new BitNetError("network", `${url}: the server said ${response.status} ${response.statusText}`.trim() + advice);
  }
  return response;
}

/** Whether the server still has what is kept; also where it cannot be asked, which is then said. */
async function isCurrent(url: string, kept: Described, { headers, signal, fallbacks }: Options): Promise<boolean> {
  let reason: string;
  try {
    const response = await fetch(url, { method: "HEAD", headers: headers ?? {}, cache: "no-cache", signal });
    if (response.ok) {
      return !differs(describe(response, 0), kept);
    }
    reason = `the server said ${response.status} ${response.statusText}`.trim();
  } catch (error) {
    if (signal.aborted) {
      throw aborted(signal);
    }
    reason = said(error);
  }
  fallbacks.push({ wanted: "revalidation", used: "the kept file", reason });
  return true;
}

/** What an answer says of its file, of which it has the bytes from `start`. */
function describe({ headers, status }: Response, start: number): Described {
  const whole = /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  // The length of a compressed answer is not that of the file.
  const length = headers.get("content-encoding") === null ? headers.get("content-length") : null;
  const rest = length === null ? undefined : Number(length);
  const part = status === 206;
  const size = part && whole !== undefined ? Number(whole) : rest === undefined ? undefined : rest + (part ? start : 0);
  const etag = headers.get("etag");
  // A weak tag does not promise equal bytes.
  const version = etag?.startsWith("W/") === false ? etag : (headers.get("last-modified") ?? undefined);
  return { size, version };
}

/** Whether these are two files, as far as one can tell. */
function differs(a: Described, b: Described): boolean {
  const isTag = (version: string) => version.startsWith('"');
  if (a.version !== undefined && b.version !== undefined && isTag(a.version) === isTag(b.version)) {
    return a.version !== b.version;
  }
  return a.size !== undefined && b.size !== undefined && a.size !== b.size;
}

async function* bodyOf(response: Response): AsyncIterable<Uint8Array> {
  if (response.body !== null) {
    yield* bytesOf(response.body);
  }
}
