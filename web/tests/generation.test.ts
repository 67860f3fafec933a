import { expect, test } from "vitest";
import { ChatCompletions } from "../package/src/chat.js";
import { BitNetError, failureOf } from "../package/src/errors.js";
import { Generation, wireOptions } from "../package/src/generation.js";
import type { WireOutcome } from "../package/src/protocol.js";

const OUTCOME: WireOutcome = {
  reason: "end",
  promptTokens: 10,
  cachedTokens: 4,
  promptMilliseconds: 60,
  generatedTokens: 3,
  decodeMilliseconds: 20,
  draftedTokens: 0,
  acceptedTokens: 0,
};

/** A generation of these pieces. */
function written(pieces: string[], cancel = () => {}): Generation {
  return new Generation(async (onText) => {
    for (const piece of pieces) {
      await Promise.resolve();
      onText(piece, 1);
    }
    return OUTCOME;
  }, cancel);
}

test("pieces come in order, then timings and reason", async () => {
  const generation = written(["a", "b", "", "c"]);
  expect(await generation.text()).toBe("abc");
  expect(generation.reason).toBe("end");
  expect(generation.timings).toMatchObject({ promptRate: 100, decodeRate: 100, cachedTokens: 4 });
});

test("leaving the loop cancels", async () => {
  let cancelled = false;
  const generation = new Generation(
    (onText) => {
      onText("a", 1);
      return new Promise(() => {});
    },
    () => {
      cancelled = true;
    },
  );
  for await (const piece of generation) {
    expect(piece).toBe("a");
    break;
  }
  expect(cancelled).toBe(true);
});

test("an error comes after the text before it", async () => {
  const generation = new Generation(async (onText) => {
    onText("a", 1);
    throw new BitNetError("no-memory", "full");
  }, () => {});
  const seen: string[] = [];
  await expect(async () => {
    for await (const piece of generation) {
      seen.push(piece);
    }
  }).rejects.toMatchObject({ code: "no-memory" });
  expect(seen).toEqual(["a"]);
});

test("options go as they are, a stop string as a list, and a bad seed not at all", () => {
  expect(JSON.parse(wireOptions({ maxTokens: 3, stop: "." }))).toEqual({ maxTokens: 3, stop: ["."] });
  expect(() => wireOptions({ seed: -1 })).toThrow(/seed/);
});

test("a chat has OpenAI's shape", async () => {
  const completions = new ChatCompletions("m", (messages, options) => {
    expect(messages).toEqual([{ role: "user", content: "hi" }]);
    expect(options).toEqual({ maxTokens: 5 });
    return written(["Hel", "lo"]);
  });
  const request = { messages: [{ role: "user", content: "hi" }], max_tokens: 5 };
  const whole = await completions.create(request);
  expect(whole.choices[0]).toEqual({ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" });
  expect(whole.usage).toEqual({
    prompt_tokens: 10,
    completion_tokens: 3,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 4 },
  });
  let text = "";
  let last: string | null = null;
  for await (const chunk of await completions.create({ ...request, stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
    last = chunk.choices[0].finish_reason;
  }
  expect([text, last]).toEqual(["Hello", "stop"]);
});

test("failures keep their code, and those of the browser get one", () => {
  expect(failureOf(new BitNetError("bad-file", "x", { tensor: "t" }))).toEqual({ code: "bad-file", message: "x", tensor: "t" });
  expect(failureOf(new DOMException("full", "QuotaExceededError")).code).toBe("quota");
  expect(failureOf(new DOMException("stop", "AbortError")).code).toBe("aborted");
  expect(failureOf(new RangeError("WebAssembly.Memory(): could not allocate memory")).code).toBe("no-memory");
  expect(failureOf("what").code).toBe("internal");
});
