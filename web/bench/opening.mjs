// The demo page as a first visitor sees it: how long until the first words, and how many bytes come over the line.

import { inBrowser } from "./browser.mjs";

export async function opening(address) {
  return inBrowser(async (page) => {
    await fetch(`${address}/sent`);
    const begin = performance.now();
    await page.goto(address);
    await page.waitForFunction(() => /\w/.test(document.querySelector(".message.assistant")?.lastChild?.data ?? ""), undefined, { polling: 20 });
    const first = (performance.now() - begin) / 1000;
    await page.waitForSelector(".facts-line");
    // What is kept for offline use comes afterwards, and counts.
    await page.waitForTimeout(3000);
    const bytes = Number(await (await fetch(`${address}/sent`)).text());
    return { first, bytes };
  });
}
