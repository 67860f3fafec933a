// Reading a stream without leaving a file's worth of garbage behind.

/** Bytes read at a time. */
const PIECE = 1 << 20;

/**
 * The bytes of `stream`, piece by piece, each until the next is asked for: where the browser can, all are read into the same memory.
 * Otherwise every piece is an object of its own, and a file of some hundred megabytes is there a second time until they are
 * collected. Leaving the loop cancels the stream.
 */
export async function* bytesOf(stream: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    yield* piecesOf(stream);
    return;
  }
  let memory = new ArrayBuffer(PIECE);
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(memory));
      if (done) {
        ended = true;
        return;
      }
      yield value;
      memory = value.buffer as ArrayBuffer;
    }
  } finally {
    if (!ended) {
      await reader.cancel().catch(() => undefined);
    }
  }
}

async function* piecesOf(stream: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        ended = true;
        return;
      }
      yield value;
    }
  } finally {
    if (!ended) {
      await reader.cancel().catch(() => undefined);
    }
  }
}
