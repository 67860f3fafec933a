import { expect, test } from "vitest";
import { type BitNet, SemanticIndex } from "../package/src/index.js";
import { Scripted } from "./scripted.js";

const TEXTS = [
  { id: "solid", text: "aaaaaaaa" },
  { id: "sparse", text: "a a a a a" },
  { id: "between", text: "aaaa aaaa" },
];

async function filled(model: BitNet): Promise<SemanticIndex> {
  const index = new SemanticIndex(model);
  await index.add(TEXTS);
  return index;
}

test("the nearest texts come first", async () => {
  const scripted = new Scripted();
  const index = await filled(scripted.model);
  const hits = await index.search("b b b b b", { count: 2, instruction: "Find it." });
  expect(hits.map(({ id }) => id)).toEqual(["sparse", "between"]);
  expect(hits[0]?.score).toBeCloseTo(1, 6);
  expect(scripted.embedded.at(-1)?.[1]).toEqual({ instruction: "Find it." });
  expect((await index.search("bbbb", { minScore: 0.999 })).map(({ id }) => id)).toEqual(["solid"]);
  await expect(index.search("b", { count: 0 })).rejects.toMatchObject({ code: "argument" });
});

test("a text replaces the one of its id, and what fails changes nothing", async () => {
  const index = await filled(new Scripted().model);
  expect(await index.add([{ id: "solid", text: "b ".repeat(60) }])).toBe(1);
  expect(index.size).toBe(3);
  await expect(index.add([{ id: "new", text: "x" }], { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
  expect([index.has("new"), index.remove("sparse"), index.remove("sparse"), index.size]).toEqual([false, true, false, 2]);
  index.clear();
  expect(await index.search("b")).toEqual([]);
});

test("bytes bring the index back, wherever they lie", async () => {
  const { model } = new Scripted();
  const index = await filled(model);
  await index.add([{ id: "ä", text: "ü ö" }]);
  const bytes = index.export();
  const shifted = new Uint8Array(bytes.length + 1).subarray(1);
  shifted.set(bytes);
  const again = SemanticIndex.from(shifted, model);
  expect(await again.search("u o")).toEqual(await index.search("u o"));
  expect(again.export()).toEqual(bytes);
  expect(SemanticIndex.from(new SemanticIndex(model).export(), model).size).toBe(0);
});

test("other bytes, and those of another model, are refused", async () => {
  const { model } = new Scripted();
  const bytes = (await filled(model)).export();
  const damaged = bytes.slice();
  damaged[14] = 0;
  for (const wrong of [new Uint8Array(3), new TextEncoder().encode("GGUF and more bytes"), bytes.subarray(0, 20), bytes.subarray(0, -4), damaged]) {
    expect(() => SemanticIndex.from(wrong, model)).toThrow(expect.objectContaining({ code: "bad-file" }));
  }
  const other = { ...model, info: { ...model.info, name: "other" } } as BitNet;
  expect(() => SemanticIndex.from(bytes, other)).toThrow(expect.objectContaining({ code: "argument", message: expect.stringContaining("other") }));
  expect(() => SemanticIndex.from(bytes, model, { dimensions: 1 })).toThrow(expect.objectContaining({ code: "argument" }));
});
