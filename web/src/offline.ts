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
    if (crossOriginIsolated || sessionStorage.getItem(RELOADED) !== null) {
      return false;
    }
    sessionStorage.setItem(RELOADED, "yes");
  } catch {
    // Private windows and file: pages have no service worker, and who blocks storage has nothing to count loads in: everything else works.
    return false;
  }
  await navigator.serviceWorker.ready;
  location.reload();
  return true;
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
  const address = (name: string) => new URL(name, location.href).href;
  const fetched = __ASSETS__.filter((name) => /worker-.*\.js$|\.gguf$/.test(name) || name.includes(`bitnet-${variant}-`));
  const urls = [...new Set([location.href, ...own, ...fetched.map(address)])];
  active?.postMessage({ kind: "keep", urls, build: __ASSETS__.map(address) });
}
