// bitnet-web beside wllama (llama.cpp as WebAssembly): the same files, the same Chromium, in turns.
//
// node bench/compare.mjs REPORT ROUNDS FILE…
//
// Every turn is a browser of its own: it loads the file, reads a prompt, and writes text. What counts is the CPU time of all the
// browser's processes: it does not depend on what else the machine does. Writes REPORT/web.md and web.svg.

import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "@playwright/test";

const [report, rounds, ...files] = process.argv.slice(2);
const here = path.dirname(fileURLToPath(import.meta.url));
const PORT = 4198;
const PROMPT = 128;
const WRITE = 32;
const PROGRAMS = ["bitnet-web", "wllama"];

/** Seconds of CPU time that the browser and all its processes have used. */
async function cpuSeconds(client) {
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

/** The most memory that a process of the page has held, in bytes; 0 where the system does not tell. */
async function peakMemory(client) {
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  let peak = 0;
  for (const { type, id } of processInfo) {
    const status = type === "renderer" ? await readFile(`/proc/${id}/status`, "utf8").catch(() => "") : "";
    peak = Math.max(peak, 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
  }
  return peak;
}

/** In the page: `run(prompt, tokens)` says how many tokens it read and wrote, and in how much time. */
const LOADERS = {
  async "bitnet-web"(name, threads) {
    const { BitNet } = await import("/package/index.js");
    const model = await BitNet.load(`/bench/${name}`, { threads, cache: false, contextLength: 1024 });
    globalThis.run = async (prompt, maxTokens) => {
      const generation = model.generate(prompt, { maxTokens, temperature: 0, ignoreEnd: true, speculate: false });
      await generation.text();
      const { promptTokens, cachedTokens, promptMilliseconds, generatedTokens, decodeMilliseconds } = generation.timings;
      return { read: promptTokens - cachedTokens, readTime: promptMilliseconds, wrote: generatedTokens - 1, writeTime: decodeMilliseconds };
    };
    return `${model.info.device}, ${model.info.variant}`;
  },
  async wllama(name, threads) {
    const { Wllama } = await import("/modules/@wllama/wllama/esm/index.js");
    const wllama = new Wllama({ default: "/modules/@wllama/wllama/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
    const file = await (await fetch(`/bench/${name}`)).blob();
    await wllama.loadModel([file], { n_threads: threads, n_ctx: 1024, n_gpu_layers: 0, warmup: false });
    globalThis.run = async (prompt, max_tokens) => {
      const { timings } = await wllama.createCompletion({ prompt, max_tokens, temperature: 0, ignore_eos: true, cache_prompt: false });
      return { read: timings.prompt_n, readTime: timings.prompt_ms, wrote: timings.predicted_n - 1, writeTime: timings.predicted_ms };
    };
    return `llama.cpp ${Wllama.getLibllamaVersion()}, ${wllama.getNumThreads()} thread(s)`;
  },
};

/** Text of about so many tokens, another for each number: words that no tokenizer joins. */
function text(tokens, number) {
  return Array.from({ length: tokens }, (_, i) => String.fromCharCode(33 + ((i * 37 + number * 11 + ((i * i) % 13)) % 90))).join("");
}

async function turn(program, file, threads) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    const client = await browser.newBrowserCDPSession();
    const page = await browser.newPage();
    page.setDefaultTimeout(600_000);
    await page.goto(`http://localhost:${PORT}/blank.html`);
    const begin = performance.now();
    const device = await page.evaluate(`(${LOADERS[program].toString().replace(/^async "?[\w-]+"?/, "async function")})(${JSON.stringify(path.basename(file))}, ${threads})`);
    const load = (performance.now() - begin) / 1000;
    const run = async (tokens, write, number) => {
      const before = await cpuSeconds(client);
      const seen = await page.evaluate(`run(${JSON.stringify(text(tokens, number))}, ${write})`);
      return { ...seen, cpu: (await cpuSeconds(client)) - before };
    };
    await run(8, 2, 1);
    const prefill = await run(PROMPT, 1, 2);
    const decode = await run(2, WRITE + 1, 3);
    return {
      device,
      load,
      prefill: prefill.read / (prefill.readTime / 1000),
      prefillCpu: prefill.read / prefill.cpu,
      decode: decode.wrote / (decode.writeTime / 1000),
      decodeCpu: decode.wrote / decode.cpu,
      memory: (await peakMemory(client)) / 2 ** 20,
      tokens: `${prefill.read}/${decode.wrote}`,
    };
  } finally {
    await browser.close();
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const figure = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Bars of tokens per CPU-second, ours and theirs. */
function plot(rows) {
  const width = 640;
  const left = 190;
  const bars = [];
  let y = 34;
  for (const { name, ours, theirs } of rows) {
    for (const what of ["decode", "prefill"]) {
      const most = Math.max(ours[`${what}Cpu`], theirs[`${what}Cpu`]);
      for (const [program, side, colour] of [["bitnet-web", ours, "#c8501c"], ["wllama", theirs, "#8a8f98"]]) {
        const value = side[`${what}Cpu`];
        const length = ((width - left - 90) * value) / most;
        bars.push(`<text x="${left - 8}" y="${y + 12}" text-anchor="end" font-size="11">${program === "bitnet-web" ? `${name} ${what}` : ""}</text>`);
        bars.push(`<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="15" rx="3" fill="${colour}"/><text x="${left + length + 6}" y="${y + 12}" font-size="11">${program} ${figure(value)}</text>`);
        y += 18;
      }
      y += 8;
    }
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 6}" font-family="system-ui, sans-serif" fill="#6b7280"><text x="${left}" y="18" font-size="13">tokens per CPU-second of the browser, one thread</text>${bars.join("")}</svg>\n`;
}

const server = spawn(process.execPath, [path.join(here, "../tests/server.mjs"), String(PORT), path.dirname(files[0])], { stdio: "inherit" });
try {
  await new Promise((resolve) => setTimeout(resolve, 500));
  const seen = new Map();
  for (let round = 1; round <= Number(rounds); round += 1) {
    for (const file of files) {
      // Who begins changes from round to round.
      for (const program of round % 2 === 1 ? PROGRAMS : [...PROGRAMS].reverse()) {
        const result = await turn(program, file, 1);
        const key = `${path.basename(file, ".gguf")} ${program}`;
        seen.set(key, [...(seen.get(key) ?? []), result]);
        console.log(`${round} ${key}: ${JSON.stringify(result)}`);
      }
    }
  }
  const summary = (name, program) => {
    const turns = seen.get(`${name} ${program}`);
    const keys = ["load", "prefill", "prefillCpu", "decode", "decodeCpu", "memory"];
    return { device: turns[0].device, ...Object.fromEntries(keys.map((key) => [key, median(turns.map((turn) => turn[key]))])) };
  };
  const rows = files.map((file) => {
    const name = path.basename(file, ".gguf");
    return { name, ours: summary(name, "bitnet-web"), theirs: summary(name, "wllama") };
  });
  const lines = [
    "# In the browser: bitnet-web beside wllama",
    "",
    `Chromium, one thread, the same files, in turns; medians of ${rounds} round(s); prompt of ${PROMPT}, ${WRITE} tokens written. ` +
      "CPU seconds are those of all the browser's processes; wall times depend on what else the machine does.",
    "",
    `bitnet-web: ${rows[0].ours.device}. wllama: ${rows[0].theirs.device}.`,
    "",
    "| file | program | load s | prefill tok/s | per CPU-second | decode tok/s | per CPU-second | peak MiB |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.flatMap(({ name, ours, theirs }) =>
      [["bitnet-web", ours], ["wllama", theirs]].map(
        ([program, side]) =>
          `| ${name} | ${program} | ${[side.load, side.prefill, side.prefillCpu, side.decode, side.decodeCpu].map(figure).join(" | ")} | ${side.memory.toFixed(0)} |`,
      ),
    ),
    "",
    "| file | prefill, ours ÷ theirs per CPU-second | decode |",
    "| --- | --- | --- |",
    ...rows.map(({ name, ours, theirs }) => `| ${name} | ${figure(ours.prefillCpu / theirs.prefillCpu)}× | ${figure(ours.decodeCpu / theirs.decodeCpu)}× |`),
    "",
    "![tokens per CPU-second](web.svg)",
    "",
  ];
  await writeFile(path.join(report, "web.md"), lines.join("\n"));
  await writeFile(path.join(report, "web.svg"), plot(rows));
  console.log(lines.join("\n"));
} finally {
  server.kill();
}
