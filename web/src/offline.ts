// The service worker: headers for threads where the host sends none, and the site without a network.

const RELOADED = "bitnet-reloaded";

/**
 * Registers it. Where the host did not isolate the page, the worker does so from the next load on, which is begun here, once.
 * Returns whether the page is about to be loaded again.
 */
export async function connectOffline(): Promise<boolean> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) {
    return false;
  }
  try {
    await navigator.serviceWorker.register("service-worker.js");
  } catch {
    // Private windows and file: pages have none; everything else works.
    return false;
  }
  if (!crossOriginIsolated && sessionStorage.getItem(RELOADED) === null) {
    sessionStorage.setItem(RELOADED, "yes");
    await navigator.serviceWorker.ready;
    location.reload();
    return true;
  }
  return false;
}

/** Has everything kept that the page was made of, the demo model and the build `variant` of the core included. */
export async function keepForOffline(variant: string): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) {
    return;
  }
  const { active } = await navigator.serviceWorker.ready;
  const own = performance
    .getEntriesByType("resource")
    .map(({ name }) => name)
    .filter((name) => new URL(name).origin === location.origin);
  // What the model's Worker fetched is in its own list: the build says what it is.
  const fetched = __WORKER_ASSETS__
    .filter((name) => !name.endsWith(".wasm") || name.includes(`bitnet-${variant}-`))
    .map((name) => new URL(name, location.href).href);
  const urls = [...new Set([location.href, ...own, ...fetched])];
  active?.postMessage({ kind: "keep", urls });
}
