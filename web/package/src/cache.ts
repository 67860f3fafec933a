// The downloads that are kept, as the page sees them.

import { BitNetError, said, withCode } from "./errors.js";
import { cachedNotes, openCache, removeCached } from "./worker/store-cache.js";
import { folder, notes, removeFile } from "./worker/store-files.js";
import { DOWNLOADS, keyOf, type Note } from "./worker/store.js";

/** A download that is kept. */
export interface CachedModel {
  url: string;
  /** Bytes that are there. */
  bytes: number;
  /** Whether these are all. */
  complete: boolean;
  /** When it was last loaded. */
  used: Date;
}

/** What is found in each kind of storage that this browser has. */
export async function fromEach<T>(
  name: string,
  inFiles: (home: FileSystemDirectoryHandle) => Promise<T>,
  inCache: (cache: Cache) => Promise<T>,
): Promise<T[]> {
  const [files, cache] = await Promise.allSettled([folder(name), openCache(name)]);
  const found: T[] = [];
  if (files.status === "fulfilled") {
    found.push(await inFiles(files.value));
  }
  if (cache.status === "fulfilled") {
    found.push(await inCache(cache.value));
  }
  if (files.status === "rejected" && cache.status === "rejected") {
    throw new BitNetError("unavailable", `nothing can be kept here: ${said(files.reason)}; ${said(cache.reason)}`);
  }
  return found;
}

function described(note: Note, bytes: number): CachedModel {
  return { url: note.url, bytes, complete: note.complete && bytes === note.size, used: new Date(note.used) };
}

async function downloadsIn(home: FileSystemDirectoryHandle): Promise<CachedModel[]> {
  const found: CachedModel[] = [];
  for await (const [name, note] of notes<Note>(home)) {
    try {
      const { size } = await (await home.getFileHandle(name.replace(/json$/, "bin"))).getFile();
      found.push(described(note, size));
    } catch {
      // Removed meanwhile.
    }
  }
  return found;
}

async function downloadsCached(cache: Cache): Promise<CachedModel[]> {
  const found: CachedModel[] = [];
  for await (const note of cachedNotes<Note>(cache)) {
    found.push(described(note, note.stored ?? 0));
  }
  return found;
}

/** Lists, removes and protects the downloads that this origin keeps, wherever this browser keeps them. */
export const modelCache = {
  /** Every download, the last used first. */
  async list(): Promise<CachedModel[]> {
    const found = (await withCode(() => fromEach(DOWNLOADS, downloadsIn, downloadsCached))).flat();
    return found.sort((a, b) => b.used.getTime() - a.used.getTime());
  },

  /** Removes the download of `url`; `false` if there was none. */
  async remove(url: string): Promise<boolean> {
    return withCode(async () => {
      const key = await keyOf(url);
      const removed = await fromEach(
        DOWNLOADS,
        async (home) => {
          const bytes = await removeFile(home, `${key}.bin`);
          return (await removeFile(home, `${key}.json`)) || bytes;
        },
        (cache) => removeCached(cache, key),
      );
      return removed.includes(true);
    });
  },

  /** Asks the browser not to clear this origin's storage when space is short; whether it agreed. */
  async persist(): Promise<boolean> {
    return withCode(async () => (await globalThis.navigator?.storage?.persist?.()) ?? false);
  },
};
