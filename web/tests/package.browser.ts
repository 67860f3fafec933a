// The npm package as it is published, in a page of its own.

import { expect, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";

type Package = typeof BitNetWeb;

/** Tokens and the digest of their logits, as the native command computes it. */
const [tokens, digest] = (process.env["BITNET_DIGEST"] ?? "").split(" ");
const DIGEST = { tokens: (tokens ?? "").split(",").map(Number), digest };

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
