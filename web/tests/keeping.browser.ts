// What a browser keeps: sessions that go on after the page has gone, and downloads where there is no private file system.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, type Page, test } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";
import { failure, open, run } from "./page.js";

type Package = typeof BitNetWeb;

const DEMO = path.join(path.dirname(fileURLToPath(import.meta.url)), "../package/dist/demo.gguf");

test.beforeEach(({ page }) => open(page));

/** Tells half a story and saves it; then what comes next, in the same model. */
async function tell({ BitNet }: Package, { name, workerUrl, threads }: { name: string; workerUrl?: string; threads?: number }) {
  const model = await BitNet.demo({ threads: threads ?? 1, cache: false, ...(workerUrl === undefined ? {} : { workerUrl }) });
  const generation = model.generate("Once upon a time", { maxTokens: 50, seed: 5 });
  await generation.text();
  const saved = await model.session.save(name);
  const tokens = Array.from(await model.tokens());
  const likeliest = JSON.stringify(await model.likeliest({ count: 4096 }));
  const next = await model.generate(Uint32Array.from(tokens), { maxTokens: 40, seed: 6 }).text();
  model.dispose();
  return { saved: { ...saved, saved: saved.saved.getTime() }, tokens, likeliest, next };
}

/** Goes on with a session, in a model of its own. */
async function goOn({ BitNet }: Package, { name, workerUrl, threads }: { name: string; workerUrl?: string; threads?: number }) {
  const model = await BitNet.restore(name, { threads: threads ?? 1, cache: false, ...(workerUrl === undefined ? {} : { workerUrl }) });
  const tokens = Array.from(await model.tokens());
  const likeliest = JSON.stringify(await model.likeliest({ count: 4096 }));
  const generation = model.generate(Uint32Array.from(tokens), { maxTokens: 40, seed: 6 });
  const next = await generation.text();
  const { cachedTokens } = generation.timings ?? { cachedTokens: 0 };
  model.dispose();
  return { tokens, likeliest, next, cachedTokens };
}

for (const [where, workerUrl] of [
  ["the private file system", undefined],
  ["the Cache API", "/package/worker.js?without=files"],
] as const) {
  test(`a session saved in ${where} goes on with the same bits after a reload`, async ({ page }) => {
    if (workerUrl !== undefined) {
      await page.addInitScript(() => Reflect.deleteProperty(StorageManager.prototype, "getDirectory"));
      await open(page);
    }
    const place = workerUrl === undefined ? {} : { workerUrl };
    const told = await run(page, tell, { name: "fox", ...place });
    expect(told.saved).toMatchObject({ name: "fox", tokens: told.tokens.length, source: "demo" });
    expect(told.saved.bytes).toBeGreaterThan(50_000);
    await open(page);
    // Another number of threads changes nothing.
    const went = await run(page, goOn, { name: "fox", threads: 2, ...place });
    expect(went.tokens).toEqual(told.tokens);
    expect(went.likeliest).toBe(told.likeliest);
    expect(went.next).toBe(told.next);
    expect(went.cachedTokens).toBe(told.tokens.length - 1);
    // Saved again, it is replaced; removed, it is gone.
    await run(page, tell, { name: "fox", ...place });
    const listed = await run(
      page,
      async ({ savedSessions }) => {
        const before = await savedSessions.list();
        const removed = [await savedSessions.remove("fox"), await savedSessions.remove("fox")];
        return { names: before.map(({ name }) => name), removed, after: await savedSessions.list() };
      },
      null,
    );
    expect(listed).toEqual({ names: ["fox"], removed: [true, false], after: [] });
    expect(await failure(page, goOn, { name: "fox", ...place })).toMatchObject({ code: "argument" });
    if (workerUrl === undefined) {
      const left = await page.evaluate(async () => {
        const names: string[] = [];
        const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("bitnet-web-sessions");
        for await (const name of (home as unknown as { keys(): AsyncIterable<string> }).keys()) {
          names.push(name);
        }
        return names;
      });
      expect(left, "no file is left behind").toEqual([]);
    }
  });
}

