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
