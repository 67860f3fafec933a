// The demo site, as built.

import { expect, type Page, test } from "@playwright/test";

/** Waits until the opening story has been told. */
async function opened(page: Page) {
  await expect(page.locator(".message.assistant").first()).toContainText("Rusty", { timeout: 60_000 });
  await expect(page.locator(".facts-line").first()).toBeVisible({ timeout: 60_000 });
}

/** Nothing may be asked of other hosts. */
test.beforeEach(async ({ page, baseURL }) => {
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith("http")) {
      expect(origin).toBe(new URL(baseURL ?? "").origin);
    }
  });
  page.on("pageerror", (error) => {
    throw error;
  });
});

test("opens telling a story, and answers", async ({ page }) => {
  const begin = Date.now();
  let transferred = 0;
  page.on("response", (response) => {
    transferred += Number(response.headers()["content-length"] ?? 0);
  });
  await page.goto("/");
  await expect(page.locator(".message.assistant").first()).toContainText(/\w+ \w+/, { timeout: 60_000 });
  console.log(`first words after ${Date.now() - begin} ms`);
  await opened(page);
  await page.getByRole("button", { name: "What is 47 + 38?" }).click();
  await expect(page.locator(".message.assistant").nth(1)).toContainText("47 + 38 = 85.");
  await page.getByLabel("Message", { exact: true }).fill("Hello!");
  await page.keyboard.press("Enter");
  await expect(page.locator(".message.assistant").nth(2)).toContainText("story");
  await expect(page.locator("#gauge-rate")).toHaveText(/\d/);
  await expect(page.locator("#gauge-memory")).toHaveText(/MB/);
  await expect(page.locator("#likely li")).toHaveCount(8);
  await expect(page.locator("#attention span").nth(5)).toBeVisible();
  await expect(page.locator("#histogram")).toHaveAttribute("aria-label", /percent/);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
});

test("dark, benchmark, settings", async ({ page }) => {
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto("/");
  await opened(page);
  await page.getByRole("tab", { name: "Benchmark" }).click();
  await page.getByRole("button", { name: "Run the benchmark" }).click();
  await expect(page.locator("#benchmark-out table")).toBeVisible({ timeout: 60_000 });
  await page.getByRole("tab", { name: "Settings" }).click();
  await expect(page.locator("#facts")).toContainText("webgpu is not used");
  await page.getByRole("button", { name: /light and dark/ }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "light");
  await page.getByRole("button", { name: /demo/ }).click();
});

test("answers in the form of a schema", async ({ page }) => {
  await page.goto("/");
  await opened(page);
  await page.getByRole("tab", { name: "Settings" }).click();
  const schema = page.getByLabel(/a JSON schema/);
  await schema.fill("{");
  await expect(page.locator("#schema-state")).toContainText("no JSON");
  await schema.fill('{"type":"object","properties":{"sum":{"type":"integer"}},"required":["sum"],"additionalProperties":false}');
  await expect(page.locator("#schema-state")).toHaveText("Answers have this form.");
  await page.locator("#prompt").fill("What is 47 + 38?");
  await page.locator("#send").click();
  await expect(page.locator(".facts-line")).toHaveCount(2, { timeout: 30_000 });
  const answer = await page.locator(".message.assistant").last().textContent();
  const { sum } = JSON.parse(answer?.replace("Model: ", "") ?? "") as { sum: unknown };
  expect(typeof sum).toBe("number");
});

test("a phone", async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto("/");
  await opened(page);
  await page.getByRole("tab", { name: "Inside" }).click();
  await expect(page.locator("#plane")).toBeVisible();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  expect(wide, "nothing sticks out at the side").toBe(false);
  await page.getByRole("tab", { name: "Chat" }).click();
  await expect(page.locator("#composer")).toBeVisible();
});

for (const [name, width, height] of [["a narrow phone", 320, 640], ["a phone on its side", 844, 390], ["twice the size", 640, 400]] as const) {
  test(`${name}: nothing sticks out, and there is room for the conversation`, async ({ page }) => {
    await page.setViewportSize({ width, height });
    await page.goto("/");
    await opened(page);
    for (const tab of ["Inside", "Benchmark", "Settings", "Chat"]) {
      await page.getByRole("tab", { name: tab }).click();
      expect(await page.evaluate(() => document.documentElement.scrollWidth), tab).toBeLessThanOrEqual(width);
    }
    expect(await page.locator("#log").evaluate(({ clientHeight }) => clientHeight)).toBeGreaterThanOrEqual(120);
  });
}

/** Says something and waits for what comes of it. */
async function say(page: Page, text: string) {
  const answers = await page.locator(".facts-line:not(.forgotten-line)").count();
  await page.locator("#prompt").fill(text);
  await page.keyboard.press("Enter");
  await expect(async () => {
    const more = (await page.locator(".facts-line:not(.forgotten-line)").count()) > answers;
    // An alert may be there from earlier: what could not be answered is in the field again.
    expect(more || (await page.locator("#prompt").inputValue()) === text).toBe(true);
  }).toPass({ timeout: 60_000 });
}

