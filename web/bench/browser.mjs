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

/** Numbers of bytes in a process's status that begin with `name`; 0 where the system does not tell. */
async function status(id, name) {
  const text = await readFile(`/proc/${id}/status`, "utf8").catch(() => "");
  return 1024 * Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)?.[1] ?? 0);
}

/**
 * Watches the memory of the page's processes: `resident` is the most that one of them has held, with what it shares with others (the
 * browser's program among it), `own` the most that was its own whenever it was looked at, `empty` what it held before the work.
 */
export async function watchMemory(client) {
  const renderers = async () => {
    const { processInfo } = await client.send("SystemInfo.getProcessInfo");
    return processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  };
  const most = async (name) => Math.max(0, ...(await Promise.all((await renderers()).map((id) => status(id, name)))));
  const empty = await most("VmHWM");
  let own = 0;
  const look = async () => {
    own = Math.max(own, await most("RssAnon"));
  };
  const timer = setInterval(() => void look().catch(() => undefined), 100);
  return {
    async end() {
      clearInterval(timer);
      await look();
      return { resident: await most("VmHWM"), own, empty };
    },
  };
}

/** The middle one. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
