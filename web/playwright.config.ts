import { defineConfig } from "@playwright/test";

/** A browser that keeps to itself; lan.test is a machine of the local network, whose pages are not secure. */
const ARGUMENTS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info", "--host-resolver-rules=MAP lan.test 127.0.0.1"];
/** WebGPU by Chromium's own software, where there is no graphics card. */
const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--enable-features=Vulkan,WebGPUService", "--use-webgpu-adapter=swiftshader"];

const launchOptions = (more: string[] = []) => ({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: [...ARGUMENTS, ...more],
});

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
  },
  projects: [
    { name: "processor", testIgnore: "webgpu.browser.ts", use: { launchOptions: launchOptions() } },
    { name: "graphics", testMatch: "webgpu.browser.ts", use: { launchOptions: launchOptions(SOFTWARE_GPU) } },
  ],
  webServer: {
    command: "node tests/server.mjs",
    wait: { stdout: /listening on port (?<bitnet_test_port>\d+)/ },
  },
});
