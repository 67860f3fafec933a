// A browser that is measured, and the server of its pages.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "@playwright/test";

const here = path.dirname(fileURLToPath(import.meta.url));

/** Starts the tests' server, with the files of `folder` under /bench/. */
export async function serve(folder) {
  const process_ = spawn(process.execPath, [path.join(here, "../tests/server.mjs"), folder], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve, reject) => {
    process_.stdout.on("data", (text) => {
      const found = /port (\d+)/.exec(text);
      if (found !== null) {
        resolve(Number(found[1]));
      }
    });
    process_.on("exit", () => reject(new Error("the server ended")));
  });
  return { address: `http://localhost:${port}`, stop: () => process_.kill() };
}

/** Runs `work` with a page of a browser of its own. */
export async function inBrowser(work) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    const client = await browser.newBrowserCDPSession();
    const page = await browser.newPage();
    page.setDefaultTimeout(600_000);
    return await work(page, client, browser);
  } finally {
    await browser.close();
  }
}

/** Seconds of CPU time that the browser and all its processes have used. */
export async function cpuSeconds(client) {
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

/** The most memory that a process of the page has held, in bytes; 0 where the system does not tell. */
export async function peakMemory(client) {
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  let peak = 0;
  for (const { type, id } of processInfo) {
    const status = type === "renderer" ? await readFile(`/proc/${id}/status`, "utf8").catch(() => "") : "";
    peak = Math.max(peak, 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
  }
  return peak;
}

/** The middle one. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
