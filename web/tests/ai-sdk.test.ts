// The provider under the AI SDK's own functions.

import { APICallError, embed, embedMany, generateObject, generateText, isStepCount, Output, streamText, tool } from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { createBitNet } from "../package/src/ai-sdk.js";
import { Scripted } from "./scripted.js";

const STORY = { pieces: ["Once", " upon", " a time"], reason: "length" as const };

test("generateText has the text, why it ended, and the tokens", async () => {
  const scripted = new Scripted(STORY);
  const { text, finishReason, rawFinishReason, usage, warnings, response } = await generateText({
    model: createBitNet(scripted.model)(),
    instructions: "Be brief.",
    messages: [
      { role: "user", content: "Hello!" },
      { role: "assistant", content: [{ type: "reasoning", text: "Hm." }, { type: "text", text: "Yes?" }] },
      { role: "user", content: [{ type: "text", text: "Tell" }, { type: "text", text: " a story." }] },
    ],
    maxOutputTokens: 3,
    temperature: 0,
    topK: 5,
    topP: 0.5,
    seed: 7,
    stopSequences: ["."],
  });
  expect(text).toBe("Once upon a time");
  expect([finishReason, rawFinishReason]).toEqual(["length", "length"]);
  expect(usage).toMatchObject({ inputTokens: 12, inputTokenDetails: { cacheReadTokens: 4, noCacheTokens: 8 }, outputTokens: 3, totalTokens: 15 });
  expect(warnings ?? []).toEqual([]);
  expect(response.modelId).toBe("scripted");
  const [asked] = scripted.asked;
  const told = asked?.messages.map(({ role, content }) => [role, Array.isArray(content) ? content.map(({ text }) => text).join("") : content]);
  expect(told).toEqual([["system", "Be brief."], ["user", "Hello!"], ["assistant", "Yes?"], ["user", "Tell a story."]]);
  expect(asked?.options).toMatchObject({ maxTokens: 3, temperature: 0, topK: 5, topP: 0.5, seed: 7, stop: ["."] });
});

test("what is not done here is warned of, and what is this library's own is passed on", async () => {
  const scripted = new Scripted(STORY);
  const { warnings } = await generateText({
    model: createBitNet(scripted.model)("a name"),
    prompt: "Hello!",
    frequencyPenalty: 1,
    presencePenalty: 0,
    reasoning: "none",
    providerOptions: { bitnet: { minP: 0.1, chatTemplateKwargs: { documents: [] } } },
  });
  expect(warnings).toEqual([]);
  const prompt = [{ role: "user" as const, content: [{ type: "text" as const, text: "Hello!" }] }];
  const provided = { type: "provider" as const, id: "other.search" as const, name: "search", args: {} };
  const told = await createBitNet(scripted.model)().doGenerate({ prompt, includeRawChunks: true, tools: [provided] });
  expect(told.warnings).toMatchObject([{ type: "unsupported", feature: "tools of providers" }, { type: "unsupported", feature: "includeRawChunks" }]);
  expect(scripted.asked[0]?.options).toMatchObject({ minP: 0.1, frequencyPenalty: 1, presencePenalty: 0, chatTemplateKwargs: { enable_thinking: false, reasoning_effort: "none", documents: [] } });
  const wrong = generateText({ model: createBitNet(scripted.model)(), prompt: "Hello!", providerOptions: { bitnet: { minp: 0.1 } }, maxRetries: 0 });
  await expect(wrong).rejects.toMatchObject({ code: "argument", message: expect.stringContaining("providerOptions.bitnet.minp") });
  const image = [{ type: "file" as const, data: new Uint8Array([1]), mediaType: "image/png" }];
  const seen = generateText({ model: createBitNet(scripted.model)(), messages: [{ role: "user", content: image }], maxRetries: 0 });
  await expect(seen).rejects.toMatchObject({ code: "unsupported" });
  await expect(seen).rejects.not.toBeInstanceOf(APICallError);
});

test("what the model thinks is apart", async () => {
  const scripted = new Scripted({ pieces: [{ thinking: "H" }, { thinking: "m.", text: "Ye" }, "s."] });
  const model = createBitNet(scripted.model)();
  const { text, reasoningText } = await generateText({ model, prompt: "Well?" });
  expect([reasoningText, text]).toEqual(["Hm.", "Yes."]);
  const streamed = streamText({ model, prompt: "Well?" });
  expect([await streamed.reasoningText, await streamed.text]).toEqual(["Hm.", "Yes."]);
  expect(scripted.asked[0]?.options.separateThinking).toBe(true);
});

