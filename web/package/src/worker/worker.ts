// The Worker: holds one model, answers calls one after the other, and looks for messages between tokens.

import { aborted, type Failure, failureOf, errorOf } from "../errors.js";
import type { Calls, CallName, FromWorker, ToThread, ToWorker } from "../protocol.js";
import { beThread, runThread } from "./core.js";
import { Host } from "./host.js";

/** What a call can do besides returning. */
export interface Caller {
  readonly signal: AbortSignal;
  /** Tells the page something. */
  tell(message: FromWorker): void;
  readonly id: number;
  /** Asks the page for the next piece of a file; `null` at its end. */
  pull(): Promise<Uint8Array | null>;
}

const host = new Host();
const running = new Map<number, AbortController>();
const pulls = new Map<number, { resolve(bytes: Uint8Array | null): void; reject(error: unknown): void }>();
/** Calls run one after the other: there is one session. */
let last: Promise<unknown> = Promise.resolve();

function tell(message: FromWorker, transfer: Transferable[] = []) {
  self.postMessage(message, { transfer });
}

function callerOf(id: number, signal: AbortSignal): Caller {
  return {
    id,
    signal,
    tell,
    pull() {
      return new Promise((resolve, reject) => {
        pulls.set(id, { resolve, reject });
        signal.addEventListener("abort", () => reject(aborted(signal)), { once: true });
        tell({ kind: "pull", id });
      });
    },
  };
}

async function call<K extends CallName>(id: number, name: K, request: Calls[K]["request"], controller: AbortController) {
  try {
    if (controller.signal.aborted) {
      throw aborted();
    }
    const result = await host.answer(name, request, callerOf(id, controller.signal));
    tell({ kind: "result", id, result });
  } catch (error) {
    const failure: Failure = controller.signal.aborted
      ? { code: "aborted", message: "the operation was aborted" }
      : failureOf(error);
    tell({ kind: "failure", id, failure });
  } finally {
    running.delete(id);
    pulls.delete(id);
  }
}

self.onmessage = ({ data }: MessageEvent<ToWorker | ToThread>) => {
  switch (data.kind) {
    case "thread":
      void beThread(data);
      break;
    case "run":
      runThread();
      break;
    case "call": {
      const controller = new AbortController();
      running.set(data.id, controller);
      last = last.then(() => call(data.id, data.name, data.request, controller));
      break;
    }
    case "abort":
      running.get(data.id)?.abort();
      break;
    case "piece":
      pulls.get(data.id)?.resolve(data.bytes);
      break;
    case "piece-failed":
      pulls.get(data.id)?.reject(errorOf(data.failure));
      break;
  }
};
