// Pages and Workers of all kinds: the package works there, or says with a code why it does not.

import { expect, type Page, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";
import { failure, open, run } from "./page.js";

type Package = typeof BitNetWeb;

/** Goes to a page and imports the package from `module`; what loading the demo model gives there. */
async function loaded(page: Page, address: string, module = "/package/index.js") {
  await page.goto(address);
  return page.evaluate(async (module) => {
    const { BitNet } = (await import(module)) as Package;
    try {
      const model = await BitNet.demo({ cache: false, threads: 1 });
      model.dispose();
      return "loaded";
    } catch (error) {
      const { name, code, message } = error as BitNetWeb.BitNetError;
      return `${name} ${code} ${message}`;
    }
  }, module);
}

test("a page of the local network, which is not secure, does all but keep", async ({ page, baseURL }) => {
  await page.goto(`${(baseURL ?? "").replace("localhost", "lan.test")}/plain.html`);
  const seen = await page.evaluate(async () => {
    const { BitNet, modelCache, savedSessions } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.load("/package/demo.gguf");
    const answer = await model.chat.completions.create({ messages: [{ role: "user", content: "What is 47 + 38?" }] });
    const told = (work: Promise<unknown>) => work.then(String, ({ name, code, message }: BitNetWeb.BitNetError) => `${name} ${code} ${message}`);
    const refused = await Promise.all([modelCache.list(), modelCache.remove("x"), savedSessions.list(), model.session.save(), BitNet.restore()].map(told));
    const { fallbacks } = model.info;
    model.dispose();
    return { secure: isSecureContext, answer: answer.choices[0].message.content, fallbacks, refused };
  });
  expect(seen.secure).toBe(false);
  expect(seen.answer).toBe("47 + 38 = 85.");
  expect(seen.fallbacks.find(({ wanted }) => wanted === "cache")?.reason).toContain("secure page");
  for (const refused of seen.refused) {
    expect(refused).toMatch(/^BitNetError unavailable .*secure page/);
  }
});

test("what a page's policy or its host does not allow is named", async ({ page }) => {
  const page_ = (csp: string) => `/blank.html?${new URLSearchParams({ csp })}`;
  const cases: [address: string, module: string, said: RegExp][] = [
    [page_("script-src 'self' 'unsafe-eval'; worker-src 'none'"), "/package/index.js", /worker-src/],
    [page_("script-src 'self' 'unsafe-eval'; require-trusted-types-for 'script'"), "/package/index.js", /Trusted Types/],
    ["/blank.html", "/bare/index.js", /worker\.js.*Cross-Origin-Embedder-Policy: require-corp/],
  ];
  for (const [address, module, said] of cases) {
    const seen = await loaded(page, address, module);
    expect(seen).toMatch(/^BitNetError unavailable /);
    expect(seen).toMatch(said);
  }
  // Without the permission for WebAssembly nothing can be evaluated from here, either.
  await page.route("/policy.html", (route) =>
    route.fulfill({
      contentType: "text/html",
      headers: { "Content-Security-Policy": "script-src 'self'" },
      body: '<!doctype html><body></body><script type="module" src="/policy.js"></script>',
    }),
  );
  await page.route("/policy.js", (route) =>
    route.fulfill({
      contentType: "text/javascript",
      body: 'import { BitNet } from "/package/index.js"; BitNet.demo().catch(({ code, message }) => document.body.append(code, " ", message));',
    }),
  );
  await page.goto("/policy.html");
  await expect(page.locator("body")).toHaveText(/^unavailable .*wasm-unsafe-eval/);
});

test("a Worker of a page loads a model by a relative address; a shared one says that it cannot", async ({ page }) => {
  const script = (tell: string) => `
    import { BitNet } from "/package/index.js";
    const told = BitNet.load("package/demo.gguf", { threads: 1, cache: false }).then(
      (model) => (model.dispose(), "loaded"),
      ({ name, code }) => name + " " + code,
    );
    ${tell}`;
  await page.route("/own.js", (route) => route.fulfill({ contentType: "text/javascript", headers: { "Cross-Origin-Embedder-Policy": "require-corp" }, body: script("told.then(postMessage);") }));
  await page.route("/shared.js", (route) =>
    route.fulfill({ contentType: "text/javascript", headers: { "Cross-Origin-Embedder-Policy": "require-corp" }, body: script("onconnect = async ({ ports: [port] }) => port.postMessage(await told);") }),
  );
  await page.goto("/blank.html");
  const said = await page.evaluate(async () => {
    const heard = (port: Worker | MessagePort) => new Promise<string>((resolve) => (port.onmessage = ({ data }) => resolve(data as string)));
    return [await heard(new Worker("/own.js", { type: "module" })), await heard(new SharedWorker("/shared.js", { type: "module" }).port)];
  });
  expect(said).toEqual(["loaded", "BitNetError unavailable"]);
});

test("a sandboxed frame runs models and keeps none", async ({ page, baseURL }) => {
  await page.goto("/plain.html");
  const said = await page.evaluate(async (origin) => {
    const frame = document.createElement("iframe");
    frame.sandbox.add("allow-scripts");
    frame.srcdoc = `<script type="module">
      import { BitNet, modelCache } from "${origin}/package/index.js";
      const code = await modelCache.list().then(String, ({ code }) => code);
      const model = await BitNet.load("package/demo.gguf", { threads: 1 });
      parent.postMessage([code, await model.generate("Once upon a time", { maxTokens: 4, temperature: 0 }).text()], "*");
    </scr${"ipt"}>`;
    const heard = new Promise<string[]>((resolve) => addEventListener("message", ({ data }) => resolve(data as string[])));
    document.body.append(frame);
    return heard;
  }, baseURL);
  expect(said).toEqual(["unavailable", ", there was a"]);
});

test("arguments that cannot be are refused by name", async ({ page }) => {
  await open(page);
  const cases: [string, (bitnet: Package, argument: null) => Promise<unknown>, RegExp][] = [
    ["argument", ({ BitNet }) => BitNet.demo({ workerUrl: "http://" }), /^workerUrl: /],
    ["argument", ({ BitNet }) => BitNet.demo({ wasmUrl: "http://" }), /^wasmUrl: /],
    ["argument", ({ BitNet }) => BitNet.demo({ variant: "bogus" as never }), /^variant: .*bogus/],
    ["argument", ({ BitNet }) => BitNet.load(new ReadableStream({ start: (controller) => controller.enqueue("text") }) as never), /^source: /],
    ["network", ({ BitNet }) => BitNet.load(new ReadableStream({ start: (controller) => controller.error(new Error("gone")) })), /gone/],
    ["network", ({ BitNet }) => BitNet.load("/100%.gguf", { cache: false, threads: 1 }), /100%\.gguf/],
  ];
  for (const [code, work, said] of cases) {
    const seen = await failure(page, work, null);
    expect(seen).toMatchObject({ name: "BitNetError", code });
    expect(seen?.message).toMatch(said);
  }
  const refused = await run(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 1, cache: false });
      const attempts = [
        () => model.generate("x", { temperature: Number.NaN }),
        () => model.answer([{ role: "user", content: 5 as never }]),
        () => model.detokenize(undefined as never),
      ];
      const codes = attempts.map((attempt) => {
        try {
          attempt();
          return "none";
        } catch (error) {
          return (error as BitNetWeb.BitNetError).code;
        }
      });
      // Half of a character is replaced.
      const half = await model.answer([{ role: "user", content: "Hello \ud83d" }], { maxTokens: 2 }).text();
      model.dispose();
      return { codes, half };
    },
    null,
  );
  expect(refused.codes).toEqual(["argument", "argument", "argument"]);
  expect(refused.half).not.toBe("");
  await page.goto("/plain.html");
  const threads = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    return BitNet.demo({ variant: "threads", threads: 2 }).then(String, ({ code, message }: BitNetWeb.BitNetError) => `${code} ${message}`);
  });
  expect(threads).toMatch(/^unavailable .*cross-origin isolated/);
});
