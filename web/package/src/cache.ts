// The downloads that are kept, as the page sees them.

import { folder, keyOf, type Note } from "./worker/store.js";

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

/** Lists, removes and protects the downloads that this origin keeps. */
export const modelCache = {
  /** Every download, the last used first. */
  async list(): Promise<CachedModel[]> {
    const home = await folder();
    const found: CachedModel[] = [];
    for await (const [name, handle] of home as unknown as AsyncIterable<[string, FileSystemHandle]>) {
      if (!name.endsWith(".json") || handle.kind !== "file") {
        continue;
      }
      try {
        const note = JSON.parse(await (await (handle as FileSystemFileHandle).getFile()).text()) as Note;
        const bytes = await home.getFileHandle(name.replace(/json$/, "bin"));
        const { size } = await bytes.getFile();
        found.push({ url: note.url, bytes: size, complete: note.complete && size === note.size, used: new Date(note.used) });
      } catch {
        // Being written by another page, or cut off: nothing that could be listed.
      }
    }
    return found.sort((a, b) => b.used.getTime() - a.used.getTime());
  },

  /** Removes the download of `url`; `false` if there was none. */
  async remove(url: string): Promise<boolean> {
    const [home, key] = [await folder(), await keyOf(url)];
    let removed = false;
    for (const name of [`${key}.bin`, `${key}.json`]) {
      try {
        await home.removeEntry(name);
        removed = true;
      } catch (error) {
        if (!(error instanceof DOMException && error.name === "NotFoundError")) {
          throw error;
        }
      }
    }
    return removed;
  },

  /** Asks the browser not to clear this origin's storage when space is short; whether it agreed. */
  async persist(): Promise<boolean> {
    return (await navigator.storage?.persist?.()) ?? false;
  },
};
