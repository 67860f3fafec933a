import { defineConfig } from "@playwright/test";

/** Where tests/server.mjs listens. */
const PORT = 4199;

export default defineConfig({
  testDir: "tests",
  testMatch: "*.browser.ts",
  outputDir: "test-results",
  // One browser at a time: the model takes all cores.
  workers: 1,
  timeout: 120_000,
  reporter: [["list"]],
  use: {
    baseURL: `http://localhost:${PORT}`,
    browserName: "chromium",
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info"],
    },
  },
  webServer: {
    command: `node tests/server.mjs ${PORT}`,
    port: PORT,
    reuseExistingServer: false,
  },
});