test("a session that was damaged, or is another model's, is refused, and the model stays as it was", async ({ page }) => {
  const seen = await run(
    page,
    async ({ BitNet }) => {
      const model = await BitNet.demo({ threads: 1, cache: false });
      await model.generate("Once upon a time", { maxTokens: 20 }).text();
      await model.session.save("damaged");
      const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("bitnet-web-sessions");
      const { file } = JSON.parse(await (await (await home.getFileHandle((await first(home, ".json"))!)).getFile()).text()) as { file: string };
      async function first(folder: FileSystemDirectoryHandle, end: string) {
        for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) {
          if (name.endsWith(end)) {
            return name;
          }
        }
        return undefined;
      }
      const codes: string[] = [];
      const attempt = async (other: typeof model) => {
        const before = (await other.tokens()).length;
        try {
          await other.session.restore("damaged");
          codes.push("none");
        } catch (error) {
          codes.push((error as { code: string }).code, (error as Error).message);
        }
        codes.push(String((await other.tokens()).length - before));
      };
      const rounded = await BitNet.demo({ threads: 1, cache: false, activations: "f32" });
      await attempt(rounded);
      rounded.dispose();
      const handle = await home.getFileHandle(file);
      const size = (await handle.getFile()).size;
      const writable = await handle.createWritable({ keepExistingData: true });
      await writable.write({ type: "write", position: size / 2, data: new Uint8Array([1, 2, 3, 4]) });
      await writable.close();
      await attempt(model);
      const short = await handle.createWritable({ keepExistingData: true });
      await short.truncate(1000);
      await short.close();
      await attempt(model);
      const text = await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text();
      model.dispose();
      return { codes, text };
    },
    null,
  );
  expect(seen.codes[0]).toBe("bad-file");
  expect(seen.codes[1]).toContain("whose weights or options are others");
  expect(seen.codes.slice(2, 4)).toEqual(["0", "bad-file"]);
  expect(seen.codes.slice(5, 7)).toEqual(["0", "bad-file"]);
  expect(seen.codes[7]).toContain("an end in the middle");
  expect(seen.codes[8]).toBe("0");
  expect(seen.text).toMatch(/^, there was a kind boy\./);
});

test("the model of a session that came from a file must be given again", async ({ page }) => {
  const seen = await run(
    page,
    async ({ BitNet }) => {
      const file = await (await fetch("/package/demo.gguf")).blob();
      const model = await BitNet.load(file, { threads: 1, contextLength: 512 });
      await model.generate("Once upon a time", { maxTokens: 5 }).text();
      await model.session.save();
      model.dispose();
      let code = "none";
      try {
        await BitNet.restore();
      } catch (error) {
        code = (error as { code: string }).code;
      }
      const again = await BitNet.restore(undefined, { source: file, threads: 1 });
      const { contextLength } = again.info;
      const tokens = (await again.tokens()).length;
      again.dispose();
      return { code, contextLength, tokens };
    },
    null,
  );
  expect(seen).toEqual({ code: "argument", contextLength: 512, tokens: 10 });
});

test("full storage leaves the earlier session as it was", async ({ page, context }) => {
  const first = await run(page, tell, { name: "quota" });
  const client = await context.newCDPSession(page);
  const origin = new URL(page.url()).origin;
  await client.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: first.saved.bytes + (64 << 10) });
  expect(await failure(page, tell, { name: "quota" })).toMatchObject({ code: "quota" });
  const went = await run(page, goOn, { name: "quota" });
  expect(went.tokens).toEqual(first.tokens);
});

/** Loads through the Cache API. */
async function byCache({ BitNet }: Package, { url, stop }: { url: string; stop?: number }) {
  const controller = new AbortController();
  const model = await BitNet.load(url, {
    threads: 1,
    cache: true,
    workerUrl: "/package/worker.js?without=files",
    signal: controller.signal,
    onProgress: ({ phase, done }) => {
      if (stop !== undefined && phase === "download" && done > stop) {
        controller.abort();
      }
    },
  });
  const text = await model.generate("Once upon a time", { maxTokens: 10, temperature: 0 }).text();
  const { cached, fallbacks } = model.info;
  model.dispose();
  return { text, cached, fallbacks };
}

async function keepsInTheCache(page: Page) {
  await page.addInitScript(() => Reflect.deleteProperty(StorageManager.prototype, "getDirectory"));
  await open(page);
  const key = `cache-${Math.random()}`;
  const url = `/file/demo.gguf?delay=80&key=${key}`;
  expect(await failure(page, byCache, { url, stop: 4_800_000 })).toMatchObject({ code: "aborted" });
  const first = await run(page, byCache, { url });
  expect(first.text).toMatch(/^, there was a kind boy\./);
  expect(first.cached).toBe(false);
  expect(first.fallbacks.find(({ wanted }) => wanted === "private file system")?.used).toBe("Cache API");
  const log = (await (await page.request.get("/log")).json()) as string[];
  // From the last whole segment.
  expect(log.filter((line) => line.includes(key))[1]).toContain(`bytes=${4 << 20}-`);
  const second = await run(page, byCache, { url });
  expect(second.text).toMatch(/^, there was a kind boy\./);
  expect(second.cached).toBe(true);
  return url;
}

test("without a private file system downloads are kept in the Cache API, and go on there", async ({ page }) => {
  const url = await keepsInTheCache(page);
  const listed = await run(
    page,
    async ({ modelCache }, url) => {
      const before = await modelCache.list();
      const absolute = new URL(url, location.href).href;
      const removed = [await modelCache.remove(absolute), await modelCache.remove(absolute)];
      return { before, removed, after: await modelCache.list(), persisted: typeof (await modelCache.persist()) };
    },
    url,
  );
  expect(listed.before).toHaveLength(1);
  expect(listed.before[0]).toMatchObject({ complete: true, bytes: 6174016 });
  expect(listed).toMatchObject({ removed: [true, false], after: [], persisted: "boolean" });
});

