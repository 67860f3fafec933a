import { expect, test } from "vitest";
import { bytesOf } from "../package/src/worker/stream.js";

/** A stream of so many bytes, 0 to 250 in a circle, in pieces; of bytes or of objects. */
function streamOf(length: number, type: "bytes" | undefined, onCancel = () => {}): ReadableStream<Uint8Array> {
  let at = 0;
  const source = {
    pull(controller: { enqueue(piece: Uint8Array<ArrayBuffer>): void; close(): void; byobRequest?: ReadableStreamBYOBRequest | null }) {
      if (at === length) {
        controller.close();
        controller.byobRequest?.respond(0);
        return;
      }
      const count = Math.min(700_001, length - at);
      controller.enqueue(Uint8Array.from({ length: count }, (_, i) => (at + i) % 251));
      at += count;
    },
    cancel: onCancel,
  };
  return type === undefined ? new ReadableStream<Uint8Array>(source) : new ReadableStream({ ...source, type } as UnderlyingByteSource);
}

for (const type of ["bytes", undefined] as const) {
  test(`all bytes come in order from a stream of ${type ?? "objects"}`, async () => {
    let at = 0;
    for await (const piece of bytesOf(streamOf(5_000_000, type))) {
      expect(piece[0]).toBe(at % 251);
      expect(piece.at(-1)).toBe((at + piece.length - 1) % 251);
      at += piece.length;
    }
    expect(at).toBe(5_000_000);
  });

  test(`a stream of ${type ?? "objects"} that is left is cancelled`, async () => {
    let cancelled = false;
    const stream = streamOf(5_000_000, type, () => {
      cancelled = true;
    });
    for await (const _ of bytesOf(stream)) {
      break;
    }
    expect(cancelled).toBe(true);
  });
}
