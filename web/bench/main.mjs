// bitnet-web measured: beside wllama (llama.cpp as WebAssembly), beside the native command BITNET, with two threads, and the demo
// page.
//
// BITNET=… node bench/main.mjs REPORT ROUNDS FILE…
//
// Writes REPORT/web.md and web.svg after every turn.

import os from "node:os";
import path from "node:path";
import { inBrowser, serve } from "./browser.mjs";
import { turn } from "./comparison.mjs";
import { besideNative, isForNative } from "./native.mjs";
import { opening } from "./opening.mjs";
import { PROGRAMS } from "./programs.mjs";
import { write } from "./report.mjs";
import { scaling } from "./threads.mjs";

/** How often the demo page is opened. */
const OPENINGS = 5;

const [report, rounds, ...files] = process.argv.slice(2);
const begin = performance.now();
const seen = {
  load: os.loadavg(),
  browser: await inBrowser((_, __, browser) => `Chromium ${browser.version()}`),
  turns: [],
  natives: [],
  scalings: [],
  openings: [],
  complete: false,
};
const server = await serve(path.dirname(files[0]));

/** Notes what was measured, and says so. */
async function note(list, what, result) {
  list.push(result);
  await write(report, seen);
  console.log(`${Math.round((performance.now() - begin) / 1000)} s: ${what}: ${JSON.stringify(result)}`);
}

try {
  for (let i = 1; i <= OPENINGS; i += 1) {
    await note(seen.openings, `demo page ${i}`, await opening(server.address));
  }
  for (const file of files.filter((name) => name.includes("tq2_0"))) {
    const name = path.basename(file, ".gguf");
    await note(seen.scalings, `threads, ${name}`, { file: name, ...(await scaling(server.address, file)) });
  }
  for (let round = 1; round <= Number(rounds); round += 1) {
    for (const file of files) {
      const name = path.basename(file, ".gguf");
      if (isForNative(file)) {
        await note(seen.natives, `round ${round}, ${name}, beside native`, { file: name, ...(await besideNative(server.address, process.env.BITNET, file)) });
        continue;
      }
      // Who begins changes from round to round.
      const programs = Object.keys(PROGRAMS);
      for (const program of round % 2 === 1 ? programs : programs.reverse()) {
        await note(seen.turns, `round ${round}, ${name}, ${program}`, { file: name, program, ...(await turn(server.address, program, file)) });
      }
    }
  }
  seen.complete = true;
  console.log(await write(report, seen));
} finally {
  server.stop();
}
