// Downloads in the Cache API, for browsers without a private file system: a note and segments, each a response of its own under an
// address that nobody serves.

import { BitNetError } from "../errors.js";
import { type Described, DOWNLOADS, type Entry, keyOf, type Note, STALE, usable } from "./store.js";

/** Bytes of a segment: what a broken download may lose. */
const SEGMENT = 4 << 20;

/** A cache of the origin's own. */
export async function openCache(name: string): Promise<Cache> {
  if (globalThis.caches === undefined) {
    throw new Error("this browser has no Cache API here (it needs a secure page)");
  }
  return caches.open(name);
}

/** The address of a part of what is kept under `key`. */
export function addressOf(key: string, part: string | number): string {
  return new URL(`/.bitnet-web/${key}/${part}`, globalThis.location.origin).href;
}

/** What is kept as JSON at `address`. */
export async function readJson<T>(cache: Cache, address: string): Promise<T | undefined> {
  try {
    return (await (await cache.match(address))?.json()) as T | undefined;
  } catch {
    // Cut off: as if there were nothing.
    return undefined;
  }
}

/** Keeps `value` as JSON at `address`. */
export function writeJson(cache: Cache, address: string, value: unknown): Promise<void> {
  return cache.put(address, new Response(JSON.stringify(value), { headers: { "content-type": "application/json" } }));
}

/** All notes in a cache. */
export async function* cachedNotes<T>(cache: Cache): AsyncIterable<T> {
  for (const { url } of await cache.keys()) {
    const note = url.endsWith("/note") ? await readJson<T>(cache, url) : undefined;
    if (note !== undefined) {
      yield note;
    }
  }
}

/** Removes everything under `key`; `false` if there was nothing. */
export async function removeCached(cache: Cache, key: string): Promise<boolean> {
  const inside = addressOf(key, "");
  const keys = (await cache.keys()).filter(({ url }) => url.startsWith(inside));
  await Promise.all(keys.map((request) => cache.delete(request)));
  return keys.length > 0;
}

/** Keeps others out; the function lets them in again. Browsers without locks are those with one page at a time, as far as we care. */
async function lock(key: string): Promise<() => void> {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined) {
    return () => undefined;
  }
  return new Promise((resolve, reject) => {
    locks
      .request(`${DOWNLOADS} ${key}`, { ifAvailable: true }, (granted) => {
        if (granted === null) {
          throw new DOMException("another page is writing this download", "NoModificationAllowedError");
        }
        return new Promise<void>((release) => resolve(release));
      })
      .catch(reject);
  });
}

/** Opens what is kept under `key`, or room for it; `none` is the note where there is nothing. */
export async function openCacheEntry(key: string, none: Note): Promise<Entry> {
  const cache = await openCache(DOWNLOADS);
  const address = addressOf(key, "note");
  const note = await readJson<Note>(cache, address);
  if (note === undefined || note.complete) {
    const entry = new CacheEntry(cache, key, note ?? none);
    await entry.touch();
    return entry;
  }
  const release = await lock(key);
  try {
    // What another page has written meanwhile counts.
    return new CacheEntry(cache, key, (await readJson<Note>(cache, address)) ?? none, release);
  } catch (error) {
    release();
    throw error;
  }
}

class CacheEntry implements Entry {
  readonly #cache: Cache;
  readonly #key: string;
  /** While nobody else may write. */
  #release: (() => void) | undefined;
  #note: Note;
  /** Bytes behind the last whole segment. */
  #rest = new Uint8Array(0);
  #filled = 0;

  constructor(cache: Cache, key: string, note: Note, release?: () => void) {
    this.#cache = cache;
    this.#key = key;
    this.#release = release;
    this.#note = { ...note, stored: usable(note, note.stored ?? 0) };
  }

  get complete(): boolean {
    return this.#note.complete;
  }

  get size(): number | undefined {
    return this.#note.size;
  }

  get version(): string | undefined {
    return this.#note.version;
  }

  get length(): number {
    return this.#stored + this.#filled;
  }

  get #stored(): number {
    return this.#note.stored ?? 0;
  }

  /** Notes that it was asked for. */
  async touch(): Promise<void> {
    if (this.complete && Date.now() - this.#note.used > STALE) {
      await this.#write({ used: Date.now() });
    }
  }

  async *chunks(end: number): AsyncIterable<Uint8Array> {
    for (let at = 0; at < end; ) {
      const response = await this.#cache.match(addressOf(this.#key, at / SEGMENT));
      const bytes = new Uint8Array((await response?.arrayBuffer()) ?? new ArrayBuffer(0));
      if (bytes.length < Math.min(SEGMENT, end - at)) {
        throw new BitNetError("bad-file", `the cache lost bytes ${at + bytes.length} to ${end} of ${this.#note.url}`);
      }
      yield bytes.subarray(0, end - at);
      at += bytes.length;
    }
  }

  async begin(kept: number, described: Described): Promise<void> {
    this.#release ??= await lock(this.#key);
    this.#rest = new Uint8Array(SEGMENT);
    if (kept === 0) {
      await this.#empty();
    }
    await this.#write({ ...described, complete: false, used: Date.now() });
  }

  async append(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const piece = chunk.subarray(at, at + SEGMENT - this.#filled);
      this.#rest.set(piece, this.#filled);
      this.#filled += piece.length;
      at += piece.length;
      if (this.#filled === SEGMENT) {
        await this.#store();
      }
    }
  }

  async end(size: number): Promise<void> {
    if (this.#filled > 0) {
      await this.#store();
    }
    await this.#write({ size });
  }

  async finish(): Promise<void> {
    await this.#write({ complete: true });
    const { label, url: own } = this.#note;
    if (label !== undefined) {
      for await (const { label: other, url } of cachedNotes<Note>(this.#cache)) {
        if (other === label && url !== own) {
          await removeCached(this.#cache, await keyOf(url));
        }
      }
    }
  }

  async discard(): Promise<void> {
    // Not what another page is writing.
    if (this.#release !== undefined || this.complete) {
      await this.#empty();
    }
  }

  async close(): Promise<void> {
    const release = this.#release;
    if (release === undefined) {
      return;
    }
    this.#release = undefined;
    try {
      if (usable(this.#note, this.#stored) === 0) {
        await this.#empty();
      }
    } finally {
      release();
    }
  }

  /** Keeps the segment that was collected. */
  async #store(): Promise<void> {
    const bytes = this.#rest.slice(0, this.#filled);
    await this.#cache.put(addressOf(this.#key, Math.floor(this.#stored / SEGMENT)), new Response(bytes));
    this.#filled = 0;
    await this.#write({ stored: this.#stored + bytes.length });
  }

  async #empty(): Promise<void> {
    await removeCached(this.#cache, this.#key);
    this.#filled = 0;
    this.#note = { ...this.#note, stored: 0 };
  }

  #write(change: Partial<Note>): Promise<void> {
    this.#note = { ...this.#note, ...change };
    return writeJson(this.#cache, addressOf(this.#key, "note"), this.#note);
  }
}