test("tools are offered, called, and told of", async () => {
  const scripted = new Scripted({ pieces: ["Let me see.", { calls: [{ name: "look", arguments: '{"at":"sea"}' }] }] }, { pieces: ["A boat."] });
  const look = tool({ description: "Looks.", inputSchema: z.object({ at: z.string() }), execute: async ({ at }) => `a boat at ${at}` });
  const model = createBitNet(scripted.model)();
  const { text, steps } = await generateText({ model, prompt: "What is there?", tools: { look }, toolChoice: "auto", stopWhen: isStepCount(2) });
  expect([text, steps[0]?.finishReason, steps[0]?.text]).toEqual(["A boat.", "tool-calls", "Let me see."]);
  expect(scripted.asked[0]?.options).toMatchObject({ toolChoice: "auto", tools: [{ type: "function", function: { name: "look", description: "Looks." } }] });
  expect(scripted.asked[1]?.messages).toMatchObject([
    { role: "user" },
    { role: "assistant", tool_calls: [{ type: "function", function: { name: "look", arguments: '{"at":"sea"}' } }] },
    { role: "tool", name: "look", content: "a boat at sea" },
  ]);
  const again = new Scripted({ pieces: ["Well.", { calls: [{ name: "look", arguments: '{"at":"x"}' }] }] });
  const streamed = streamText({ model: createBitNet(again.model)(), prompt: "What is there?", tools: { look }, toolChoice: { type: "tool", toolName: "look" } });
  expect(await streamed.toolCalls).toMatchObject([{ toolName: "look", input: { at: "x" } }]);
  expect(await streamed.finishReason).toBe("tool-calls");
  expect(again.asked[0]?.options.toolChoice).toEqual({ type: "function", function: { name: "look" } });
});

test("streamText streams, and a signal ends it", async () => {
  const scripted = new Scripted({ pieces: ["a", "b"] }, { pieces: Array.from({ length: 50 }, () => "x"), wait: () => new Promise((resolve) => setTimeout(resolve, 1)) });
  const model = createBitNet(scripted.model)();
  const whole = streamText({ model, prompt: "Hello!" });
  expect(await whole.text).toBe("ab");
  expect(await whole.finishReason).toBe("stop");
  expect((await whole.usage).outputTokens).toBe(2);

  const controller = new AbortController();
  const aborted: unknown[] = [];
  const cut = streamText({ model, prompt: "Hello!", abortSignal: controller.signal, onAbort: () => void aborted.push("abort"), onError: ({ error }) => void aborted.push(error) });
  for await (const _ of cut.textStream) {
    controller.abort();
  }
  expect(aborted).toEqual(["abort"]);
  expect(scripted.asked[1]?.options.signal?.aborted).toBe(true);
  await expect(generateText({ model, prompt: "Hello!", abortSignal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
});

test("objects come by their schema", async () => {
  const scripted = new Scripted({ pieces: ['{"sum":', "85}"] });
  const model = createBitNet(scripted.model)();
  const schema = z.object({ sum: z.number() });
  const { object } = await generateObject({ model, schema, prompt: "47 + 38" });
  expect(object).toEqual({ sum: 85 });
  const { output } = await generateText({ model, output: Output.object({ schema }), prompt: "47 + 38" });
  expect(output).toEqual({ sum: 85 });
  await generateObject({ model, output: "no-schema", prompt: "47 + 38" });
  const forms = scripted.asked.map(({ options }) => options.responseFormat);
  expect(forms).toMatchObject([{ type: "json_schema", schema: { required: ["sum"] } }, { type: "json_schema", schema: { required: ["sum"] } }, { type: "json_object" }]);
});

test("texts become vectors", async () => {
  const scripted = new Scripted();
  const model = createBitNet(scripted.model).embeddingModel();
  const { embedding, usage } = await embed({ model, value: "one two", providerOptions: { bitnet: { instruction: "Find it." } } });
  expect([embedding.length, usage.tokens]).toEqual([2, 7]);
  const { embeddings, warnings } = await embedMany({ model, values: ["a b", "c".repeat(200)] });
  expect(embeddings).toHaveLength(2);
  expect(warnings).toMatchObject([{ type: "other", message: expect.stringContaining("1 of 2") }]);
  expect(scripted.embedded[0]).toMatchObject([["one two"], { instruction: "Find it." }]);
  await expect(embed({ model, value: "x", abortSignal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
});
