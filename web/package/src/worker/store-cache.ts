// Downloads in the Cache API, for browsers without a private file system: a note and segments, each a response of its own under an
// address that nobody serves.

import { type Described, DOWNLOADS, type Entry, type Note } from "./store.js";

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
          throw new DOMException("another page is using this download", "NoModificationAllowedError");
        }
        return new Promise<void>((release) => resolve(release));
      })
      .catch(reject);
  });
}

/** Opens what is kept of `url` under `key`, or room for it. */
export async function openCacheEntry(url: string, key: string): Promise<Entry> {
  const cache = await openCache(DOWNLOADS);
  const release = await lock(key);
  try {
    const entry = new CacheEntry(cache, key, release, (await readJson<Note>(cache, addressOf(key, "note"))) ?? { url, complete: false, used: 0 });
    await entry.touch();
    return entry;
  } catch (error) {
    release();
    throw error;
  }
}

class CacheEntry implements Entry {
  readonly #cache: Cache;
  readonly #key: string;
  readonly #release: () => void;
  #note: Note;
  /** Bytes behind the last whole segment. */
  readonly #rest = new Uint8Array(SEGMENT);
  #filled = 0;

  constructor(cache: Cache, key: string, release: () => void, note: Note) {
    this.#cache = cache;
    this.#key = key;
    this.#release = release;
    this.#note = note;
    // As for files: a rest can only be asked for if the server can tell whether it is of the same file.
    if (!note.complete && note.version === undefined) {
      this.#note = { ...note, stored: 0 };
    }
  }

  get complete(): boolean {
    return this.#note.complete;
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
  touch(): Promise<void> {
    return this.#write({ used: Date.now() });
  }

  async *chunks(end: number): AsyncIterable<Uint8Array> {
    for (let at = 0; at < end; ) {
      const response = await this.#cache.match(addressOf(this.#key, at / SEGMENT));
      const bytes = new Uint8Array((await response?.arrayBuffer()) ?? new ArrayBuffer(0));
      if (bytes.length < Math.min(SEGMENT, end - at)) {
        throw new Error(`the cache lost bytes ${at + bytes.length} to ${end} of ${this.#note.url}`);
      }
      yield bytes.subarray(0, end - at);
      at += bytes.length;
    }
  }

  async begin(kept: number, described: Described): Promise<void> {
    if (kept === 0) {
      await this.#empty();
    }
    await this.#write({ ...described, complete: false });
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

  async finish(size: number): Promise<void> {
    if (this.#filled > 0) {
      await this.#store();
    }
    await this.#write({ size, complete: true });
  }

  async discard(): Promise<void> {
    await this.#empty();
    await this.#write({ complete: false });
  }

  close(): void {
    this.#release();
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
