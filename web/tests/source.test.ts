import { expect, test } from "vitest";
import { BitNetError } from "../package/src/errors.js";
import { resolveSource } from "../package/src/source.js";

test("names of the hub become addresses", () => {
  const { wire } = resolveSource("hf:owner/repo/folder/a b.gguf");
  expect(wire).toEqual({
    kind: "url",
    url: "https://huggingface.co/owner/repo/resolve/main/folder/a%20b.gguf",
    name: "a b.gguf",
  });
});

test("a name of the hub may have a revision", () => {
  expect(resolveSource("hf:owner/repo@v1.0/x.gguf").wire).toMatchObject({ url: "https://huggingface.co/owner/repo/resolve/v1.0/x.gguf", name: "x.gguf" });
});

test("a percent sign in a name may stand for itself", () => {
  expect(resolveSource("https://example.com/100%.gguf").wire).toMatchObject({ name: "100%.gguf" });
});

test.each(["hf:owner/repo", "hf:owner//x.gguf", "hf:owner/repo@/x.gguf", "hf:owner/repo@a@b/x.gguf", "not an address"])("%s is refused with a reason", (source) => {
  expect(() => resolveSource(source)).toThrow(BitNetError);
  expect(() => resolveSource(source)).toThrow(/source: expected/);
});

test("bytes are handed over in copies, so that the caller's stay", async () => {
  const bytes = Uint8Array.from({ length: 5 << 20 }, (_, i) => i % 251);
  const { wire, pieces } = resolveSource(bytes);
  expect(wire).toMatchObject({ kind: "fed", size: bytes.length });
  let at = 0;
  for (let next = await pieces?.next(); next && !next.done; next = await pieces?.next()) {
    expect(next.value.buffer).not.toBe(bytes.buffer);
    expect(Buffer.compare(next.value, bytes.subarray(at, at + next.value.length))).toBe(0);
    at += next.value.length;
  }
  expect(at).toBe(bytes.length);
});

test("a stream that is not read to its end is cancelled", async () => {
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(10)),
    cancel: () => {
      cancelled = true;
    },
  });
  const { pieces } = resolveSource(stream);
  await pieces?.next();
  await pieces?.return?.();
  expect(cancelled).toBe(true);
});
