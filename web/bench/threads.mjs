// Two threads against one, in turns, in the same page: with idle cores, and with one core kept busy by another program. Wall time.

import { spawn } from "node:child_process";
import path from "node:path";
import { inBrowser, median } from "./browser.mjs";
import { text } from "./programs.mjs";

/** Runs of either. */
const RUNS = 3;
const [PROMPT, WRITE] = [96, 32];

/** In the page: a model for each number of threads. */
async function prepare(name) {
  const { BitNet } = await import("/package/index.js");
  const models = new Map();
  for (const threads of [1, 2]) {
    models.set(threads, await BitNet.load(`/bench/${name}`, { threads, cache: false, contextLength: 512 }));
  }
  globalThis.runOn = async (threads, prompt, maxTokens) => {
    const generation = models.get(threads).generate(prompt, { maxTokens, temperature: 0, ignoreEnd: true, speculate: false });
    await generation.text();
    return { prefill: generation.timings.promptRate, decode: generation.timings.decodeRate };
  };
  return models.get(2).info.device;
}

/** Ratios of two threads to one: `{ device, idle: { prefill, decode }, busy: { … } }`, each with the rates behind it. */
export async function scaling(address, file) {
  return inBrowser(async (page) => {
    await page.goto(`${address}/blank.html`);
    const device = await page.evaluate(`(${prepare.toString()})(${JSON.stringify(path.basename(file))})`);
    let number = 0;
    const run = (threads) => {
      number += 1;
      return page.evaluate(`runOn(${threads}, ${JSON.stringify(text(PROMPT, number))}, ${WRITE + 1})`);
    };
    const compare = async () => {
      const seen = { 1: [], 2: [] };
      for (let i = 0; i < RUNS; i += 1) {
        for (const threads of i % 2 === 0 ? [1, 2] : [2, 1]) {
          seen[threads].push(await run(threads));
        }
      }
      const rates = (what) => [1, 2].map((threads) => median(seen[threads].map((rate) => rate[what])));
      const [prefill, decode] = [rates("prefill"), rates("decode")];
      return { prefill: prefill[1] / prefill[0], decode: decode[1] / decode[0], prefillRates: prefill, decodeRates: decode };
    };
    await run(1);
    await run(2);
    const idle = await compare();
    const busy = await beside(compare);
    return { device, idle, busy };
  });
}

/** Runs `work` while another program keeps one core busy. */
async function beside(work) {
  const spinner = spawn(process.execPath, ["-e", "for (;;) {}"]);
  try {
    return await work();
  } finally {
    spinner.kill();
  }
}
