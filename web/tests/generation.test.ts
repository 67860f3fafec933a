import { expect, test } from "vitest";
import { ChatCompletions } from "../package/src/chat.js";
import { plainMessages } from "../package/src/chat-request.js";
import { Embeddings } from "../package/src/embeddings-request.js";
import { BitNetError, coded, failureOf } from "../package/src/errors.js";
import { Generation, type GenerationPart, type TokenLogprob, wireOptions } from "../package/src/generation.js";
import { wireJson } from "../package/src/json.js";
import type { WireOutcome } from "../package/src/protocol.js";
import { type Tool, type ToolOptions, wireOffer } from "../package/src/tools.js";

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

/** A part of a text. */
function part(more: string | Partial<GenerationPart>): GenerationPart {
  return { thinking: "", text: "", calls: [], logprobs: [], ...(typeof more === "string" ? { text: more } : more) };
}

/** A generation of these pieces. */
function written(pieces: (string | Partial<GenerationPart>)[], cancel = () => {}): Generation {
  return new Generation(async (onText) => {
    for (const piece of pieces) {
      await Promise.resolve();
      onText(part(piece), 1);
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
      onText(part("a"), 1);
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
    onText(part("a"), 1);
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
  expect(() => wireOptions({ presencePenalty: 2.5 })).toThrow(/presencePenalty: expected a number from -2 to 2/);
  expect(() => wireOptions({ logprobs: 21 })).toThrow(/logprobs/);
  expect(JSON.parse(wireOptions({ logitBias: { 7: -100 } }))).toEqual({ logitBias: [[7, -100]] });
  expect(() => wireOptions({ logitBias: { a: 1 } as never })).toThrow(/logitBias: .*"a"/);
});

test("a chat has OpenAI's shape", async () => {
  const completions = new ChatCompletions("m", (messages, options) => {
    expect(messages).toEqual([{ role: "user", content: "hi" }]);
    expect(options).toEqual({ maxTokens: 5, seed: 0, separateThinking: true });
    return written(["Hel", "lo"]);
  });
  const request = { messages: [{ role: "user", content: "hi" }], max_tokens: 5 };
  const whole = await completions.create(request);
  expect(whole.choices[0]).toEqual({ index: 0, message: { role: "assistant", content: "Hello" }, logprobs: null, finish_reason: "stop" });
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

const entry = (token: string) => ({ token, logprob: -1, bytes: [token.charCodeAt(0)], top_logprobs: [] as TokenLogprob[] });

test("several answers, their thinking and their probabilities", async () => {
  const seeds: unknown[] = [];
  const completions = new ChatCompletions("m", (_, { seed, logprobs }) => {
    seeds.push([seed, logprobs]);
    return written([{ thinking: "H", logprobs: [entry("H")] }, { thinking: "m", text: "Y", logprobs: [entry("m"), entry("Y")] }, "es"]);
  });
  const request = { messages: [{ role: "user", content: "hi" }], n: 2, seed: 5, logprobs: true, top_logprobs: 3 };
  const { choices, usage } = await completions.create(request);
  expect(seeds).toEqual([[5, 3], [6, 3]]);
  expect(choices.map(({ index, message }) => [index, message])).toEqual([0, 1].map((index) => [index, { role: "assistant", content: "Yes", reasoning_content: "Hm" }]));
  expect(choices[1]?.logprobs).toEqual({ content: ["H", "m", "Y"].map(entry), refusal: null });
  expect(usage).toMatchObject({ prompt_tokens: 10, completion_tokens: 6, total_tokens: 16 });
  const texts = ["", ""];
  const thoughts = ["", ""];
  const told = ["", ""];
  const usages: unknown[] = [];
  for await (const { choices, usage } of await completions.create({ ...request, stream: true })) {
    const [{ index, delta, logprobs }] = choices;
    texts[index] += delta.content ?? "";
    thoughts[index] += delta.reasoning_content ?? "";
    told[index] += logprobs?.content.map(({ token }) => token).join("") ?? "";
    usages.push(...(usage === undefined ? [] : [usage.completion_tokens]));
  }
  expect([texts, thoughts, told, usages]).toEqual([["Yes", "Yes"], ["Hm", "Hm"], ["HmY", "HmY"], [6]]);
});

const LOOK: Tool = { type: "function", function: { name: "look", parameters: { type: "object" } } };

test("calls have OpenAI's shape, one by one where they are streamed", async () => {
  let seen: unknown;
  const call = { name: "look", arguments: '{"at":1}' };
  const completions = new ChatCompletions("m", (_, options) => {
    seen = options;
    return written([{ text: "\n", calls: [call] }, { calls: [call] }]);
  });
  const request = { messages: [{ role: "user", content: "hi" }], tools: [LOOK], tool_choice: "required" as const, parallel_tool_calls: true };
  const { choices } = await completions.create(request);
  expect(seen).toMatchObject({ tools: [LOOK], toolChoice: "required", parallelToolCalls: true });
  const expected = { id: expect.stringMatching(/^call_/), type: "function", function: call };
  expect(choices[0]).toMatchObject({ message: { content: null, tool_calls: [expected, expected] }, finish_reason: "tool_calls" });
  expect(choices[0].message.tool_calls?.[0]?.id).not.toBe(choices[0].message.tool_calls?.[1]?.id);
  const streamed = [];
  let reason: unknown;
  for await (const { choices } of await completions.create({ ...request, stream: true })) {
    streamed.push(...(choices[0].delta.tool_calls ?? []));
    reason = choices[0].finish_reason;
  }
  expect(streamed).toEqual([{ index: 0, ...expected }, { index: 1, ...expected }]);
  expect(reason).toBe("tool_calls");
});

test("an offer says which calls may come, and which must", () => {
  const read = (options: ToolOptions) => JSON.parse(wireOffer(options) ?? "null") as unknown;
  expect(read({})).toBeNull();
  expect(read({ tools: [LOOK], toolChoice: "none" })).toBeNull();
  expect(read({ tools: [LOOK] })).toEqual({ tools: [LOOK], demand: "nothing", parallel: true });
  const named = { type: "function" as const, function: { name: "look" } };
  expect(read({ tools: [LOOK], toolChoice: named, parallelToolCalls: false })).toEqual({ tools: [LOOK], demand: { named: "look" }, parallel: false });
  expect(() => wireOffer({ tools: [LOOK], toolChoice: "any" as never })).toThrow(/tool_choice: .*"any"/);
});

test("the calls and results of earlier answers reach the template", () => {
  const id = "call_1";
  const call = (text: string) => ({ id, type: "function" as const, function: { name: "look", arguments: text } });
  const messages = [
    { role: "assistant", content: null, tool_calls: [call('{"at":1}'), call("[")] },
    { role: "tool", content: "a cat", tool_call_id: id, name: "look" },
  ];
  expect(plainMessages(messages)).toEqual([
    { role: "assistant", content: "", tool_calls: [{ ...call(""), function: { name: "look", arguments: { at: 1 } } }, call("[")] },
    { role: "tool", content: "a cat", tool_call_id: id, name: "look" },
  ]);
  expect(() => plainMessages([{ role: "assistant", content: null, tool_calls: [{} as never] }])).toThrow(/tool_calls\[0\].function.name: /);
});

test("vectors have OpenAI's shape", async () => {
  const embeddings = new Embeddings("m", async (texts, options) => {
    expect(options).toEqual({ dimensions: 2 });
    return { vectors: texts.map(() => Float32Array.of(0.5, -2)), truncated: 0, tokens: 7 };
  });
  const answer = await embeddings.create({ input: ["a", "b"], dimensions: 2, model: "m", instruction: null });
  expect(answer).toEqual({
    object: "list",
    data: [0, 1].map((index) => ({ object: "embedding", index, embedding: [0.5, -2] })),
    model: "m",
    usage: { prompt_tokens: 7, total_tokens: 7 },
  });
  const { data } = await embeddings.create({ input: "a", dimensions: 2, encoding_format: "base64" });
  expect(data[0]?.embedding).toBe("AAAAPwAAAMA=");
  for (const wrong of [{ input: [] }, { input: [1] }, { input: "a", encoding_format: "int8" }, { input: "a", inputs: "b" }]) {
    await expect(embeddings.create(wrong as never)).rejects.toMatchObject({ code: "argument" });
  }
});

test("a chat's fields are heeded, or refused by name", async () => {
  let seen: unknown;
  const completions = new ChatCompletions("m", (_, options) => {
    seen = options;
    return written(["x"]);
  });
  const messages = [{ role: "user", content: "hi" }];
  const create = (more: object) => completions.create({ messages, ...more });
  // Null is as if left out, and what asks for nothing is no request.
  await create({ stop: null, seed: null, max_tokens: null, n: 1, logprobs: false, logit_bias: {}, frequency_penalty: 0, user: "u", model: "m" });
  expect(seen).toEqual({ seed: 0, separateThinking: true, logitBias: {}, frequencyPenalty: 0 });
  await create({ presence_penalty: 0.5, frequency_penalty: -1, logit_bias: { 5: -100 }, logprobs: true, reasoning_effort: "none", chat_template_kwargs: { a: 1 } });
  const kwargs = { a: 1, enable_thinking: false, reasoning_effort: "none" };
  expect(seen).toEqual({ seed: 0, separateThinking: true, presencePenalty: 0.5, frequencyPenalty: -1, logitBias: { 5: -100 }, logprobs: 0, chatTemplateKwargs: kwargs });
  for (const more of [{ n: 0 }, { n: 1.5 }, { top_logprobs: 2 }]) {
    await expect(create(more)).rejects.toMatchObject({ code: "argument", message: expect.stringContaining(`${Object.keys(more)[0]}: `) });
  }
  for (const more of [{ functions: [{}] }, { audio: {} }]) {
    await expect(create(more)).rejects.toMatchObject({ name: "BitNetError", code: "unsupported", message: expect.stringContaining(`${Object.keys(more)[0]}: `) });
  }
  for (const more of [{ temprature: 1 }, { top_k: 1 }]) {
    await expect(create(more)).rejects.toMatchObject({ code: "argument", message: expect.stringContaining(`${Object.keys(more)[0]}: `) });
  }
  await expect(completions.create(null as never)).rejects.toMatchObject({ code: "argument" });
});

test("messages are texts, also in parts", () => {
  expect(plainMessages([{ role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] }])).toEqual([{ role: "user", content: "ab" }]);
  const refused = (message: object) => () => plainMessages([message as never]);
  expect(refused({ role: "user", content: [{ type: "image_url" }] })).toThrow(/messages\[0\].content\[0\]: .*image_url/);
  expect(plainMessages([{ role: "assistant", content: "a", reasoning_content: "b" }])).toEqual([{ role: "assistant", content: "a", reasoning_content: "b" }]);
  expect(refused({ role: "user", content: null })).toThrow(/messages\[0\].content: /);
  expect(refused({ role: "user", content: "", audio: { id: "a" } })).toThrow(/messages\[0\].audio: /);
  expect(refused({ role: "assistant", content: "a", refusal: null, annotations: [] })).not.toThrow();
  expect(refused({ content: "" })).toThrow(/messages\[0\].role: /);
});

test("an answer that was cancelled says so", async () => {
  const completions = new ChatCompletions("m", () => new Generation(async () => ({ ...OUTCOME, reason: "cancelled" }), () => {}));
  const { choices } = await completions.create({ messages: [{ role: "user", content: "hi" }] });
  expect(choices[0].finish_reason).toBe("cancelled");
});

test.each(["at its first piece", "before it"])("leaving a streamed answer %s ends the generation", async (when) => {
  let cancelled = false;
  const start = () => new Promise<WireOutcome>(() => {});
  const completions = new ChatCompletions("m", () => new Generation(start, () => (cancelled = true)));
  const chunks = await completions.create({ messages: [{ role: "user", content: "hi" }], stream: true });
  if (when === "before it") {
    await chunks.return?.();
  } else {
    for await (const _ of chunks) {
      break;
    }
  }
  expect(cancelled).toBe(true);
});

test("what goes to the core is JSON", () => {
  expect(wireJson("x", { a: "Hello \ud83d" })).toBe('{"a":"Hello \ufffd"}');
  expect(() => wireOptions({ temperature: Number.NaN })).toThrow(/temperature: expected a finite number, found NaN/);
  expect(() => wireJson("x", Number.POSITIVE_INFINITY)).toThrow(/x: expected a finite number/);
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  for (const bad of [circle, 1n, undefined]) {
    expect(() => wireJson("x", bad)).toThrow(BitNetError);
  }
});

test("failures keep their code, and those of the browser get one", () => {
  expect(failureOf(new BitNetError("bad-file", "x", { tensor: "t" }))).toEqual({ code: "bad-file", message: "x", tensor: "t" });
  expect(failureOf(new DOMException("full", "QuotaExceededError")).code).toBe("quota");
  expect(failureOf(new DOMException("stop", "AbortError")).code).toBe("aborted");
  expect(failureOf(new RangeError("WebAssembly.Memory(): could not allocate memory")).code).toBe("no-memory");
  expect(failureOf(new DOMException("no", "SecurityError")).code).toBe("unavailable");
  expect(failureOf(new DOMException("no", "DataCloneError")).code).toBe("argument");
  expect(failureOf("what").code).toBe("internal");
  const error = coded(new WebAssembly.CompileError("refused"));
  expect(error).toBeInstanceOf(BitNetError);
  expect([error.code, error.message]).toEqual(["unavailable", "refused"]);
});
