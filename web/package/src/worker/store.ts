// Downloads in the origin private file system: a file of bytes and a note about it for each URL.

/** The folder. */
export const FOLDER = "bitnet-web";
/** A read from the cache, in bytes. */
const CHUNK = 4 << 20;

/** What TypeScript's library has for Workers only: a file held open, read and written at once. */
interface SyncAccessHandle {
  getSize(): number;
  truncate(size: number): void;
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** What is known of a file. */
export interface Note {
  url: string;
  /** Bytes of the whole file; absent until the server has said it. */
  size?: number | undefined;
  version?: string | undefined;
  complete: boolean;
  /** When it was last asked for, in milliseconds since 1970. */
  used: number;
}

/** A name that a file system takes. */
export async function keyOf(url: string): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url)));
  return Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The cache's folder. */
export async function folder(): Promise<FileSystemDirectoryHandle> {
  if (navigator.storage?.getDirectory === undefined) {
    throw new Error("this browser has no private file system here (it needs a secure page)");
  }
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create: true });
}

/** One file of the cache, held open: nobody else can open it meanwhile. */
export class Entry {
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

  /** Bytes that are there. */
  get length(): number {
    return this.#at;
  }

  /** The first `end` bytes. */
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

  /** Begins or continues to write after the first `kept` bytes. */
  begin(kept: number, described: { size: number | undefined; version: string | undefined }): void {
    this.#bytes.truncate(kept);
    this.#at = kept;
    this.#write({ ...described, complete: false });
  }

  append(chunk: Uint8Array): void {
    const written = this.#bytes.write(chunk, { at: this.#at });
    // Chromium returns a number beyond all sense where the quota is reached.
    if (written !== chunk.length) {
      throw new DOMException("the disk took only a part", "QuotaExceededError");
    }
    this.#at += written;
  }

  /** All bytes are there. */
  finish(size: number): void {
    this.#bytes.flush();
    this.#write({ size, complete: true });
  }

  /** Gives the room back. */
  discard(): void {
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

/** Opens what the cache has of `url`, or room for it. */
export async function openEntry(url: string): Promise<Entry> {
  const [home, key] = [await folder(), await keyOf(url)];
  const open = async (name: string) => {
    const handle = await home.getFileHandle(name, { create: true });
    return (handle as unknown as { createSyncAccessHandle(): Promise<SyncAccessHandle> }).createSyncAccessHandle();
  };
  const bytes = await open(`${key}.bin`);
  try {
    const notes = await open(`${key}.json`);
    return new Entry(readNote(notes) ?? { url, complete: false, used: 0 }, bytes, notes);
  } catch (error) {
    bytes.close();
    throw error;
  }
}

function readNote(notes: SyncAccessHandle): Note | undefined {
  const buffer = new Uint8Array(notes.getSize());
  notes.read(buffer, { at: 0 });
  try {
    return JSON.parse(new TextDecoder().decode(buffer)) as Note;
  } catch {
    // Empty, or cut off by a crash: as if there were nothing.
    return undefined;
  }
}
