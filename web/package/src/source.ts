// Where a model comes from.

import { absolute } from "./address.js";
import { BitNetError, said } from "./errors.js";
import type { WireSource } from "./protocol.js";

/**
 * A GGUF file: a URL (also relative to the page), `hf:owner/repo/file.gguf` on the Hugging Face hub or, of a branch, tag or commit,
 * `hf:owner/repo@revision/file.gguf`, a `File` or `Blob`, its bytes, or a stream of them.
 */
export type ModelSource = string | URL | Blob | ArrayBuffer | ArrayBufferView | ReadableStream<Uint8Array>;

/** Bytes handed to the Worker at a time. */
const PIECE = 4 << 20;

/** What the Worker is told, and the pieces that the page feeds it, where it does. */
export function resolveSource(source: ModelSource): { wire: WireSource; pieces?: AsyncIterator<Uint8Array> } {
  if (typeof source === "string" || source instanceof URL) {
    const url = urlOf(source);
    return { wire: { kind: "url", url: url.href, name: nameIn(url) } };
  }
  if (source instanceof Blob) {
    const name = source instanceof File ? source.name : "model";
    return { wire: { kind: "blob", blob: source, name } };
  }
  if (source instanceof ReadableStream) {
    return { wire: { kind: "fed", name: "stream", size: undefined }, pieces: piecesOfStream(source) };
  }
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    const bytes = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    return { wire: { kind: "fed", name: "memory", size: bytes.length }, pieces: piecesOf(bytes) };
  }
  throw new BitNetError("argument", "source: expected a URL, hf:owner/repo[@revision]/file, File, Blob, ArrayBuffer or ReadableStream");
}

/** Bytes of a file, where they are known before it comes. */
export function sizeOf(source: WireSource): number | undefined {
  switch (source.kind) {
    case "url":
      return undefined;
    case "blob":
      return source.blob.size;
    case "fed":
      return source.size;
  }
}

function urlOf(source: string | URL): URL {
  if (typeof source === "string" && source.startsWith("hf:")) {
    const [owner, place = "", ...file] = source.slice("hf:".length).split("/");
    const [repository, revision = "main", ...more] = place.split("@");
    if (!owner || !repository || !revision || more.length > 0 || file.length === 0 || file.some((part) => part === "")) {
      throw new BitNetError("argument", `source: expected hf:owner/repo[@revision]/file, found ${JSON.stringify(source)}`);
    }
    const path = [owner, repository, "resolve", revision, ...file].map(encodeURIComponent).join("/");
    return new URL(`https://huggingface.co/${path}`);
  }
  return absolute("source", source);
}

function nameIn(url: URL): string {
  const last = url.pathname.split("/").pop();
  if (!last) {
    return url.href;
  }
  try {
    return decodeURIComponent(last);
  } catch {
    // A percent sign that stands for itself.
    return last;
  }
}

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE) {
    // A copy, so that handing it over leaves the caller's bytes alone.
    yield bytes.slice(at, at + PIECE);
  }
}

async function* piecesOfStream(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new BitNetError("network", `the stream failed: ${said(cause)}`, { cause });
      });
      if (done) {
        ended = true;
        return;
      }
      if (!(value instanceof Uint8Array)) {
        throw new BitNetError("argument", `source: expected a stream of Uint8Array, found one of ${typeof value}`);
      }
      yield value.slice();
    }
  } finally {
    if (!ended) {
      await reader.cancel().catch(() => undefined);
    }
  }
}
