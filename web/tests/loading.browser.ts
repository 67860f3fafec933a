// Where models come from, and what goes wrong on the way: in a page of its own, with the package as it is published.

import { readFile } from "node:fs/promises";
import { expect, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";
import { failure, open, run } from "./page.js";

type Package = typeof BitNetWeb;

const START = /^, there was a kind boy\./;

test.beforeEach(({ page }) => open(page));

/** Loads from a URL and writes a little. */
async function byUrl({ BitNet }: Package, { url, cache = false, sha256 }: { url: string; cache?: BitNetWeb.CachePolicy; sha256?: string }) {
  const model = await BitNet.load(url, { threads: 1, cache, ...(sha256 === undefined ? {} : { sha256 }) });
  const text = await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text();
  const { info } = model;
  model.dispose();
  return { text, info };
}

test("File, Blob, ArrayBuffer and stream give the same text", async ({ page }) => {
  const texts = await run(
    page,
    async ({ BitNet }) => {
      const buffer = await (await fetch("/package/demo.gguf")).arrayBuffer();
      const sources = [
        new File([buffer], "own.gguf"),
        new Blob([buffer]),
        buffer,
        new Blob([buffer]).stream(),
        new Uint8Array(buffer),
      ];
      const texts = [];
      for (const source of sources) {
        const model = await BitNet.load(source, { threads: 1 });
        texts.push(await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text());
        model.dispose();
      }
      return texts;
    },
    null,
  );
  expect(texts).toHaveLength(5);
  for (const text of texts) {
    expect(text).toMatch(START);
  }
});

test("a broken download goes on where it broke", async ({ page }) => {
  for (const ranges of ["yes", "no"]) {
    const key = `break-${ranges}-${Math.random()}`;
    const url = `/file/demo.gguf?break=2000000&ranges=${ranges}&key=${key}`;
    expect((await run(page, byUrl, { url })).text).toMatch(START);
    const log = (await (await page.request.get("/log")).json()) as string[];
    const asked = log.filter((line) => line.includes(key));
    expect(asked).toHaveLength(2);
    expect(asked[1]).toMatch(/bytes=[1-9]\d*-$/);
  }
});

test("downloads are kept, also in part, listed and removed", async ({ page }) => {
  const key = `kept-${Math.random()}`;
  const url = `/file/demo.gguf?delay=20&key=${key}`;
  // The page goes away in the middle.
  await run(
    page,
    async ({ BitNet }, url) => {
      const controller = new AbortController();
      const load = BitNet.load(url, {
        threads: 1,
        cache: true,
        signal: controller.signal,
        onProgress: ({ phase, done }) => {
          if (phase === "download" && done > 2_000_000) {
            controller.abort();
          }
        },
      });
      await load.catch(() => undefined);
    },
    url,
  );
  const first = await run(page, byUrl, { url, cache: true });
  expect(first.text).toMatch(START);
  expect(first.info.cached).toBe(false);
  const log = (await (await page.request.get("/log")).json()) as string[];
  expect(log.filter((line) => line.includes(key))[1]).toMatch(/bytes=[1-9]\d{6}-$/);
  const second = await run(page, byUrl, { url, cache: true });
  expect(second.text).toMatch(START);
  expect(second.info.cached).toBe(true);
  const listed = await run(
    page,
    async ({ modelCache }) => {
      const before = await modelCache.list();
      const removed = await modelCache.remove(before[0]?.url ?? "");
      return { before, removed, after: await modelCache.list() };
    },
    null,
  );
  expect(listed.before).toHaveLength(1);
  expect(listed.before[0]).toMatchObject({ complete: true, bytes: 6174016 });
  expect(listed.removed).toBe(true);
  expect(listed.after).toHaveLength(0);
});

test("a download from another origin goes on where it broke, whatever its server shows", async ({ page, baseURL }) => {
  const other = (baseURL ?? "").replace("localhost", "127.0.0.1");
  const modified = "Wed, 21 Oct 2026 07:28:00 GMT";
  for (const parameters of [{ cors: "", modified }, { cors: "" }, { cors: "content-range,etag" }]) {
    const url = `${other}/file/demo.gguf?${new URLSearchParams({ ...parameters, break: "2000000", key: `${Math.random()}` })}`;
    expect((await run(page, byUrl, { url })).text).toMatch(START);
  }
  // What an earlier page left.
  const url = `${other}/file/demo.gguf?${new URLSearchParams({ cors: "", modified, delay: "20", key: `${Math.random()}` })}`;
  await run(
    page,
    async ({ BitNet }, url) => {
      const controller = new AbortController();
      const onProgress = ({ done }: { done: number }) => done > 2_000_000 && controller.abort();
      await BitNet.load(url, { threads: 1, cache: true, signal: controller.signal, onProgress }).catch(() => undefined);
    },
    url,
  );
  expect((await run(page, byUrl, { url, cache: true })).text).toMatch(START);
  const log = (await (await page.request.get("/log")).json()) as string[];
  expect(log.filter((line) => line.includes(new URL(url).search))[1]).toMatch(/bytes=[1-9]\d{6}-$/);
});

test("a compressed answer is the file, also from another origin, which does not say so", async ({ page, baseURL }) => {
  for (const origin of [baseURL ?? "", (baseURL ?? "").replace("localhost", "127.0.0.1")]) {
    const url = `${origin}/file/demo.gguf?gzip=yes&cors=&key=${Math.random()}`;
    expect((await run(page, byUrl, { url, cache: true })).text).toMatch(START);
    expect((await run(page, byUrl, { url, cache: true })).info.cached).toBe(true);
  }
});

test("a load and a generation can be aborted", async ({ page }) => {
  const loading = await failure(
    page,
    async ({ BitNet }, url) => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 300);
      await BitNet.load(url, { threads: 1, cache: false, signal: controller.signal });
    },
    "/file/demo.gguf?delay=100",
  );
  expect(loading).toMatchObject({ name: "BitNetError", code: "aborted" });
  const written = await run(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 1, cache: false });
      const controller = new AbortController();
      const generation = model.generate("Once upon a time", { maxTokens: 900, ignoreEnd: true, signal: controller.signal });
      let text = "";
      for await (const piece of generation) {
        text += piece;
        controller.abort();
      }
      // The model is as good as before.
      const again = await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text();
      model.dispose();
      return { text, again, reason: generation.reason, tokens: generation.timings?.generatedTokens ?? 0 };
    },
    null,
  );
  expect(written.reason).toBe("cancelled");
  expect(written.tokens).toBeLessThan(300);
  expect(written.text).not.toBe("");
  expect(written.again).toMatch(START);
});

