// Every main view as a picture, to be looked at: in test-results/views, and for the README in BITNET_PICTURES where that is set.

import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, type Page, test } from "@playwright/test";

const VIEWS = "test-results/views";
/** Sizes in CSS pixels. */
const [DESK, PHONE] = [
  { width: 1280, height: 800 },
  { width: 390, height: 844 },
];

async function opened(page: Page, size: { width: number; height: number }, colorScheme: "light" | "dark") {
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme });
  // The same story each time.
  await page.addInitScript(() => localStorage.setItem("bitnet-preferences", JSON.stringify({ seed: 4 })));
  await page.goto("/");
  await expect(page.locator(".facts-line").first()).toBeVisible({ timeout: 60_000 });
}

/** Nothing sticks out at the side, and every text can be read against what is behind it. */
async function isSound(page: Page) {
  expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
}

for (const colour of ["light", "dark"] as const) {
  test(`the desk, ${colour}`, async ({ page }) => {
    const view = async (name: string) => {
      await isSound(page);
      await page.screenshot({ path: `${VIEWS}/desk-${name}-${colour}.png` });
    };
    await opened(page, DESK, colour);
    await expect(page.locator("#likely li")).toHaveCount(8);
    await uncertain(page);
    await forReadme(page, `demo-${colour}`);
    await page.getByRole("button", { name: "What is 47 + 38?" }).click();
    await expect(page.locator(".facts-line").nth(1)).toBeVisible();
    await view("chat");
    await page.locator("#view-inside").evaluate((view) => view.scrollTo(0, view.scrollHeight));
    await view("inside-below");
    await page.getByRole("tab", { name: "Benchmark" }).click();
    await page.getByRole("button", { name: "Run the benchmark" }).click();
    await expect(page.locator("#benchmark-out table")).toBeVisible({ timeout: 60_000 });
    await view("benchmark");
    await page.getByRole("tab", { name: "Settings" }).click();
    await view("settings");
    await page.locator("#pick-file").setInputFiles({ name: "broken.gguf", mimeType: "", buffer: Buffer.from("GGUF nonsense") });
    await expect(page.getByRole("alert")).toBeVisible();
    await view("error");
    await page.locator("#model-chip").click();
    await view("picker");
  });

  test(`the phone, ${colour}`, async ({ page }) => {
    const view = async (name: string) => {
      await isSound(page);
      await page.screenshot({ path: `${VIEWS}/phone-${name}-${colour}.png` });
    };
    await opened(page, PHONE, colour);
    await view("chat");
    for (const name of ["Inside", "Benchmark", "Settings"]) {
      await page.getByRole("tab", { name }).click();
      await view(name.toLowerCase());
    }
    await page.getByRole("tab", { name: "Chat" }).click();
    await page.locator("#model-chip").click();
    await view("picker");
  });
}

/** Moves to a place in the text where the model was of two minds. */
async function uncertain(page: Page) {
  const back = page.locator("#back");
  for (let value = 36; value > 0; value -= 1) {
    const before = await page.locator("#before").textContent();
    await back.fill(`${value}`);
    await expect(page.locator("#before")).not.toHaveText(before ?? "");
    if (Number.parseFloat((await page.locator("#likely .number").first().textContent()) ?? "100") < 60) {
      break;
    }
  }
  await back.blur();
}

/** A picture for the README, as WebP. */
async function forReadme(page: Page, name: string) {
  const folder = process.env["BITNET_PICTURES"];
  if (folder === undefined) {
    return;
  }
  const png = (await page.screenshot()).toString("base64");
  const webp = await page.evaluate(async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    canvas.getContext("2d")?.drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.9);
  }, png);
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, `${name}.webp`), Buffer.from(webp.slice(webp.indexOf(",") + 1), "base64"));
}
