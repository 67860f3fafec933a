// Serves the site, the package and files, with the faults that tests ask for.
//
// node server.mjs [FOLDER]     listens on a free port and says which
//
// /                   the built site                        /package/…   the package as npm publishes it
// /blank.html         an empty page, cross-origin isolated  /plain.html  one without the headers; ?csp=POLICY
// /bare/…             the package without any header
// /bench/NAME         a file of FOLDER                      /modules/…   an npm package that we are compared with
// /consumers/…        pages that bundlers made of tests/consumers
// /sent               bytes of all bodies since the last time it was asked for
// …?without=NAME      a script for browsers where something is missing: files (the private file system), threads
// /file/NAME          a file of the package: ranges, ETag, and these parameters:
//   break=N           the connection breaks after N bytes, once for each key
//   key=K             tells tests apart
//   ranges=no         answers a range with the whole file
//   delay=MS          waits before every 256 KiB
//   corrupt=N         byte N is another; `corrupt=N,M` only in the first M answers for each key
//   status=N          that answer
//   secret=TEXT       401 without the header `Authorization: TEXT`
//   cors=LIST         pages of other origins may read it, and see these headers besides the usual ones; preflights are refused
//   modified=DATE     when it was changed last
//   gzip=yes          a whole file goes compressed

import { createServer } from "node:http";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const PACKAGE = path.join(here, "../package/dist");
const ROOTS = { site: path.join(here, "../dist"), package: PACKAGE, bare: PACKAGE, modules: path.join(here, "../node_modules"), consumers: path.join(here, "../node_modules/.cache/bitnet-consumers") };
const TYPES = {
  ".css": "text/css",
  ".gguf": "application/octet-stream",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};
const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const PIECE = 256 << 10;
const broken = new Set();
/** How often a file was asked for, by key. */
const counts = new Map();
/** What was asked for, so that tests can look: lines of `path range`. */
const log = [];

/** Bytes of bodies, since they were asked for. */
let sent = 0;
/** Put before a script, this makes a browser that lacks something. */
const WITHOUT = {
  files: "delete StorageManager.prototype.getDirectory;\n",
  threads: 'if (self.name === "bitnet thread") throw new Error("no threads today");\n',
};

async function answer(request, response) {
  const url = new URL(request.url, "http://localhost");
  const write = response.write.bind(response);
  const end = response.end.bind(response);
  response.write = (body, ...rest) => ((sent += body.length), write(body, ...rest));
  response.end = (body, ...rest) => ((sent += body?.length ?? 0), end(body, ...rest));
  let isolated = url.pathname === "/plain.html" || /^\/(static|bare)\//.test(url.pathname) ? {} : ISOLATED;
  if (url.pathname.startsWith("/package/")) {
    // As a CDN does.
    isolated = { ...isolated, "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" };
  }
  const send = (status, type, body) => response.writeHead(status, { "content-type": type, ...isolated }).end(body);
  if (url.pathname === "/sent") {
    const count = sent;
    send(200, "application/json", String(count));
    sent = 0;
    return undefined;
  }
  if (url.pathname === "/log") {
    return send(200, "application/json", JSON.stringify(log));
  }
  if (["/blank.html", "/plain.html"].includes(url.pathname)) {
    const csp = url.searchParams.get("csp");
    isolated = csp === null ? isolated : { ...isolated, "Content-Security-Policy": csp };
    return send(200, TYPES[".html"], "<!doctype html><title>blank</title>");
  }
  if (url.pathname.startsWith("/file/")) {
    return sendFile(url, request, response, isolated);
  }
  if (url.pathname.startsWith("/bench/")) {
    const file = path.join(process.argv[2] ?? ROOTS.package, path.basename(url.pathname));
    const { size } = await stat(file);
    response.writeHead(200, { "content-type": TYPES[".gguf"], "content-length": size, ...isolated });
    return createReadStream(file).pipe(response);
  }
  const known = Object.entries(ROOTS).find(([name]) => url.pathname.startsWith(`/${name}/`));
  const [root, rest] = known !== undefined
    ? [known[1], url.pathname.slice(known[0].length + 2)]
    : [ROOTS.site, url.pathname.replace(/^\/(static\/)?/, "")];
  const file = path.join(root, path.normalize(rest === "" || rest.endsWith("/") ? `${rest}index.html` : rest));
  if (!file.startsWith(root)) {
    return send(404, "text/plain", "not found");
  }
  try {
    let body = await readFile(file);
    const without = url.searchParams.get("without");
    if (without !== null) {
      body = Buffer.concat([Buffer.from(WITHOUT[without]), body]);
    }
    return send(200, TYPES[path.extname(file)] ?? "application/octet-stream", body);
  } catch {
    return send(404, "text/plain", "not found");
  }
}