for (const workerUrl of [undefined, "/package/worker.js?without=files"]) {
  test(`what is kept was opened before, ${workerUrl === undefined ? "in files" : "in the Cache API"}`, async ({ page }) => {
    if (workerUrl !== undefined) {
      await page.addInitScript(() => Reflect.deleteProperty(StorageManager.prototype, "getDirectory"));
      await open(page);
    }
    const place = workerUrl === undefined ? {} : { workerUrl };
    const load = async ({ BitNet }: Package, { url, ...options }: { url: string } & BitNetWeb.LoadOptions) => {
      const model = await BitNet.load(url, { threads: 1, ...options });
      const { cached, fallbacks } = model.info;
      model.dispose();
      return { cached, said: fallbacks.map(({ wanted }) => wanted) };
    };
    const list = () => run(page, async ({ modelCache }) => (await modelCache.list()).map(({ bytes, complete }) => ({ bytes, complete })), null);
    const asked = async (key: string) => ((await (await page.request.get("/log")).json()) as string[]).filter((line) => line.includes(key));
    // A page to sign in in its place, an address where there is nothing, a server that fails.
    const address = (key: string, more = "") => `/file/demo.gguf?key=${key}${more}`;
    const key = `poison-${Math.random()}`;
    expect(await failure(page, load, { url: address(key, "&corrupt=0,1"), ...place })).toMatchObject({ code: "bad-file" });
    expect(await failure(page, load, { url: address(key, "&status=503"), ...place })).toMatchObject({ code: "network" });
    expect(await list()).toEqual([]);
    expect(await run(page, load, { url: address(key, "&corrupt=0,1"), ...place })).toMatchObject({ cached: false });
    expect(await run(page, load, { url: address(key, "&corrupt=0,1"), ...place })).toMatchObject({ cached: true });
    expect(await list()).toEqual([{ bytes: 6174016, complete: true }]);
    // Several at once read what is kept.
    const together = await run(
      page,
      async ({ BitNet }, { url, ...options }) => {
        const models = await Promise.all([1, 2, 3].map(() => BitNet.load(url, { threads: 1, cache: true, ...options })));
        models.forEach((model) => model.dispose());
        return models.map(({ info }) => info.cached);
      },
      { url: address(key, "&corrupt=0,1"), ...place },
    );
    expect(together).toEqual([true, true, true]);
    // The server has another file now: with another hash, or only if asked.
    const changed = `changed-${Math.random()}`;
    // A byte of a name, which opens as well.
    const url = address(changed, "&corrupt=6174000,1");
    const sha256 = createHash("sha256").update(readFileSync(DEMO)).digest("hex");
    expect(await run(page, load, { url, ...place })).toMatchObject({ cached: false });
    expect(await run(page, load, { url, ...place })).toMatchObject({ cached: true });
    expect(await run(page, load, { url, cache: "revalidate", ...place })).toMatchObject({ cached: false });
    expect(await run(page, load, { url, cache: "revalidate", ...place })).toMatchObject({ cached: true });
    expect(await run(page, load, { url, sha256, ...place })).toMatchObject({ cached: true });
    const other = address(`hash-${Math.random()}`, "&corrupt=6174000,1");
    await run(page, load, { url: other, ...place });
    expect(await run(page, load, { url: other, sha256, ...place })).toMatchObject({ cached: false });
    expect(await run(page, load, { url: other, sha256, ...place })).toMatchObject({ cached: true });
    expect(await asked(changed)).toHaveLength(4);
  });
}

test("of the demo model one version is kept", async ({ page }) => {
  const urls = await run(
    page,
    async ({ BitNet, modelCache }) => {
      const { BitNet: Later } = (await import("/package//index.js" as string)) as Package;
      for (const each of [BitNet, Later]) {
        (await each.demo({ threads: 1 })).dispose();
      }
      return (await modelCache.list()).map(({ url }) => url);
    },
    null,
  );
  expect(urls).toEqual([expect.stringContaining("/package//demo.gguf")]);
});

test("one page at a time writes a download", async ({ page }) => {
  await page.addInitScript(() => Reflect.deleteProperty(StorageManager.prototype, "getDirectory"));
  await open(page);
  const seen = await run(
    page,
    async ({ BitNet }, url) => {
      const load = (cache: boolean | "auto") => BitNet.load(url, { threads: 1, cache, workerUrl: "/package/worker.js?without=files" });
      const first = load(true);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const second = await load("auto");
      const { fallbacks } = second.info;
      second.dispose();
      (await first).dispose();
      return fallbacks;
    },
    `/file/demo.gguf?delay=50&key=two-${Math.random()}`,
  );
  expect(seen.find(({ wanted }) => wanted === "cache")?.reason).toContain("another page");
});
