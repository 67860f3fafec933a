// What was seen so far, as a page and a plot: written after every turn, so that a run that is stopped leaves what it has.

import { writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { median } from "./browser.mjs";
import { workFor } from "./comparison.mjs";
import { KERNELS } from "./native.mjs";

/** Tokens per CPU-second against wllama, threads, page, memory; speed beside native kernels: what the project wants to reach. */
const TARGETS = { decode: 2.5, prefill: 3, idle: 1.6, busy: 0.9, first: 2.5, bytes: 12e6, memory: 1.5, native: 0.55, nativeMemory: 1.4 };

export const figure = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Medians of what the turns of one program on one file saw. */
function summary(turns) {
  const keys = ["load", "prefill", "prefillCpu", "decode", "decodeCpu", "memory", "memoryShare", "ownShare", "leastShare"];
  return { device: turns[0].device, turns: turns.length, ...Object.fromEntries(keys.map((key) => [key, median(turns.map((turn) => turn[key]))])) };
}

function compared({ turns }) {
  const files = [...new Set(turns.map(({ file }) => file))];
  return files.flatMap((file) => {
    const of = (program) => turns.filter((turn) => turn.file === file && turn.program === program);
    const [ours, theirs] = [of("bitnet-web"), of("wllama")];
    return ours.length > 0 && theirs.length > 0 ? [{ file, ours: summary(ours), theirs: summary(theirs) }] : [];
  });
}

function comparison(rows) {
  if (rows.length === 0) {
    return [];
  }
  const devices = [...new Set(rows.map(({ ours }) => ours.device))].join("; ");
  return [
    "## Beside wllama",
    "",
    "One thread, the same files, in turns, a browser for each; medians. CPU seconds are those of all the browser's processes; wall times depend on what else the machine does.",
    "Peak memory is that of the page's process. Its own is what the browser's task manager calls a tab's memory: the whole has the browser's program besides, which all its processes share, and which an empty page has too.",
    `bitnet-web: ${devices}. wllama: ${rows[0].theirs.device}.`,
    "",
    "| file | program | read / written | turns | load s | prefill tok/s | per CPU-second | decode tok/s | per CPU-second | peak MiB | of the file | own, of the file |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.flatMap(({ file, ours, theirs }) => {
      const { prompt, write } = workFor(file);
      return [["bitnet-web", ours], ["wllama", theirs]].map(
        ([program, side]) =>
          `| ${file} | ${program} | ${prompt} / ${write} | ${side.turns} | ${[side.load, side.prefill, side.prefillCpu, side.decode, side.decodeCpu].map(figure).join(" | ")} | ${side.memory.toFixed(0)} | ${side.memoryShare.toFixed(2)}× | ${side.ownShare.toFixed(2)}× |`,
      );
    }),
    "",
  ];
}

/** Medians of what was seen of each file beside the native program. */
function natively({ natives }) {
  const files = [...new Set(natives.map(({ file }) => file))];
  return files.map((file) => {
    const turns = natives.filter((turn) => turn.file === file);
    const keys = Object.keys(turns[0]).filter((key) => typeof turns[0][key] === "number");
    return { file, device: turns[0].device, turns: turns.length, ...Object.fromEntries(keys.map((key) => [key, median(turns.map((turn) => turn[key]))])) };
  });
}

function native(rows) {
  if (rows.length === 0) {
    return [];
  }
  return [
    "## Beside the native program",
    "",
    `One thread; the native command with kernels \`${KERNELS}\`, of 128 bits as the browser's; wall times, medians. Of the memory of the page's process its delta nets' states are not counted.`,
    "",
    "| file | device | read / written | turns | load s | prefill tok/s | native | decode tok/s | native | peak MiB | of the file | own, of the file |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.map((row) => {
      const { prompt, write } = workFor(row.file);
      const rates = [row.load, row.prefill, row.nativePrefill, row.decode, row.nativeDecode].map(figure).join(" | ");
      return `| ${row.file} | ${row.device} | ${prompt} / ${write} | ${row.turns} | ${rates} | ${row.memory.toFixed(0)} | ${row.memoryShare.toFixed(2)}× | ${row.ownShare.toFixed(2)}× |`;
    }),
    "",
  ];
}

function threading(scalings) {
  if (scalings.length === 0) {
    return [];
  }
  const row = (file, how, what, rates, ratio) => `| ${file} | ${how} | ${what} | ${figure(rates[0])} | ${figure(rates[1])} | ${ratio.toFixed(2)}× |`;
  return [
    "## Two threads against one",
    "",
    `Wall time, in turns, in one page. ${os.cpus().length} logical cores; for "one core busy" another program computes without end.`,
    "",
    "| file | cores | | 1 thread tok/s | 2 threads tok/s | ratio |",
    "| --- | --- | --- | --- | --- | --- |",
    ...scalings.flatMap(({ file, idle, busy }) =>
      [["idle", idle], ["one core busy", busy]].flatMap(([how, seen]) => [
        row(file, how, "decode", seen.decodeRates, seen.decode),
        row(file, how, "prefill", seen.prefillRates, seen.prefill),
      ]),
    ),
    "",
  ];
}

function page(openings) {
  if (openings.length === 0) {
    return [];
  }
  const first = openings.map((opening) => opening.first);
  return [
    "## The demo page, opened for the first time",
    "",
    `First words after ${figure(median(first))} s (${first.map(figure).join(", ")}; from localhost, a new browser each time); ${(median(openings.map(({ bytes }) => bytes)) / 1e6).toFixed(2)} MB come over the line, uncompressed, what is kept for offline use included.`,
    "",
  ];
}

