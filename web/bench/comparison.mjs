// One turn of one program on one file, with one thread, in a browser of its own. What counts is the CPU time of all the browser's
// processes: it does not depend on what else the machine does.

import { stat } from "node:fs/promises";
import path from "node:path";
import { cpuSeconds, inBrowser, watchMemory } from "./browser.mjs";
import { callOf, text } from "./programs.mjs";

/** Tokens to read and to write: fewer where the slower program would take minutes. */
export function workFor(file) {
  const large = /700m|bonsai2/.test(file);
  const slow = /tq1_0/.test(file);
  return { prompt: large ? (slow ? 32 : 64) : 128, write: large ? (slow ? 8 : 16) : 32 };
}

export async function turn(address, program, file) {
  const { prompt, write } = workFor(file);
  const { size } = await stat(file);
  return inBrowser(async (page, client) => {
    await page.goto(`${address}/blank.html`);
    const watch = await watchMemory(client);
    const begin = performance.now();
    const device = await page.evaluate(callOf(program, path.basename(file), 1));
    const load = (performance.now() - begin) / 1000;
    const run = async (tokens, writes, number) => {
      const before = await cpuSeconds(client);
      const seen = await page.evaluate(`run(${JSON.stringify(text(tokens, number))}, ${writes})`);
      return { ...seen, cpu: (await cpuSeconds(client)) - before };
    };
    await run(8, 2, 1);
    const prefill = await run(prompt, 1, 2);
    const decode = await run(2, write + 1, 3);
    const { resident, own, empty } = await watch.end();
    return {
      device,
      load,
      prefill: prefill.read / (prefill.readTime / 1000),
      prefillCpu: prefill.read / prefill.cpu,
      decode: decode.wrote / (decode.writeTime / 1000),
      decodeCpu: decode.wrote / decode.cpu,
      memory: resident / 2 ** 20,
      memoryShare: resident / size,
      ownShare: own / size,
      leastShare: (empty + size) / size,
    };
  });
}
