// Sessions that are kept: one file for each name, and a note that says which file it is. The note is written last, so that a session
// that is saved again replaces the older one at once or not at all.

import { said } from "../errors.js";
import type { SessionNote } from "../protocol.js";
import { randomName } from "../random.js";
import { addressOf, openCache, readJson, removeCached, writeJson } from "./store-cache.js";
import { folder, openFile, readJsonFile, removeFile, type SyncAccessHandle, writeAt, writeJsonFile } from "./store-files.js";
import { isFinal, keyOf } from "./store.js";

/** The folder and the cache of sessions. */
export const SESSIONS = "bitnet-web-sessions";

/** Writes a session through a function that takes its pieces. */
export type Writer = (write: (bytes: Uint8Array) => void) => void;

/** Keeps what `write` gives under the name in `note`. */
export async function saveSession(note: Omit<SessionNote, "bytes" | "file">, write: Writer): Promise<SessionNote> {
  const key = await keyOf(note.name);
  let home: FileSystemDirectoryHandle;
  try {
    home = await folder(SESSIONS);
  } catch (error) {
    return saveInCache(note, key, write, error);
  }
  const file = `${key}.${randomName()}.session`;
  let handle: SyncAccessHandle;
  try {
    handle = await openFile(home, file);
  } catch (error) {
    await removeFile(home, file).catch(() => undefined);
    if (isFinal(error)) {
      throw error;
    }
    return saveInCache(note, key, write, error);
  }
  let bytes = 0;
  try {
    write((piece) => {
      writeAt(handle, piece, bytes);
      bytes += piece.length;
    });
    handle.flush();
  } catch (error) {
    handle.close();
    await removeFile(home, file);
    throw error;
  }
  handle.close();
  const earlier = await noteIn(home, key);
  const whole: SessionNote = { ...note, bytes, file };
  await writeJsonFile(home, `${key}.json`, whole);
  if (earlier?.file !== undefined) {
    await removeFile(home, earlier.file);
  }
  return whole;
}

async function saveInCache(note: Omit<SessionNote, "bytes" | "file">, key: string, write: Writer, why: unknown): Promise<SessionNote> {
  let cache: Cache;
  try {
    cache = await openCache(SESSIONS);
  } catch (error) {
    throw new Error(`${said(why)}; ${said(error)}`, { cause: error });
  }
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  write((piece) => pieces.push(new Uint8Array(piece)));
  const blob = new Blob(pieces);
  const whole: SessionNote = { ...note, bytes: blob.size };
  await cache.put(addressOf(key, "session"), new Response(blob));
  await writeJson(cache, addressOf(key, "note"), whole);
  return whole;
}

function noteIn(home: FileSystemDirectoryHandle, key: string): Promise<SessionNote | undefined> {
  return readJsonFile<SessionNote>(home, `${key}.json`);
}

/** The note of the session called `name`, if it is kept. Also for pages. */
export async function findSession(name: string): Promise<SessionNote | undefined> {
  const key = await keyOf(name);
  const home = await folder(SESSIONS).catch(() => undefined);
  const note = home && (await noteIn(home, key));
  if (note !== undefined) {
    return note;
  }
  const cache = await openCache(SESSIONS).catch(() => undefined);
  return cache && readJson<SessionNote>(cache, addressOf(key, "note"));
}

/** Hands what is kept of `note` to `restore`, through a function that gives at most so many bytes, and none at the end. */
export async function readSession<T>(note: SessionNote, restore: (read: (most: number) => Uint8Array) => T): Promise<T> {
  if (note.file !== undefined) {
    const handle = await openFile(await folder(SESSIONS), note.file);
    let at = 0;
    try {
      return restore((most) => {
        const piece = new Uint8Array(most);
        const count = handle.read(piece, { at });
        at += count;
        return piece.subarray(0, count);
      });
    } finally {
      handle.close();
    }
  }
  const response = await (await openCache(SESSIONS)).match(addressOf(await keyOf(note.name), "session"));
  const bytes = new Uint8Array((await response?.arrayBuffer()) ?? new ArrayBuffer(0));
  let at = 0;
  return restore((most) => {
    const piece = bytes.subarray(at, at + most);
    at += piece.length;
    return piece;
  });
}

/** Removes the session called `name`; `false` if there was none. */
export async function removeFromFiles(home: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  const key = await keyOf(name);
  const note = await noteIn(home, key);
  if (note?.file !== undefined) {
    await removeFile(home, note.file);
  }
  return removeFile(home, `${key}.json`);
}

/** As removeFromFiles, in the Cache API. */
export async function removeFromCache(cache: Cache, name: string): Promise<boolean> {
  return removeCached(cache, await keyOf(name));
}
