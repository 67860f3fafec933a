// The npm package as it is published, in a page of its own.

import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";

type Package = typeof BitNetWeb;

/** Tokens and the digest of their logits, as the native command computes it. */
function nativeDigest(variable: string) {
  const [tokens, digest] = (process.env[variable] ?? "").split(" ");
  return { tokens: (tokens ?? "").split(",").map(Number), digest };
}
const DIGEST = nativeDigest("BITNET_DIGEST");
/** The same of the tiny Bonsai 2: delta nets, gated attention, rotated weights of three types. */
const HYBRID = nativeDigest("BITNET_DIGEST_HYBRID");

test.beforeEach(async ({ page }) => {
  await page.goto("/blank.html");
});

for (const variant of ["simd128", "relaxed", "threads"] as const) {
  test(`the demo model streams and its logits are the native ones: ${variant}`, async ({ page }) => {
    const seen = await page.evaluate(
      async ({ variant, tokens }) => {
        const { BitNet } = (await import("/package/index.js" as string)) as Package;
        const model = await BitNet.demo({ variant, threads: 2 });
        const pieces: string[] = [];
        const generation = model.generate("Once upon a time", { maxTokens: 60, temperature: 0 });
        for await (const piece of generation) {
          pieces.push(piece);
        }
        const digests = [];
        for (const batch of [64, 3]) {
          digests.push(await model.logitsDigest(tokens, batch));
        }
        const { info } = model;
        model.dispose();
        return { pieces, digests, info, timings: generation.timings, reason: generation.reason };
      },
      { variant, tokens: DIGEST.tokens },
    );
    console.log(variant, seen.info.device, JSON.stringify(seen.timings));
    expect(seen.pieces.join("")).toMatch(/^, there was a kind boy\. His name was Luke\./);
    expect(seen.pieces.length).toBeGreaterThan(1);
    expect(seen.info.isa).toBe(variant === "simd128" ? "simd128" : "relaxed");
    expect(seen.info.threads).toBe(variant === "threads" ? 2 : 1);
    expect(seen.reason).toBe("length");
    expect(seen.timings?.generatedTokens).toBe(60);
    expect(DIGEST.digest, "BITNET_DIGEST is set by cargo xtask test --web").toMatch(/^[0-9a-f]{64}$/);
    expect(seen.digests).toEqual([DIGEST.digest, DIGEST.digest]);
  });
}

const TESTS = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../crates/bitnet/tests");

for (const variant of ["simd128", "relaxed", "threads"] as const) {
  test(`logits of a hybrid model are the native ones: ${variant}`, async ({ page }) => {
    const bytes = readFileSync(path.join(TESTS, "bonsai2/tiny-bonsai2.gguf")).toString("base64");
    const digests = await page.evaluate(
      async ({ bytes, variant, tokens }) => {
        const { BitNet } = (await import("/package/index.js" as string)) as Package;
        const model = await BitNet.load(Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)), { variant, threads: 2 });
        const digests = [];
        for (const batch of [64, 3, 1]) {
          digests.push(await model.logitsDigest(tokens, batch));
        }
        model.dispose();
        return digests;
      },
      { bytes, variant, tokens: HYBRID.tokens },
    );
    expect(HYBRID.digest, "BITNET_DIGEST_HYBRID is set by cargo xtask test --web").toMatch(/^[0-9a-f]{64}$/);
    expect(digests).toEqual([HYBRID.digest, HYBRID.digest, HYBRID.digest]);
  });
}

/** Tiny models that embed, and their vectors by an independent implementation. */
const VECTORS = path.join(TESTS, "vectors");
const EMBEDDERS = ["tiny-qwen3", "tiny-gemma3"] as const;

