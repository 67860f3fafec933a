import { expect, test } from "vitest";
import { isText, passages } from "../src/passages.js";

test("short paragraphs go together, long ones are parted where sentences end", () => {
  expect(passages("")).toEqual([]);
  expect(passages("one\n\n\n two\nlines ")).toEqual(["one\ntwo lines"]);
  const sentence = `${"word ".repeat(70)}end. `;
  const parts = passages(sentence.repeat(4));
  expect(parts).toHaveLength(4);
  expect(parts.every((part) => part.endsWith("end."))).toBe(true);
  const solid = passages("x".repeat(1500));
  expect(solid.map((part) => part.length)).toEqual([600, 600, 300]);
});

test("nothing of a text is lost", () => {
  const text = Array.from({ length: 50 }, (_, i) => `Paragraph ${i}. ${"It goes on. ".repeat(i)}`).join("\n\n");
  const words = (text: string) => text.split(/\s+/).filter(Boolean).join(" ");
  expect(words(passages(text).join(" "))).toBe(words(text));
  expect(passages(text).every((part) => part.length <= 600)).toBe(true);
});

test("texts are told by type or name", () => {
  expect(isText(new File([], "a.md"))).toBe(true);
  expect(isText(new File([], "a", { type: "text/plain" }))).toBe(true);
  expect(isText(new File([], "model.gguf"))).toBe(false);
});
