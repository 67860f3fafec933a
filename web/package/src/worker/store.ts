// Downloads that are kept: bytes and a note about them for each URL.
//
// They lie in the origin private file system. Where a browser has none, they lie as segments in its Cache API: the same interface,
// but a broken download goes on from the last whole segment only.

import { BitNetError, said } from "../errors.js";
import { openCacheEntry } from "./store-cache.js";
import { openFileEntry } from "./store-files.js";

/** The folder and the cache of downloads. */
export const DOWNLOADS = "bitnet-web";

/** What is known of a file. */
export interface Note {
  url: string;
  /** Bytes of the whole file; absent until the server has said it or the file has ended. */
  size?: number | undefined;
  version?: string | undefined;
  /** Whether all bytes are there and were a model. */
  complete: boolean;
  /** When it was last asked for, in milliseconds since 1970. */
  used: number;
  /** Bytes that are there, where the browser would have to count them. */
  stored?: number;
  /** A name that the file has at each of its addresses: one of them is kept. */
  label?: string | undefined;
}

/** What a server says about a file. */
export interface Described {
  size: number | undefined;
  /** Its ETag, or else when it was changed. */
  version: string | undefined;
}

/** What is kept of a file, and room for it. Any number of loads may read a complete one at once; one may write. */
export interface Entry extends Described {
  readonly complete: boolean;
  /** Bytes that are there. */
  readonly length: number;
  /** The first `end` bytes. */
  chunks(end: number): AsyncIterable<Uint8Array>;
  /** Begins anew (`kept` is 0) or continues behind the bytes that are there. */
  begin(kept: number, described: Described): Promise<void>;
  append(chunk: Uint8Array): Promise<void>;
  /** All `size` bytes are there. */
  end(size: number): Promise<void>;
  /** They are a model. What else is kept under its label goes. */
  finish(): Promise<void>;
  /** Gives the room back. */
  discard(): Promise<void>;
  /** Lets others write. What cannot be continued goes. */
  close(): Promise<void>;
}

/** A note that was last asked for so long ago, in milliseconds, is written again when it is asked for. */
export const STALE = 60_000;

/** Whether all bytes of a file are there, of which so many are. */
export function isWhole({ size }: { size?: number | undefined }, length: number): boolean {
  return size !== undefined && length === size;
}

/** How many of the bytes that are there can be used: a rest can only be asked for if one can tell whether it is of the same file. */
export function usable(note: Note, length: number): number {
  return isWhole(note, length) || note.version !== undefined ? length : 0;
}

/** A name that a file system takes. */
export async function keyOf(text: string): Promise<string> {
  // Undefined in pages that are not secure, as far as TypeScript does not know.
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) {
    throw new BitNetError("unavailable", "nothing can be kept here: that needs a secure page (https, or localhost)");
  }
  const hash = new Uint8Array(await subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether `error` is about this one file or about room, so that another kind of storage would be no remedy. */
export function isFinal(error: unknown): boolean {
  return error instanceof DOMException && ["QuotaExceededError", "NoModificationAllowedError"].includes(error.name);
}

/** Opens what is kept of `url`, or room for it. `instead` is told why it lies in the Cache API, where it does. */
export async function openEntry(url: string, label: string | undefined, instead: (reason: string) => void): Promise<Entry> {
  const key = await keyOf(url);
  const none: Note = { url, label, complete: false, used: 0 };
  let reason: string;
  try {
    return await openFileEntry(key, none);
  } catch (error) {
    if (isFinal(error)) {
      throw error;
    }
    reason = said(error);
  }
  let entry: Entry;
  try {
    entry = await openCacheEntry(key, none);
  } catch (error) {
    if (isFinal(error)) {
      throw error;
    }
    throw new Error(`${reason}; ${said(error)}`, { cause: error });
  }
  instead(reason);
  return entry;
}
