import { expect, test } from "vitest";
import { chooseVariant, hasRelaxedSimd, hasSimd, whyNoGpu, whyNoThreads } from "../package/src/features.js";

test("what is said of this engine is what it can do", () => {
  expect(hasSimd()).toBe(true);
  expect(["yes", "no", "wrong"]).toContain(hasRelaxedSimd());
});

test("a page that is not isolated gets one thread, and is told why", () => {
  expect(whyNoThreads()).toContain("cross-origin isolated");
  const { variant, fallbacks } = chooseVariant(4);
  expect(variant).not.toBe("threads");
  expect(fallbacks.map(({ wanted }) => wanted)).toContain("threads");
});

test("one thread needs no excuse", () => {
  expect(chooseVariant(1).fallbacks.map(({ wanted }) => wanted)).not.toContain("threads");
});

test("where there is no WebGPU, the reason is said", async () => {
  expect(await whyNoGpu(true)).toContain("no WebGPU");
});
