// The page's end of the line to the Worker.

import { absolute } from "./address.js";
import { aborted, BitNetError, coded, errorOf, failureOf, said } from "./errors.js";
import type { CallName, Calls, FromWorker, ToWorker } from "./protocol.js";

/** What a call may bring besides its result. */
export interface Events {
  onProgress?: (message: Extract<FromWorker, { kind: "progress" }>) => void;
  onText?: (message: Extract<FromWorker, { kind: "text" }>) => void;
  pieces?: AsyncIterator<Uint8Array>;
  signal?: AbortSignal | undefined;
}

interface Pending extends Events {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** The Worker's script, beside this module. */
const WORKER = "./worker.js";

/** A Worker, and the address that goes with it. */
interface Started {
  worker: Worker;
  revoke?: string;
}

/** Starts the Worker that lies beside this module, or at `url`. */
function startWorker(url: string | undefined): Started {
  if (typeof Worker === "undefined") {
    throw new BitNetError("unavailable", "a model runs in a Worker, and there are none here: Node, service Workers and shared Workers have none");
  }
  const given = url === undefined ? undefined : absolute("workerUrl", url);
  try {
    return startAt(given);
  } catch (cause) {
    const advice = "the page's Content-Security-Policy must allow it in worker-src, and Trusted Types its address";
    throw new BitNetError("unavailable", `the Worker cannot be started: ${said(cause)} (${advice})`, { cause });
  }
}

function startAt(url: URL | undefined): Started {
  const options: WorkerOptions = { type: "module", name: "bitnet" };
  if (url === undefined) {
    const here = new URL(import.meta.url);
    // Bundlers may have put the address of a file on the developer's disk there: then they have put the Worker beside the page.
    if (!/^https?:$/.test(here.protocol) || here.origin === globalThis.location?.origin) {
      // Spelled so that bundlers see it.
      return { worker: new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "bitnet" }) };
    }
    // A name that bundlers do not see: what they would copy for it could not find its files.
    url = new URL(WORKER, here);
  }
  if (url.origin === globalThis.location?.origin) {
    return { worker: new Worker(url, options) };
  }
  // Browsers start no Worker of another origin, but a Worker may import from there.
  const script = `import ${JSON.stringify(url.href)};`;
  if (globalThis.location?.origin === "null") {
    // A sandboxed frame, in which modules of its own blobs are others'.
    return { worker: new Worker(`data:text/javascript,${encodeURIComponent(script)}`, options) };
  }
  const revoke = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  return { worker: new Worker(revoke, options), revoke };
}

/** Why a Worker's script could not be loaded, as far as a page can know. */
function whyNoScript(): string {
  const header = globalThis.crossOriginIsolated ? " and, since this page is cross-origin isolated, sent with Cross-Origin-Embedder-Policy: require-corp" : "";
  return `its script (worker.js of this package) could not be loaded: it must be there${header}, and be allowed by the page's Content-Security-Policy (worker-src)`;
}

/** A Worker with a model, and the calls under way. */
export class Link {
  readonly #worker: Worker;
  readonly #revoke: string | undefined;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  /** Whether the Worker has said anything. */
  #started = false;
  #closed: BitNetError | undefined;

  constructor(workerUrl: string | undefined) {
    const { worker, revoke } = startWorker(workerUrl);
    this.#worker = worker;
    this.#revoke = revoke;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      const what = event.message ?? whyNoScript();
      this.close(new BitNetError(this.#started ? "internal" : "unavailable", `the Worker ${this.#started ? "failed" : "does not start"}: ${what}`));
    };
  }

  /** Calls a function of the Worker. */
  async call<K extends CallName>(name: K, request: Calls[K]["request"], events: Events = {}): Promise<Calls[K]["result"]> {
    if (this.#closed !== undefined) {
      throw this.#closed;
    }
    const { signal } = events;
    if (signal?.aborted) {
      throw aborted(signal);
    }
    const id = this.#next++;
    const abort = () => this.#post({ kind: "abort", id });
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return (await new Promise<unknown>((resolve, reject) => {
        this.#pending.set(id, { ...events, resolve, reject });
        this.#post({ kind: "call", id, name, request } as ToWorker);
      })) as Calls[K]["result"];
    } catch (error) {
      throw coded(error);
    } finally {
      this.#pending.delete(id);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends the Worker, and with it all its memory. */
  close(reason: BitNetError): void {
    if (this.#closed !== undefined) {
      return;
    }
    this.#closed = reason;
    this.#worker.terminate();
    if (this.#revoke !== undefined) {
      URL.revokeObjectURL(this.#revoke);
    }
    for (const pending of this.#pending.values()) {
      pending.reject(reason);
    }
  }

  #post(message: ToWorker, transfer: Transferable[] = []): void {
    if (this.#closed === undefined) {
      this.#worker.postMessage(message, transfer);
    }
  }

  #receive(message: FromWorker): void {
    this.#started = true;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) {
      return;
    }
    switch (message.kind) {
      case "result":
        pending.resolve(message.result);
        break;
      case "failure":
        pending.reject(errorOf(message.failure));
        break;
      case "progress":
        pending.onProgress?.(message);
        break;
      case "text":
        pending.onText?.(message);
        break;
      case "pull":
        void this.#feed(message.id, pending);
        break;
    }
  }

  async #feed(id: number, pending: Pending): Promise<void> {
    try {
      const next = await pending.pieces?.next();
      const bytes = next === undefined || next.done ? null : next.value;
      this.#post({ kind: "piece", id, bytes }, bytes === null ? [] : [bytes.buffer]);
    } catch (error) {
      this.#post({ kind: "piece-failed", id, failure: failureOf(error) });
    }
  }
}
