import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  testMatch: "*.browser.ts",
  outputDir: "test-results",
  // One browser at a time: the model takes all cores.
  workers: 1,
  timeout: 120_000,
  reporter: [["list"]],
  use: {
    // Where tests/server.mjs listens: what it says becomes a variable.
    baseURL: `http://localhost:${process.env["BITNET_TEST_PORT"] ?? 0}`,
    browserName: "chromium",
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info"],
    },
  },
  webServer: {
    command: "node tests/server.mjs",
    wait: { stdout: /listening on port (?<bitnet_test_port>\d+)/ },
  },
});