test("what goes wrong has a code and a sentence", async ({ page }) => {
  const cases: [string, { url: string; sha256?: string }][] = [
    ["network", { url: "/file-that-is-not-there.gguf" }],
    ["bad-file", { url: "/package/index.js" }],
    // Inside a norm's gains: a byte that makes a number infinite or the data inconsistent need not be found; a wrong hash is.
    ["bad-file", { url: "/file/demo.gguf?corrupt=3000000", sha256: "0".repeat(64) }],
    ["bad-file", { url: "/file/demo.gguf?corrupt=10" }],
  ];
  for (const [code, argument] of cases) {
    const seen = await failure(page, byUrl, argument);
    expect(seen, JSON.stringify(argument)).toMatchObject({ name: "BitNetError", code });
    expect(seen?.message.length).toBeGreaterThan(10);
  }
  const webgpu = await failure(page, async ({ BitNet }) => BitNet.demo({ device: "webgpu" }), null);
  expect(webgpu?.code).toBe("no-webgpu");
  const argument = await failure(page, async ({ BitNet }) => (await BitNet.demo({ threads: 1 })).generate("x", { topP: 7 }).text(), null);
  expect(argument).toMatchObject({ code: "argument" });
  expect(argument?.message).toContain("top_p");
  const full = await failure(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 1, contextLength: 16 });
      await model.generate("one two three four five six seven eight nine ten eleven twelve thirteen fourteen").text();
    },
    null,
  );
  expect(full?.code).toBe("context-full");
});

