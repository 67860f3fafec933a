// Keeps the site for offline use, and gives its pages the headers that threads need where the host cannot.
//
// Addresses of built files contain a hash of their content: what is kept of them is never stale. Pages are asked for anew and come
// from here only without a network.

const KEPT = "bitnet-site-1";

self.addEventListener("install", () => self.skipWaiting());

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith("bitnet-site-") && name !== KEPT).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

/** The page says what it was made of, since the first visit was served without this worker. */
self.addEventListener("message", (event) => {
  if (event.data?.kind === "keep") {
    const { urls, build } = event.data;
    event.waitUntil(keep(urls).then(() => removeOthers(build)));
  }
});

/** Removes built files that are not of this build. */
async function removeOthers(build) {
  const cache = await caches.open(KEPT);
  const others = (await cache.keys()).filter(({ url }) => isBuilt(url) && !build.includes(url));
  await Promise.all(others.map((request) => cache.delete(request)));
}

function isBuilt(url) {
  return /\/assets\//.test(new URL(url).pathname);
}

async function keep(urls) {
  const cache = await caches.open(KEPT);
  await Promise.all(
    urls.map(async (url) => {
      if (!(await cache.match(url))) {
        const response = await fetch(url);
        if (response.ok) {
          await cache.put(url, response);
        }
      }
    }),
  );
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // Ranges and what belongs to others go their way.
  if (request.method !== "GET" || request.headers.has("range") || new URL(request.url).origin !== self.location.origin) {
    return;
  }
  event.respondWith(answer(request).then(isolated));
});

async function answer(request) {
  const cache = await caches.open(KEPT);
  const hashed = isBuilt(request.url);
  if (hashed) {
    const kept = await cache.match(request.url);
    if (kept) {
      return kept;
    }
  }
  try {
    const response = await fetch(request);
    if (response.ok && response.status === 200 && (hashed || request.mode === "navigate")) {
      await cache.put(request.url, response.clone()).catch(() => undefined);
    }
    return response;
  } catch (error) {
    const kept = (await cache.match(request.url)) ?? (request.mode === "navigate" ? await cache.match("./") : undefined);
    if (kept) {
      return kept;
    }
    throw error;
  }
}

function isolated(response) {
  if (response.type === "opaque" || response.type === "opaqueredirect" || response.redirected) {
    return response;
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