/** Each target, what was seen, and whether that is enough. */
function verdicts(seen, rows, natives) {
  const lines = [];
  const add = (what, wanted, found, met) => lines.push(`| ${what} | ${wanted} | ${found} | ${met ? "met" : "missed"} |`);
  for (const { file, ours, theirs } of rows.filter(({ file }) => file.includes("tq2_0"))) {
    for (const what of ["decode", "prefill"]) {
      const ratio = ours[`${what}Cpu`] / theirs[`${what}Cpu`];
      add(`${what} against wllama, ${file}, per CPU-second`, `≥ ${TARGETS[what]}×`, `${ratio.toFixed(2)}×`, ratio >= TARGETS[what]);
    }
  }
  for (const { file, idle, busy } of seen.scalings) {
    for (const what of ["decode", "prefill"]) {
      add(`two threads against one, idle: ${what}, ${file}`, `≥ ${TARGETS.idle}×`, `${idle[what].toFixed(2)}×`, idle[what] >= TARGETS.idle);
      add(`two threads against one, one core busy: ${what}, ${file}`, `≥ ${TARGETS.busy}×`, `${busy[what].toFixed(2)}×`, busy[what] >= TARGETS.busy);
    }
  }
  if (seen.openings.length > 0) {
    const first = median(seen.openings.map((opening) => opening.first));
    const bytes = median(seen.openings.map((opening) => opening.bytes));
    add("demo page: first words", `≤ ${TARGETS.first} s`, `${figure(first)} s`, first <= TARGETS.first);
    add("demo page: transfer", `≤ ${TARGETS.bytes / 1e6} MB`, `${(bytes / 1e6).toFixed(2)} MB`, bytes <= TARGETS.bytes);
  }
  for (const { file, ours } of rows.filter(({ file }) => file.includes("700m"))) {
    const least = `an empty page and the file alone: ${ours.leastShare.toFixed(2)}×`;
    add(`peak memory of the page's process, ${file}`, `≤ ${TARGETS.memory}× the file`, `${ours.memoryShare.toFixed(2)}× (${least})`, ours.memoryShare <= TARGETS.memory);
    add(`peak memory of its own, ${file}`, `≤ ${TARGETS.memory}× the file`, `${ours.ownShare.toFixed(2)}×`, ours.ownShare <= TARGETS.memory);
  }
  for (const row of natives) {
    for (const what of ["decode", "prefill"]) {
      const ratio = row[what] / row[what === "decode" ? "nativeDecode" : "nativePrefill"];
      add(`${what} against the native program, ${row.file}`, `≥ ${TARGETS.native}×`, `${ratio.toFixed(2)}×`, ratio >= TARGETS.native);
    }
    const least = `an empty page and the file alone: ${row.leastShare.toFixed(2)}×`;
    add(`peak memory of its own less states, ${row.file}`, `≤ ${TARGETS.nativeMemory}× the file`, `${row.ownShare.toFixed(2)}× (with the browser's program ${row.memoryShare.toFixed(2)}×; ${least})`, row.ownShare <= TARGETS.nativeMemory);
  }
  return lines.length === 0 ? [] : ["| target | wanted | measured | |", "| --- | --- | --- | --- |", ...lines, ""];
}

/** Bars of tokens per CPU-second, ours and theirs. */
function plot(rows) {
  const [width, left] = [680, 200];
  const bars = [];
  let y = 34;
  for (const { file, ours, theirs } of rows) {
    for (const what of ["decode", "prefill"]) {
      const most = Math.max(ours[`${what}Cpu`], theirs[`${what}Cpu`]);
      bars.push(`<text x="${left - 10}" y="${y + 21}" text-anchor="end">${file.replace("bitnet-", "")} ${what}</text>`);
      for (const [program, side, colour] of [["bitnet-web", ours, "#c8501c"], ["wllama", theirs, "#8a8f98"]]) {
        const value = side[`${what}Cpu`];
        const length = ((width - left - 120) * value) / most;
        bars.push(`<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="15" rx="3" fill="${colour}"/><text x="${(left + length + 6).toFixed(1)}" y="${y + 12}">${program} ${figure(value)}</text>`);
        y += 18;
      }
      y += 10;
    }
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="11" fill="#6b7280"><text x="${left}" y="18" font-size="13">tokens per CPU-second of the browser, one thread</text>${bars.join("")}</svg>\n`;
}

/** Writes `folder`/web.md and web.svg; returns the page's text. */
export async function write(folder, seen) {
  const rows = compared(seen);
  const natives = natively(seen);
  const lines = [
    "# In the browser",
    "",
    `${seen.browser}; ${os.cpus()[0]?.model ?? "unknown processor"}, ${os.cpus().length} logical cores; load average ${seen.load.map(figure).join(", ")} before the run. ` +
      `Written by \`cargo xtask bench-web\`${seen.complete ? "" : " (not all turns are in yet)"}.`,
    "",
    ...verdicts(seen, rows, natives),
    ...comparison(rows),
    ...(rows.length > 0 ? ["![tokens per CPU-second](web.svg)", ""] : []),
    ...native(natives),
    ...threading(seen.scalings),
    ...page(seen.openings),
  ];
  const text = lines.join("\n");
  await writeFile(path.join(folder, "web.md"), text);
  if (rows.length > 0) {
    await writeFile(path.join(folder, "web.svg"), plot(rows));
  }
  return text;
}
