// How fast this device is, as a table that can be shared.

import type { BitNet, Timings } from "bitnet-web";
import { element, figure, made, nameOf } from "./dom.js";

const button = element("button", "run-benchmark");
const out = element("div", "benchmark-out");

const ROUNDS = 3;
const PROMPT_TOKENS = 128;
const NEW_TOKENS = 64;

/** Measures `model` by the button. `idle` waits until nothing else is being written. */
export function connectBenchmark(current: () => BitNet | undefined, onError: (error: unknown) => void): void {
  button.addEventListener("click", () => {
    const model = current();
    if (model === undefined) {
      return;
    }
    button.disabled = true;
    run(model)
      .catch(onError)
      .finally(() => {
        button.disabled = false;
      });
  });
}

async function run(model: BitNet): Promise<void> {
  const runs: Timings[] = [];
  const length = Math.min(PROMPT_TOKENS, model.info.contextLength - NEW_TOKENS - 1);
  for (let round = 0; round <= ROUNDS; round += 1) {
    out.textContent = round === 0 ? "Warming up …" : `Round ${round} of ${ROUNDS} …`;
    // Another first token each time, so that nothing is known from before.
    const prompt = Uint32Array.from({ length }, (_, i) => (round * 31 + i * 17 + 5) % Math.min(model.info.vocabulary, 1000));
    const generation = model.generate(prompt, { maxTokens: NEW_TOKENS, temperature: 0, ignoreEnd: true, speculate: false });
    await generation.text();
    if (round > 0 && generation.timings !== undefined) {
      runs.push(generation.timings);
    }
  }
  show(model, {
    prefill: median(runs.map((run) => run.promptRate)),
    decode: median(runs.map((run) => run.decodeRate)),
    length,
  });
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function show(model: BitNet, { prefill, decode, length }: { prefill: number; decode: number; length: number }): void {
  const { info } = model;
  const rows: [string, string][] = [
    ["Model", nameOf(info)],
    ["Weights", `${(info.parameters / 1e6).toFixed(1)} million`],
    ["Runs on", info.device],
    ["Browser", browser()],
    [`Reads a prompt of ${length}`, `${figure(prefill)} tokens/s`],
    [`Writes ${NEW_TOKENS} tokens`, `${figure(decode)} tokens/s`],
  ];
  const table = made("table");
  for (const [name, value] of rows) {
    const row = table.insertRow();
    const head = made("th", "", name);
    head.scope = "row";
    row.append(head, made("td", "number", value));
  }
  const text = ["| BitNet in the browser | |", "| --- | --- |", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
  const copy = made("button", "", "Copy as a table");
  copy.type = "button";
  copy.addEventListener("click", () => {
    navigator.clipboard.writeText(text).then(
      () => (copy.textContent = "Copied"),
      () => {
        const area = made("textarea", "", text);
        area.readOnly = true;
        area.rows = rows.length + 2;
        copy.replaceWith(area);
        area.select();
      },
    );
  });
  out.replaceChildren(table, copy);
}

/** The browser and its version, from what it says. */
function browser(): string {
  const agent = navigator.userAgent;
  const found = /(Firefox|Edg|Chrome)\/(\d+)/.exec(agent) ?? /(Version)\/(\d+).*Safari/.exec(agent);
  const names: Record<string, string> = { Edg: "Edge", Version: "Safari" };
  return found === null ? "unknown" : `${names[found[1] ?? ""] ?? found[1]} ${found[2]}`;
}
