// Downloads in the origin private file system: two files for each URL, one of bytes and one with the note.

import { BitNetError } from "../errors.js";
import { type Described, DOWNLOADS, type Entry, isWhole, type Note, STALE, usable } from "./store.js";
import { bytesOf } from "./stream.js";

/** A read from the disk, in bytes. */
const CHUNK = 4 << 20;

const NOT_WRITABLE = "this browser's private file system cannot be written from a Worker";

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
    throw new Error(NOT_WRITABLE);
  }
  try {
    return await handle.createSyncAccessHandle();
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "NoModificationAllowedError") {
      throw new DOMException("another page is writing this file", cause.name);
    }
    throw cause;
  }
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

/** The JSON in a file; nothing if there is none, or it was cut off by a crash. */
export async function readJsonFile<T>(home: FileSystemDirectoryHandle, name: string): Promise<T | undefined> {
  try {
    return JSON.parse(await (await (await home.getFileHandle(name)).getFile()).text()) as T;
  } catch {
    return undefined;
  }
}

/** Writes a file of JSON. Only in Workers. */
export async function writeJsonFile(home: FileSystemDirectoryHandle, name: string, value: unknown): Promise<void> {
  const file = await openFile(home, name);
  try {
    const text = new TextEncoder().encode(JSON.stringify(value));
    file.truncate(text.length);
    writeAt(file, text, 0);
    file.flush();
  } finally {
    file.close();
  }
}

/** Opens what is kept under `key`, or room for it; `none` is the note where there is nothing. */
export async function openFileEntry(key: string, none: Note): Promise<Entry> {
  const home = await folder(DOWNLOADS);
  if (!("createSyncAccessHandle" in FileSystemFileHandle.prototype)) {
    throw new Error(NOT_WRITABLE);
  }
  const files: Files = { home, bytes: `${key}.bin`, note: `${key}.json` };
  const note = await readJsonFile<Note>(home, files.note);
  if (note === undefined) {
    return new FileEntry(files, none);
  }
  const whole = await home.getFileHandle(files.bytes).then((handle) => handle.getFile(), () => undefined);
  if (note.complete && whole?.size === note.size) {
    const entry = new FileEntry(files, note, { whole });
    await entry.touch();
    return entry;
  }
  const held = await openFile(home, files.bytes);
  // What another page has written meanwhile counts.
  return new FileEntry(files, (await readJsonFile<Note>(home, files.note)) ?? none, { held });
}

/** A download's files. */
interface Files {
  home: FileSystemDirectoryHandle;
  bytes: string;
  note: string;
}

class FileEntry implements Entry {
  readonly #files: Files;
  #note: Note;
  /** The file, to be read only. */
  #whole: File | undefined;
  /** The file while it is held, so that nobody else can write it. */
  #held: SyncAccessHandle | undefined;
  #at: number;

  constructor(files: Files, note: Note, { whole, held }: { whole?: File | undefined; held?: SyncAccessHandle } = {}) {
    this.#files = files;
    this.#whole = whole;
    this.#held = held;
    const length = whole?.size ?? held?.getSize() ?? 0;
    this.#note = { ...note, complete: note.complete && isWhole(note, length) };
    this.#at = usable(note, length);
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
    return this.#at;
  }

  /** Notes that it was asked for, if nobody else is writing that. */
  async touch(): Promise<void> {
    if (Date.now() - this.#note.used > STALE) {
      await this.#write({ used: Date.now() }).catch(() => undefined);
    }
  }

  async *chunks(end: number): AsyncIterable<Uint8Array> {
    let at = 0;
    try {
      if (this.#whole !== undefined) {
        for await (const chunk of bytesOf(this.#whole.slice(0, end).stream())) {
          at += chunk.length;
          yield chunk;
        }
      }
    } catch (cause) {
      throw this.#lost(at, end, cause);
    }
    const buffer = new Uint8Array(Math.min(CHUNK, end - at));
    while (at < end) {
      const count = this.#held?.read(buffer.subarray(0, Math.min(CHUNK, end - at)), { at }) ?? 0;
      if (count === 0) {
        throw this.#lost(at, end);
      }
      at += count;
      yield buffer.subarray(0, count);
    }
  }

  async begin(kept: number, described: Described): Promise<void> {
    this.#whole = undefined;
    this.#held ??= await openFile(this.#files.home, this.#files.bytes);
    this.#held.truncate(kept);
    this.#at = kept;
    await this.#write({ ...described, complete: false, used: Date.now() });
  }

  async append(chunk: Uint8Array): Promise<void> {
    if (this.#held !== undefined) {
      writeAt(this.#held, chunk, this.#at);
      this.#at += chunk.length;
    }
  }

  async end(size: number): Promise<void> {
    this.#held?.flush();
    await this.#write({ size });
  }

  async finish(): Promise<void> {
    await this.#write({ complete: true });
    const { home, note: own } = this.#files;
    const { label } = this.#note;
    if (label !== undefined) {
      for await (const [name, note] of notes<Note>(home)) {
        if (note.label === label && name !== own) {
          await removeFile(home, name.replace(/json$/, "bin")).catch(() => undefined);
          await removeFile(home, name);
        }
      }
    }
  }

  async discard(): Promise<void> {
    if (this.#held === undefined && this.#whole === undefined) {
      // Nothing, or what another page is writing.
      return;
    }
    this.#held?.close();
    this.#held = undefined;
    this.#whole = undefined;
    this.#at = 0;
    const { home, bytes, note } = this.#files;
    await removeFile(home, bytes);
    await removeFile(home, note);
  }

  async close(): Promise<void> {
    if (this.#held === undefined) {
      return;
    }
    if (usable(this.#note, this.#at) === 0) {
      await this.discard();
      return;
    }
    this.#held.close();
    this.#held = undefined;
  }

  async #write(change: Partial<Note>): Promise<void> {
    this.#note = { ...this.#note, ...change };
    await writeJsonFile(this.#files.home, this.#files.note, this.#note);
  }

  #lost(at: number, end: number, cause?: unknown): BitNetError {
    return new BitNetError("bad-file", `the cache lost bytes ${at} to ${end} of ${this.#note.url}`, { cause });
  }
}