test("full storage is an error where the file must be kept, and told where not", async ({ page, context }) => {
  const client = await context.newCDPSession(page);
  const origin = new URL(page.url()).origin;
  await client.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 2 << 20 });
  const url = `/file/demo.gguf?key=quota-${Math.random()}`;
  const must = await failure(page, byUrl, { url, cache: true });
  expect(must).toMatchObject({ code: "quota" });
  const may = await run(page, async ({ BitNet }, url) => {
    const model = await BitNet.load(url, { threads: 1 });
    const { fallbacks } = model.info;
    model.dispose();
    return fallbacks;
  }, url);
  expect(may.find(({ wanted }) => wanted === "cache")?.reason).toContain("storage");
});

test("without isolation there is one thread, and the reason is said", async ({ page }) => {
  await page.goto("/plain.html");
  const info = await page.evaluate(async () => {
    const { BitNet } = (await import("/package/index.js" as string)) as Package;
    const model = await BitNet.demo({ threads: 4, cache: false });
    await model.generate("Once", { maxTokens: 3 }).text();
    const { info } = model;
    model.dispose();
    return info;
  });
  expect(info.threads).toBe(1);
  expect(info.fallbacks.find(({ wanted }) => wanted === "threads")?.reason).toContain("cross-origin isolated");
});

test("threads that do not start are done without, and the reason is said", async ({ page }) => {
  const seen = await run(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 3, cache: false, workerUrl: "/package/worker.js?without=threads" });
      const text = await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text();
      const { threads, variant, fallbacks } = model.info;
      model.dispose();
      return { text, threads, variant, fallbacks };
    },
    null,
  );
  expect(seen.text).toMatch(START);
  expect(seen).toMatchObject({ threads: 1, variant: "threads" });
  expect(seen.fallbacks.find(({ wanted }) => wanted === "threads")).toMatchObject({ used: "one thread", reason: expect.stringContaining("no threads today") });
});

test("headers go with every request, also where a break is mended", async ({ page }) => {
  const url = "/file/demo.gguf?secret=open&key=headers&break=1000000";
  const loaded = async ({ BitNet }: Package, { url, headers }: { url: string; headers: Record<string, string> }) => {
    const model = await BitNet.load(url, { threads: 1, cache: false, headers });
    const text = await model.generate("Once upon a time", { maxTokens: 6, temperature: 0 }).text();
    model.dispose();
    return text;
  };
  expect(await run(page, loaded, { url, headers: { Authorization: "open" } })).toMatch(/^, there was a kind boy/);
  const refused = await failure(page, loaded, { url, headers: { Authorization: "wrong" } });
  expect(refused).toMatchObject({ code: "network", message: expect.stringMatching(/401.*headers/) });
});