for (const [variant, name] of (["simd128", "relaxed", "threads"] as const).flatMap((variant) => EMBEDDERS.map((name) => [variant, name] as const))) {
  test(`texts become the golden vectors: ${variant}, ${name}`, async ({ page }) => {
    const bytes = readFileSync(path.join(VECTORS, `${name}.gguf`)).toString("base64");
    const seen = await page.evaluate(
      async ({ bytes, variant }) => {
        const { BitNet } = (await import("/package/index.js" as string)) as Package;
        const model = await BitNet.load(Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)), { variant, threads: 2 });
        const code = (work: Promise<unknown>) => work.then(() => "none").catch((error: { code: string }) => error.code);
        const texts = ["", "the hand", ...Array.from({ length: 60 }, (_, i) => `the hand and ${i} tins`)];
        const steps: number[] = [];
        const together = await model.embed(texts, { onProgress: (done) => steps.push(done) });
        const alone = await model.embed(["the hand"]);
        const mean = await model.embed([""], { pooling: "mean", dimensions: 16 });
        const codes = [
          await code(model.embed(["a"], { pooling: "best" as "mean" })),
          await code(model.embed(["a"], { dimensions: model.info.hidden + 1 })),
          await code(model.embed(["a"], { signal: AbortSignal.abort() })),
          await code(model.generate("a").text()),
        ];
        const empty = [...(together.vectors[0] ?? [])];
        const same = String(together.vectors[1]) === String(alone.vectors[0]);
        const { embedsOnly } = model.info;
        model.dispose();
        return { count: together.vectors.length, truncated: together.truncated, steps, empty, same, mean: mean.vectors[0]?.length, codes, embedsOnly };
      },
      { bytes, variant },
    );
    const golden = JSON.parse(readFileSync(path.join(VECTORS, `${name}.json`), "utf8")) as { cases: { int8: { last: number[] } }[] };
    const cosine = golden.cases[0]?.int8.last.reduce((sum, value, index) => sum + value * (seen.empty[index] ?? 0), 0);
    // Keys and values are f16 here, and f32 there.
    expect(cosine).toBeGreaterThan(0.999);
    expect(seen).toMatchObject({ count: 62, truncated: 0, same: true, mean: 16, embedsOnly: true });
    expect(seen.steps.length).toBeGreaterThan(1);
    expect(seen.steps.at(-1)).toBe(62);
    expect(seen.codes).toEqual(["argument", "argument", "aborted", "unsupported"]);
  });
}

test("a text has the form that was asked for, and the module for it is fetched when it is used", async ({ page }) => {
  const fetched: string[] = [];
  page.on("request", (request) => fetched.push(path.posix.basename(new URL(request.url()).pathname)));
  const schema = {
    type: "object",
    properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer", minimum: 1, maximum: 99 }, kind: { enum: ["cat", "dog"] } },
    required: ["name", "age", "kind"],
    additionalProperties: false,
  };
  const seen = await page.evaluate(async (schema) => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.demo({ variant: "simd128" });
    const free = await model.generate("Once upon a time", { maxTokens: 20, temperature: 0 }).text();
    const before = performance.getEntriesByType("resource").length;
    const texts = [];
    for (const seed of [0, 1, 2]) {
      texts.push(await model.generate("The pet:", { responseFormat: { type: "json_schema", schema }, maxTokens: 120, temperature: 1, seed }).text());
    }
    const choice = await model.generate("Once upon a time", { responseFormat: { type: "choice", choice: ["red", "green"] } }).text();
    const number = await model.generate("Once", { responseFormat: { type: "regex", regex: "[0-9]{4}" } }).text();
    const gbnf = await model.generate("Once", { responseFormat: { type: "grammar", grammar: 'root ::= "a" [bc]+ "d"' }, maxTokens: 40 }).text();
    const answer = await model.chat.completions.create({
      messages: [{ role: "user", content: "What is 47 + 38?" }],
      response_format: { type: "json_schema", json_schema: { name: "sum", schema: { type: "object", properties: { sum: { type: "integer" } }, required: ["sum"], additionalProperties: false } } },
      temperature: 0,
    });
    const errors = [];
    for (const responseFormat of [{ type: "regex", regex: "(" }, { type: "xml" }, { type: "grammar", grammar: `${"a".repeat(100)}` }]) {
      errors.push(await model.generate("Once", { responseFormat: responseFormat as never }).text().then(String, ({ code, message }) => `${code}: ${message}`));
    }
    const again = await model.generate("Once upon a time", { maxTokens: 20, temperature: 0 }).text();
    model.dispose();
    return { free, again, before, texts, choice, number, gbnf, answer: answer.choices[0].message.content, errors };
  }, schema);
  for (const text of seen.texts) {
    const pet = JSON.parse(text) as { name: string; age: number; kind: string };
    expect(Object.keys(pet).sort()).toEqual(["age", "kind", "name"]);
    expect(["cat", "dog"]).toContain(pet.kind);
    expect(pet.age).toBeGreaterThanOrEqual(1);
  }
  expect(["red", "green"]).toContain(seen.choice);
  expect(seen.number).toMatch(/^[0-9]{4}$/);
  expect(seen.gbnf).toMatch(/^a[bc]+d?$/);
  expect(typeof (JSON.parse(seen.answer ?? "") as { sum: unknown }).sum).toBe("number");
  for (const error of seen.errors) {
    expect(error).toMatch(/^argument: /);
  }
  expect(seen.again).toBe(seen.free);
  expect(fetched.filter((name) => name === "bitnet-constraints.wasm")).toHaveLength(1);
});

