// Downloads that are kept: bytes and a note about them for each URL.
//
// They lie in the origin private file system. Where a browser has none, they lie as segments in its Cache API: the same interface,
// but a broken download goes on from the last whole segment only.

import { openCacheEntry } from "./store-cache.js";
import { openFileEntry } from "./store-files.js";

/** The folder and the cache of downloads. */
export const DOWNLOADS = "bitnet-web";

/** What is known of a file. */
export interface Note {
  url: string;
  /** Bytes of the whole file; absent until the server has said it. */
  size?: number | undefined;
  version?: string | undefined;
  complete: boolean;
  /** When it was last asked for, in milliseconds since 1970. */
  used: number;
  /** Bytes that are there, where the browser would have to count them. */
  stored?: number;
}

/** What a server says about a file. */
export interface Described {
  size: number | undefined;
  /** Its ETag, or else when it was changed: what `If-Range` takes. */
  version: string | undefined;
}

/** A kept file, held open: nobody else can open it meanwhile. */
export interface Entry {
  readonly complete: boolean;
  readonly version: string | undefined;
  /** Bytes that are there. */
  readonly length: number;
  /** The first `end` bytes. */
  chunks(end: number): AsyncIterable<Uint8Array>;
  /** Begins anew (`kept` is 0) or continues behind the bytes that are there. */
  begin(kept: number, described: Described): Promise<void>;
  append(chunk: Uint8Array): Promise<void>;
  /** All bytes are there. */
  finish(size: number): Promise<void>;
  /** Gives the room back. */
  discard(): Promise<void>;
  close(): void;
}

/** A name that a file system takes. */
export async function keyOf(text: string): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What an error says. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `error` is about this one file or about room, so that another kind of storage would be no remedy. */
export function isFinal(error: unknown): boolean {
  return error instanceof DOMException && ["QuotaExceededError", "NoModificationAllowedError"].includes(error.name);
}

/** Opens what is kept of `url`, or room for it. `instead` is told why it lies in the Cache API, where it does. */
export async function openEntry(url: string, instead: (reason: string) => void): Promise<Entry> {
  const key = await keyOf(url);
  let reason: string;
  try {
    return await openFileEntry(url, key);
  } catch (error) {
    if (isFinal(error)) {
      throw error;
    }
    reason = said(error);
  }
  let entry: Entry;
  try {
    entry = await openCacheEntry(url, key);
  } catch (error) {
    if (isFinal(error)) {
      throw error;
    }
    throw new Error(`${reason}; ${said(error)}`, { cause: error });
  }
  instead(reason);
  return entry;
}