test("a conversation reads only what is new, in OpenAI's shape", async ({ page }) => {
  const seen = await run(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 1, cache: false });
      const messages: BitNetWeb.ChatMessage[] = [{ role: "user", content: "Tell me a story about a fox named Rusty in the forest." }];
      const story = await model.chat.completions.create({ messages, temperature: 0, max_tokens: 300 });
      messages.push({ role: "assistant", content: story.choices[0].message.content }, { role: "user", content: "What is 47 + 38?" });
      let sum = "";
      let usage;
      for await (const chunk of await model.chat.completions.create({ messages, temperature: 0, stream: true })) {
        sum += chunk.choices[0].delta.content ?? "";
        usage = chunk.usage;
      }
      messages.push({ role: "assistant", content: sum }, { role: "user", content: "Hello!" });
      const third = await model.chat.completions.create({ messages, temperature: 0 });
      const tokens = await model.tokenize("Hello world");
      const text = await model.detokenize(tokens);
      model.dispose();
      return { story: story.choices[0].message.content, sum, usage, third: third.usage, text };
    },
    null,
  );
  expect(seen.story).toContain("Rusty");
  expect(seen.sum).toBe("47 + 38 = 85.");
  // Everything up to the last answer, which is spelled with other tokens now that something follows it.
  const known = seen.third.prompt_tokens_details.cached_tokens;
  expect(known).toBeGreaterThanOrEqual((seen.usage?.prompt_tokens ?? 0) - 2);
  expect(seen.text.trim()).toBe("Hello world");
});

test("a chat template can be given, with variables of its own", async ({ page }) => {
  const seen = await run(
    page,
    async ({ BitNet }) => {
      const source = `{% if enable_thinking is false %}{{ raise_exception("told not to think") }}{% endif -%}
        User: {{ messages[-1].content }}<|eot_id|>Assistant: {% set done = true %}`;
      const failed = (error: unknown) => [(error as { code?: string }).code, String(error)].join(" ");
      const model = await BitNet.demo({ threads: 1, cache: false, chatTemplate: { source } });
      const messages = [{ role: "user", content: "What is 47 + 38?" }];
      const sum = await model.chat.completions.create({ messages, temperature: 0 });
      const told = await model.chat.completions
        .create({ messages, chat_template_kwargs: { enable_thinking: false } })
        .then(String, failed);
      const prompt = (() => {
        try {
          return String(model.generate("a", { chatTemplateKwargs: {} }));
        } catch (error) {
          return failed(error);
        }
      })();
      model.dispose();
      const unknown = await BitNet.demo({ threads: 1, cache: false, chatTemplate: { name: "rag" } }).then(String, failed);
      return { sum: sum.choices[0].message.content, told, prompt, unknown };
    },
    null,
  );
  expect(seen.sum).toBe("47 + 38 = 85.");
  expect(seen.told).toMatch(/^template .*told not to think/);
  expect(seen.prompt).toMatch(/^argument .*chatTemplateKwargs/);
  expect(seen.unknown).toMatch(/^argument .*"rag"/);
});

test("disposing gives memory back: 100 times", async ({ page, browser }) => {
  const client = await browser.newBrowserCDPSession();
  /** Bytes that the page's process and those it started hold, where the system tells. */
  const held = async () => {
    const { processInfo } = await client.send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    const sizes = await Promise.all(
      renderers.map(async ({ id }) => {
        const status = await readFile(`/proc/${id}/status`, "utf8").catch(() => "");
        return 1024 * Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
      }),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  };
  const cycles = (count: number) =>
    run(
      page,
      async ({ BitNet }, count) => {
        const file = await (await fetch("/package/demo.gguf")).blob();
        for (let i = 0; i < count; i += 1) {
          const model = await BitNet.load(file, { threads: i % 10 === 0 ? 2 : 1 });
          await model.generate("Once", { maxTokens: 2 }).text();
          model.dispose();
        }
      },
      count,
    );
  await cycles(10);
  const before = await held();
  await cycles(90);
  // What nobody holds goes when the collector comes by, and the processes of ended Workers a while after that.
  const collector = await page.context().newCDPSession(page);
  let after = 0;
  for (let look = 0; look < 20; look += 1) {
    await collector.send("HeapProfiler.collectGarbage");
    await page.waitForTimeout(500);
    after = await held();
    if (after - before < 40 << 20) {
      break;
    }
  }
  console.log(`after 10 and after 100 cycles: ${before >> 20} and ${after >> 20} MiB`);
  // One model that stays would be more than all of this.
  expect(after - before).toBeLessThan(40 << 20);
});