test("penalties, biases, probabilities, several answers and thinking are as OpenAI has them", async ({ page }) => {
  const seen = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.demo({ variant: "simd128", device: "wasm" });
    const messages = [{ role: "user", content: "What is 47 + 38?" }];
    const create = (more: object) => model.chat.completions.create({ messages, temperature: 0, ...more });
    const plain = await create({ logprobs: true, top_logprobs: 3 });
    const [first] = await model.tokenize(plain.choices[0].logprobs?.content[0]?.token ?? "");
    const banned = await create({ logit_bias: { [String(first)]: -100 }, max_tokens: 1, logprobs: true });
    const chunks = [];
    for await (const { choices } of await model.chat.completions.create({ messages, temperature: 0, stream: true, logprobs: true, top_logprobs: 3 })) {
      chunks.push(...(choices[0].logprobs?.content ?? []));
    }
    const several = await create({ n: 3, temperature: 2, max_tokens: 12, seed: 1 });
    const alone = await create({ temperature: 2, max_tokens: 12, seed: 3 });
    const story = (more: object) => model.generate("Once upon a time", { temperature: 0, maxTokens: 80, ...more }).text();
    const stories = [await story({}), await story({ frequencyPenalty: 2 }), await story({ frequencyPenalty: 0, logitBias: {} }), await story({ presencePenalty: 2 })];
    const code = (work: Promise<unknown>) => work.then(() => "none", ({ code, message }: { code: string; message: string }) => `${code}: ${message}`);
    const errors = [await code(create({ logit_bias: { 99999: 1 } })), await code(create({ logit_bias: { 5: 101 } })), await code(create({ tools: [{ type: "function", function: { name: "look" } }] }))];
    const vectors = await model.embeddings.create({ input: ["a boy", "a girl"], encoding_format: "float" });
    const width = model.info.hidden;
    model.dispose();
    const thinker = await BitNet.demo({ variant: "simd128", device: "wasm", chatTemplate: { source: "{# </think> #}{{ messages[0].content }}<think>" } });
    const thought = await thinker.chat.completions.create({ messages: [{ role: "user", content: "Once upon a time" }], max_tokens: 12, temperature: 0 });
    const raw = await thinker.answer([{ role: "user", content: "Once upon a time" }], { maxTokens: 12, temperature: 0 }).text();
    thinker.dispose();
    return { plain, banned, chunks, several, alone, stories, errors, vectors, width, thought: thought.choices[0].message, raw };
  });
  const content = seen.plain.choices[0].logprobs?.content ?? [];
  expect(content.map(({ token }) => token).join("")).toContain("85");
  for (const { token, logprob, bytes, top_logprobs: top } of content) {
    // The likeliest was taken.
    expect(top).toHaveLength(3);
    expect(top[0]).toEqual({ token, logprob, bytes });
    expect(logprob).toBeLessThanOrEqual(0);
    expect(top[0]?.logprob).toBeGreaterThanOrEqual(top[1]?.logprob ?? 0);
  }
  expect(seen.chunks).toEqual(content);
  expect(seen.banned.choices[0].logprobs?.content[0]?.token).not.toBe(content[0]?.token);
  expect(seen.several.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
  expect(seen.several.choices[2]?.message).toEqual(seen.alone.choices[0].message);
  expect(seen.several.usage).toMatchObject({ prompt_tokens: seen.alone.usage.prompt_tokens, completion_tokens: expect.any(Number) });
  const [plain, frequent, same, present] = seen.stories;
  expect(same).toBe(plain);
  expect(frequent).not.toBe(plain);
  expect(present).not.toBe(plain);
  expect(seen.errors[0]).toMatch(/^argument: logitBias: /);
  expect(seen.errors[1]).toMatch(/^argument: logitBias.5: /);
  expect(seen.errors[2]).toMatch(/^unsupported: tools: /);
  expect(seen.vectors.data.map(({ embedding }) => embedding.length)).toEqual([seen.width, seen.width]);
  expect(seen.vectors.usage.prompt_tokens).toBeGreaterThan(2);
  expect(seen.thought).toEqual({ role: "assistant", content: "", reasoning_content: seen.raw });
});