async function sendFile(url, request, response, isolated) {
  const parameters = url.searchParams;
  const name = path.basename(url.pathname);
  const bytes = await readFile(path.join(ROOTS.package, name));
  const key = `${parameters.get("key")}`;
  const count = (counts.get(key) ?? 0) + 1;
  if (request.method === "GET") {
    counts.set(key, count);
  }
  if (request.method === "OPTIONS") {
    return response.writeHead(405).end();
  }
  const [place, times = Infinity] = (parameters.get("corrupt") ?? "").split(",").filter(Boolean).map(Number);
  const corrupt = place !== undefined && count <= times;
  if (corrupt) {
    bytes[place] ^= 0xff;
  }
  if (parameters.has("secret") && request.headers.authorization !== parameters.get("secret")) {
    return response.writeHead(401, isolated).end();
  }
  if (parameters.has("status")) {
    return response.writeHead(Number(parameters.get("status")), isolated).end();
  }
  const range = parameters.get("ranges") === "no" ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
  log.push(`${request.method === "GET" ? "" : `${request.method} `}${url.pathname}${url.search} ${request.headers.range ?? ""}`.trim());
  const start = range === null ? 0 : Number(range[1]);
  const headers = {
    "content-type": TYPES[".gguf"],
    "content-length": bytes.length - start,
    etag: `"${name}-${bytes.length}${corrupt ? "-corrupt" : ""}"`,
    ...isolated,
    ...(parameters.has("modified") ? { "last-modified": parameters.get("modified") } : {}),
    ...(parameters.has("cors") ? { "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": parameters.get("cors"), "Cross-Origin-Resource-Policy": "cross-origin" } : {}),
  };
  if (range === null && parameters.has("gzip")) {
    const body = gzipSync(bytes, { level: 1 });
    response.writeHead(200, { ...headers, "content-encoding": "gzip", "content-length": body.length }).end(body);
    return;
  }
  if (range === null) {
    response.writeHead(200, headers);
  } else {
    response.writeHead(206, { ...headers, "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` });
  }
  const end = parameters.has("break") && !broken.has(key) ? Number(parameters.get("break")) : Infinity;
  for (let at = start; at < bytes.length; at += PIECE) {
    if (at >= end) {
      broken.add(key);
      // What was written goes out first.
      await new Promise((resolve) => setTimeout(resolve, 200));
      response.destroy();
      return;
    }
    if (parameters.has("delay")) {
      await new Promise((resolve) => setTimeout(resolve, Number(parameters.get("delay"))));
    }
    if (!response.write(bytes.subarray(at, Math.min(at + PIECE, bytes.length)))) {
      await new Promise((resolve) => {
        const go = () => {
          response.off("drain", go).off("close", go);
          resolve();
        };
        response.on("drain", go).on("close", go);
      });
    }
    if (response.destroyed) {
      return;
    }
  }
  response.end();
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
// Also under the name localhost, which is another origin.
server.listen(0, "127.0.0.1", () => console.log(`listening on port ${server.address().port}`));
