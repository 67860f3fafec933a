// The package and the site on WebGPU, which here is Chromium's software for it.

import { expect, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";

type Package = typeof BitNetWeb;

// Software takes seconds for a token where two cores must do.
test.setTimeout(400_000);
const PATIENCE = { timeout: 300_000 };

test("the demo model writes on a GPU what it writes on the processor", async ({ page }) => {
  await page.goto("/blank.html");
  const seen = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const write = async (model: BitNetWeb.BitNet) => {
      const pieces: string[] = [];
      const generation = model.answer([{ role: "user", content: "What is 47 + 38?" }], { temperature: 0 });
      for await (const piece of generation) {
        pieces.push(piece);
      }
      // What it holds is not read again, also after tokens that ran ahead of the text.
      const prompt = (await model.tokens()).slice(0, -3);
      const again = model.generate(prompt, { maxTokens: 2, temperature: 0 });
      const next = await again.text();
      const { tokens } = await model.likeliest({ count: 3 });
      return { text: pieces.join(""), pieces: pieces.length, next, known: prompt.length - 1, likeliest: tokens[0]?.text, cached: again.timings?.cachedTokens, timings: generation.timings, reason: generation.reason, info: model.info };
    };
    const gpu = await BitNet.demo({ device: "webgpu", softwareGpu: true });
    const onGpu = await write(gpu);
    const sampled = await gpu.generate("Once upon a", { maxTokens: 2, seed: 7 }).text();
    const digest = await gpu.logitsDigest([1, 2, 3]).catch((error: BitNetWeb.BitNetError) => error.code);
    gpu.dispose();
    const cpu = await BitNet.demo({ device: "wasm", threads: 1 });
    const onCpu = await write(cpu);
    cpu.dispose();
    return { onGpu, onCpu, sampled, digest };
  });
  console.log(seen.onGpu.info.device, JSON.stringify(seen.onGpu.timings));
  expect(seen.onCpu.text).toBe("47 + 38 = 85.");
  expect(seen.onGpu.text).toBe(seen.onCpu.text);
  expect(seen.onGpu.next).toBe(seen.onCpu.next);
  expect(seen.onGpu.likeliest).toBe(seen.onCpu.likeliest);
  expect(seen.onGpu.cached).toBe(seen.onGpu.known);
  expect(seen.onGpu.pieces).toBeGreaterThan(1);
  expect(seen.onGpu.reason).toBe("end");
  expect(seen.sampled).toMatch(/[a-z]/);
  expect(seen.digest, "bits are promised on processors alone").toBe("unavailable");
  expect(seen.onGpu.info).toMatchObject({ variant: "webgpu", isa: "wgsl", threads: 1, fallbacks: [] });
  expect(seen.onGpu.info.device).toMatch(/webgpu/i);
  expect(seen.onCpu.info.device).toMatch(/^cpu/);
});

test("a GPU that is lost in the middle of a text is an error with a code, and the model can be loaded again", async ({ page }) => {
  // The Worker, with a device that is destroyed after so many submissions.
  await page.route("**/losing.js", (route) =>
    route.fulfill({
      contentType: "text/javascript",
      headers: { "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Resource-Policy": "same-origin" },
      body: `
        import "/package/worker.js";
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...options) {
          const device = await request.apply(this, options);
          const losing = (event) => event.data === "lose" && device.destroy();
          new BroadcastChannel("losing").onmessage = losing;
          return device;
        };`,
    }),
  );
  await page.goto("/blank.html");
  const seen = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const options = { device: "webgpu", softwareGpu: true } as const;
    const model = await BitNet.demo({ ...options, workerUrl: "/losing.js" });
    const channel = new BroadcastChannel("losing");
    const failure = async (text: AsyncIterable<string>) => {
      let written = "";
      try {
        for await (const piece of text) {
          written += piece;
          channel.postMessage("lose");
        }
      } catch (error) {
        const { name, code, message } = error as BitNetWeb.BitNetError;
        return { written, name, code, message };
      }
      return { written, name: "none", code: "none", message: "" };
    };
    const first = await failure(model.generate("Once upon a time", { maxTokens: 400, temperature: 0, ignoreEnd: true }));
    const second = await failure(model.generate("Once", { maxTokens: 2 }));
    const tokens = await model.tokens();
    model.dispose();
    const other = await BitNet.demo(options);
    const rest = await other.generate(tokens, { maxTokens: 2, temperature: 0 }).text();
    other.dispose();
    return { first, second, rest };
  });
  expect(seen.first.written).not.toBe("");
  expect(seen.first).toMatchObject({ name: "BitNetError", code: "gpu-lost" });
  expect(seen.first.message.length).toBeGreaterThan(10);
  expect(seen.second).toMatchObject({ written: "", code: "gpu-lost" });
  expect(seen.rest).not.toBe("");
});

test("software in the place of a GPU is used only when asked for", async ({ page }) => {
  await page.goto("/blank.html");
  const seen = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const code = await BitNet.demo({ device: "webgpu" }).then(
      () => "none",
      (error: BitNetWeb.BitNetError) => error.code,
    );
    const model = await BitNet.demo({ threads: 1 });
    const { variant, fallbacks } = model.info;
    model.dispose();
    // A browser without WebGPU.
    Object.defineProperty(navigator, "gpu", { value: undefined });
    const without = await BitNet.demo({ device: "webgpu", softwareGpu: true }).catch((error: BitNetWeb.BitNetError) => error);
    return { code, variant, fallbacks, without: without instanceof BitNet ? "none" : `${without.code}: ${without.message}` };
  });
  expect(seen.code).toBe("no-webgpu");
  expect(seen.variant).not.toBe("webgpu");
  expect(seen.fallbacks[0]).toMatchObject({ wanted: "webgpu", used: "wasm" });
  expect(seen.without).toMatch(/^no-webgpu: .*no WebGPU/);
});

test("the site runs the demo model on WebGPU", async ({ page }) => {
  await page.goto("/");
  await expect(page.locator(".facts-line").first()).toBeVisible({ timeout: 60_000 });
  await page.getByRole("tab", { name: "Settings" }).click();
  await page.locator("#placement select").selectOption("webgpu-software");
  await page.getByRole("button", { name: "Load again" }).click();
  await expect(page.locator("#device-chip")).toContainText(/webgpu/i, PATIENCE);
  await page.getByLabel("Message", { exact: true }).fill("What is 47 + 38?");
  await page.keyboard.press("Enter");
  await expect(page.locator(".message.assistant").last()).toContainText("47 + 38 = 85.", PATIENCE);
  await expect(page.locator("#facts")).toContainText("wgsl");
  await expect(page.locator("#attention")).toContainText("does not show", PATIENCE);
  await expect(page.getByRole("alert")).toBeHidden();
  await page.screenshot({ path: "test-results/webgpu.png" });
});