test("tools are called as OpenAI has it, by the module of constraints", async ({ page }) => {
  const seen = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const source = "{% for tool in tools or [] %}{# <tool_call> #}{{ tool.function.name }} {% endfor %}{% for message in messages %}{{ message.content }}{% endfor %}";
    const model = await BitNet.demo({ variant: "simd128", device: "wasm", chatTemplate: { source } });
    const parameters = { type: "object", properties: { a: { type: "integer", minimum: 1, maximum: 99 }, kind: { enum: ["sum", "product"] } }, required: ["a", "kind"], additionalProperties: false };
    const tools = ["add", "look"].map((name) => ({ type: "function" as const, function: { name, parameters } }));
    const request = { messages: [{ role: "user", content: "What is 47 + 38?" }], tools, temperature: 0, max_tokens: 80 };
    const named = { type: "function" as const, function: { name: "look" } };
    const forced = await model.chat.completions.create({ ...request, tool_choice: named, parallel_tool_calls: false });
    const streamed = [];
    let reason: string | null = null;
    for await (const { choices } of await model.chat.completions.create({ ...request, tool_choice: "required", parallel_tool_calls: false, stream: true })) {
      streamed.push(...(choices[0].delta.tool_calls ?? []));
      reason = choices[0].finish_reason;
    }
    const free = await model.chat.completions.create(request);
    const code = (work: Promise<unknown>) => work.then(() => "none", ({ code, message }: { code: string; message: string }) => `${code}: ${message}`);
    const missing = await code(model.chat.completions.create({ ...request, tool_choice: { type: "function", function: { name: "other" } } }));
    model.dispose();
    return { forced: forced.choices[0], streamed, reason, free: free.choices[0].finish_reason, missing };
  });
  expect(seen.forced).toMatchObject({ finish_reason: "tool_calls", message: { content: null, tool_calls: [{ type: "function", function: { name: "look" } }] } });
  for (const call of [seen.forced.message.tool_calls?.[0], seen.streamed[0]]) {
    const { a, kind } = JSON.parse(call?.function.arguments ?? "") as { a: number; kind: string };
    expect(a).toBeGreaterThanOrEqual(1);
    expect(["sum", "product"]).toContain(kind);
  }
  expect(seen.streamed).toMatchObject([{ index: 0, type: "function", function: { name: expect.stringMatching(/^(add|look)$/) } }]);
  expect(seen.reason).toBe("tool_calls");
  expect(["stop", "length"]).toContain(seen.free);
  expect(seen.missing).toMatch(/^argument: .*tool_choice/);
});

test("no module of constraints is fetched where no form is asked for, and a form too deep ends no page", async ({ page }) => {
  const fetched: string[] = [];
  page.on("request", (request) => fetched.push(path.posix.basename(new URL(request.url()).pathname)));
  const first = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.demo({ variant: "simd128" });
    const text = await model.generate("Once", { maxTokens: 4 }).text();
    model.dispose();
    return text;
  });
  expect(first).not.toBe("");
  expect(fetched).not.toContain("bitnet-constraints.wasm");
  const deep = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.demo({ variant: "simd128" });
    const rules = (count: number) => `start: r0\n${Array.from({ length: count }, (_, i) => `r${i}: "a" r${i + 1}`).join("\n")}\nr${count}: "b"\n`;
    const tell = (count: number) =>
      model
        .generate("Once", { responseFormat: { type: "grammar", grammar: rules(count) }, maxTokens: 4 })
        .text()
        .then((text) => `text ${text}`, ({ code, message }) => `${code}: ${message}`);
    const said = [await tell(50_000), await tell(900)];
    const free = await model.generate("Once", { maxTokens: 4 }).text();
    model.dispose();
    return { said, free };
  });
  console.log(deep.said.join(" | "));
  expect(deep.said[0]).toMatch(/^argument: .*at most 1000 rules/);
  expect(deep.said[1]).toMatch(/^(text a|argument: )/);
  expect(deep.free).not.toBe("");
});
