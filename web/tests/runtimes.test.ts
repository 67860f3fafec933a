// The package outside of browsers.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";

const SCRIPT = `
const { BitNet } = await import(${JSON.stringify(pathToFileURL(path.resolve("package/dist/index.js")).href)});
try {
  const model = await BitNet.demo({ threads: 1, cache: false });
  console.log((await model.generate("Once upon a time", { maxTokens: 6, temperature: 0 }).text()).trim());
  model.dispose();
} catch (error) {
  console.log(error.name, error.code, error.message);
}
`;

/** What a program prints that runs the script, if there is one. */
function printed(program: string, ...options: string[]): string | undefined {
  const folder = mkdtempSync(path.join(tmpdir(), "bitnet-web-"));
  try {
    const script = path.join(folder, "main.mjs");
    writeFileSync(script, SCRIPT);
    const { stdout, stderr, error } = spawnSync(program, [...options, script], { encoding: "utf8", timeout: 60_000 });
    return error === undefined ? `${stdout}${stderr}` : undefined;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("Node has no Worker of the kind that browsers have, and that is said", () => {
  expect(printed(process.execPath)).toMatch(/^BitNetError unavailable .*Node/);
});

for (const [program, ...options] of [["deno", "run", "--allow-all"], ["bun"]] as [string, ...string[]][]) {
  test(`${program} runs the model, where it is installed`, (context) => {
    const said = printed(program, ...options);
    if (said === undefined) {
      context.skip(`there is no ${program}`);
    }
    expect(said).toBe(", there was a kind boy\n");
  }, 70_000);
}
