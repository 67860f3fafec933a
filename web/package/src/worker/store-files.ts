// Downloads in the origin private file system: two files for each URL, one of bytes and one with the note.

import { type Described, DOWNLOADS, type Entry, type Note } from "./store.js";

/** A read from the disk, in bytes. */
const CHUNK = 4 << 20;

/** What TypeScript's library has for Workers only: a file held open, read and written at once. */
export interface SyncAccessHandle {
  getSize(): number;
  truncate(size: number): void;
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** A folder of the origin's own, made where it is missing. */
export async function folder(name: string): Promise<FileSystemDirectoryHandle> {
  if (globalThis.navigator?.storage?.getDirectory === undefined) {
    throw new Error("this browser has no private file system here (it needs a secure page)");
  }
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(name, { create: true });
}

/** Opens a file, which is made where it is missing. Only in Workers. */
export async function openFile(home: FileSystemDirectoryHandle, name: string): Promise<SyncAccessHandle> {
  const handle = (await home.getFileHandle(name, { create: true })) as unknown as {
    createSyncAccessHandle?(): Promise<SyncAccessHandle>;
  };
  if (handle.createSyncAccessHandle === undefined) {
    throw new Error("this browser's private file system cannot be written from a Worker");
  }
  return handle.createSyncAccessHandle();
}

/** Writes all of `bytes`, or throws. */
export function writeAt(file: SyncAccessHandle, bytes: Uint8Array, at: number): void {
  // Chromium returns a number beyond all sense where the quota is reached.
  if (file.write(bytes, { at }) !== bytes.length) {
    throw new DOMException("the disk took only a part", "QuotaExceededError");
  }
}

/** Removes a file; `false` if there was none. */
export async function removeFile(home: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  try {
    await home.removeEntry(name);
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") {
      return false;
    }
    throw error;
  }
}

/** The notes in a folder, with their names; those that cannot be read are passed over. */
export async function* notes<T>(home: FileSystemDirectoryHandle): AsyncIterable<[string, T]> {
  for await (const [name, handle] of home as unknown as AsyncIterable<[string, FileSystemHandle]>) {
    if (!name.endsWith(".json") || handle.kind !== "file") {
      continue;
    }
    try {
      yield [name, JSON.parse(await (await (handle as FileSystemFileHandle).getFile()).text()) as T];
    } catch {
      // Being written by another page, or cut off: nothing that could be listed.
    }
  }
}

/** Opens what is kept of `url` under `key`, or room for it. */
export async function openFileEntry(url: string, key: string): Promise<Entry> {
  const home = await folder(DOWNLOADS);
  const bytes = await openFile(home, `${key}.bin`);
  try {
    const note = await openFile(home, `${key}.json`);
    return new FileEntry(readNote(note) ?? { url, complete: false, used: 0 }, bytes, note);
  } catch (error) {
    bytes.close();
    throw error;
  }
}

function readNote(file: SyncAccessHandle): Note | undefined {
  const buffer = new Uint8Array(file.getSize());
  file.read(buffer, { at: 0 });
  try {
    return JSON.parse(new TextDecoder().decode(buffer)) as Note;
  } catch {
    // Empty, or cut off by a crash: as if there were nothing.
    return undefined;
  }
}

class FileEntry implements Entry {
  #note: Note;
  readonly #bytes: SyncAccessHandle;
  readonly #notes: SyncAccessHandle;
  #at: number;
  #open = true;

  constructor(note: Note, bytes: SyncAccessHandle, notes: SyncAccessHandle) {
    this.#note = note;
    this.#bytes = bytes;
    this.#notes = notes;
    this.#at = bytes.getSize();
    if (note.complete && note.size !== this.#at) {
      this.#note = { ...note, complete: false };
    }
    // A rest can only be asked for if the server can tell whether it is of the same file.
    if (!this.#note.complete && note.version === undefined) {
      bytes.truncate(0);
      this.#at = 0;
    }
    this.#write({ used: Date.now() });
  }

  get complete(): boolean {
    return this.#note.complete;
  }

  get version(): string | undefined {
    return this.#note.version;
  }

  get length(): number {
    return this.#at;
  }

  async *chunks(end: number): AsyncIterable<Uint8Array> {
    const buffer = new Uint8Array(Math.min(CHUNK, end));
    for (let at = 0; at < end; ) {
      const count = this.#bytes.read(buffer.subarray(0, Math.min(CHUNK, end - at)), { at });
      if (count === 0) {
        throw new Error(`the cache lost bytes ${at} to ${end} of ${this.#note.url}`);
      }
      at += count;
      yield buffer.subarray(0, count);
    }
  }

  async begin(kept: number, described: Described): Promise<void> {
    this.#bytes.truncate(kept);
    this.#at = kept;
    this.#write({ ...described, complete: false });
  }

  async append(chunk: Uint8Array): Promise<void> {
    writeAt(this.#bytes, chunk, this.#at);
    this.#at += chunk.length;
  }

  async finish(size: number): Promise<void> {
    this.#bytes.flush();
    this.#write({ size, complete: true });
  }

  async discard(): Promise<void> {
    this.#bytes.truncate(0);
    this.#at = 0;
  }

  close(): void {
    if (this.#open) {
      this.#open = false;
      this.#bytes.close();
      this.#notes.close();
    }
  }

  #write(change: Partial<Note>): void {
    this.#note = { ...this.#note, ...change };
    const text = new TextEncoder().encode(JSON.stringify(this.#note));
    this.#notes.truncate(text.length);
    this.#notes.write(text, { at: 0 });
    this.#notes.flush();
  }
}