test("the demo model gets its suggestions right", async ({ page }) => {
  // The same story each time.
  await page.addInitScript(() => localStorage.setItem("bitnet-preferences", JSON.stringify({ seed: 4 })));
  await page.goto("/");
  await opened(page);
  const answers = ["The story is about Rusty.", "Rusty went to the forest.", "Rusty felt ", "47 + 38 = 85."];
  for (const [index, answer] of answers.entries()) {
    await page.locator("#ideas button").nth(index).click();
    await expect(page.locator(".facts-line")).toHaveCount(index + 2, { timeout: 30_000 });
    await expect(page.locator(".message.assistant").last()).toContainText(answer);
  }
});

test("a message that is too long goes back to its field, and a long conversation lets go of its oldest turns", async ({ page }) => {
  await page.goto("/");
  await opened(page);
  const long = "x ".repeat(1500).trim();
  await say(page, long);
  await expect(page.getByRole("alert")).toContainText("longer than this model can read");
  await expect(page.locator("#prompt")).toHaveValue(long);
  await expect(page.locator(".message.user")).toHaveCount(1);
  await say(page, "What is 47 + 38?");
  await expect(page.locator(".message.assistant").last()).toContainText("47 + 38 = 85.");
  for (let turn = 0; turn < 4; turn += 1) {
    await say(page, "Once upon a time there was a small boy and a big dog. ".repeat(14));
  }
  await say(page, "What is 47 + 38?");
  await expect(page.locator(".message.assistant").last()).toContainText("47 + 38 = 85.");
  await expect(page.locator(".forgotten-line")).toHaveCount(1);
  await expect(page.locator(".message.forgotten").first()).toContainText("fox named Rusty");
});

test("a wrong address leaves the model and the conversation as they were", async ({ page }) => {
  await page.goto("/");
  await opened(page);
  await page.locator("#model-chip").click();
  await page.locator("#url").fill("/file/demo.gguf?status=404");
  await page.locator("#pick-url button").click();
  await expect(page.getByRole("alert")).toContainText("404");
  await expect(page.locator(".message")).toHaveCount(2);
  await say(page, "What is 47 + 38?");
  await expect(page.locator(".message.assistant").last()).toContainText("47 + 38 = 85.");
  await page.locator("#model-chip").click();
  await expect(page.locator("#kept")).toHaveText("");
});

test("opens where storage is blocked and no headers are sent", async ({ page }) => {
  await page.addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, {
        get() {
          throw new DOMException("denied", "SecurityError");
        },
      });
    }
  });
  await page.goto("/static/");
  await opened(page);
});

test("a file of one's own, and one that is no model", async ({ page }) => {
  await page.goto("/");
  await opened(page);
  await page.locator("#pick-file").setInputFiles({ name: "broken.gguf", mimeType: "", buffer: Buffer.from("GGUF nonsense") });
  await expect(page.getByRole("alert")).toContainText("damaged");
  await expect(page.getByRole("alert")).toHaveAttribute("data-code", "bad-file");
  await page.locator("#pick-file").setInputFiles("package/dist/demo.gguf");
  await expect(page.locator("#load")).toBeHidden({ timeout: 30_000 });
  await expect(page.locator("#model-name")).toHaveText("demo");
  await expect(page.locator(".message")).toHaveCount(0);
  await page.getByLabel("Message", { exact: true }).fill("What is 1 + 2?");
  await page.keyboard.press("Enter");
  await expect(page.locator(".message.assistant")).toHaveCount(1);
});

test("works again without a network, and on a host that sends no headers", async ({ page, context }) => {
  await page.goto("/static/");
  await opened(page);
  expect(await page.evaluate(() => crossOriginIsolated), "the service worker isolates the page").toBe(true);
  // Kept when the model has been told to be.
  await page.waitForFunction(async () => {
    const cache = await caches.open("bitnet-site-1");
    return (await cache.keys()).some(({ url }) => url.endsWith(".gguf"));
  });
  // Files of an earlier build go.
  const old = await page.evaluate(async () => {
    const cache = await caches.open("bitnet-site-1");
    const url = new URL("assets/demo-OLDBUILD.gguf", location.href).href;
    await cache.put(url, new Response("old"));
    return url;
  });
  await page.reload();
  await opened(page);
  await page.waitForFunction(async (old) => !(await (await caches.open("bitnet-site-1")).match(old)), old);
  await context.setOffline(true);
  await page.reload();
  await opened(page);
});

test("a model that embeds searches texts", async ({ page }) => {
  await page.goto("/");
  await opened(page);
  const text = (name: string, content: string) => ({ name, mimeType: "text/plain", buffer: Buffer.from(content) });
  await page.locator("#pick-file").setInputFiles("../crates/bitnet/tests/vectors/tiny-qwen3.gguf");
  const search = page.getByRole("region", { name: "Search in texts" });
  await expect(search).toBeVisible();
  await expect(page.locator("#composer")).toBeHidden();
  await page.locator("#pick-texts").setInputFiles([text("hands.txt", "the hand and a tin"), text("long.txt", "It was a day to remember. ".repeat(60))]);
  await expect(page.locator("#search-state")).toHaveText("4 passages of 2 files");
  await page.getByLabel("Search for").fill("hand");
  await page.keyboard.press("Enter");
  await expect(page.locator("#found li")).toHaveCount(4);
  await expect(page.locator("#found")).toContainText("hands.txt");
  await page.locator("#pick-file").setInputFiles("package/dist/demo.gguf");
  await expect(page.locator("#composer")).toBeVisible();
  await expect(search).toBeHidden();
});
