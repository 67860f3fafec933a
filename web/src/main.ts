// The demo site: opens with the demo model already telling a story.

import { BitNet, BitNetError, type ModelSource } from "bitnet-web";
import { connectBenchmark } from "./benchmark.js";
import { Conversation } from "./conversation.js";
import { bytes, element, figure, made, nameOf } from "./dom.js";
import { Inside } from "./inside.js";
import { connectOffline, keepForOffline } from "./offline.js";
import { connectPicker } from "./picker.js";
import { connectPreferences, loadOptions } from "./preferences.js";
import { Search } from "./search.js";

/** What the page opens with. */
const OPENING = "Tell me a story about a fox named Rusty in the forest.";

const load = element("progress", "load");
const notice = element("p", "notice");
const gauges = {
  rate: element("dd", "gauge-rate"),
  first: element("dd", "gauge-first"),
  memory: element("dd", "gauge-memory"),
};

let model: BitNet | undefined;
let source: ModelSource | undefined;
let loading: AbortController | undefined;

const inside = new Inside(showError);
const search = new Search(showError);
const conversation = new Conversation({
  onRate: (rate) => (gauges.rate.textContent = figure(rate)),
  onEnd(timings) {
    gauges.rate.textContent = figure(timings.decodeRate);
    gauges.first.textContent = `${Math.round(timings.firstTokenMilliseconds)} ms`;
    void showMemory();
    inside.refresh().catch(showError);
  },
  onError: showError,
});

/** Opens `chosen`, or the demo model; then the one before goes. */
async function open(chosen: ModelSource | undefined, opening?: string): Promise<void> {
  loading?.abort();
  const controller = new AbortController();
  loading = controller;
  notice.hidden = true;
  load.hidden = false;
  load.removeAttribute("value");
  if (model === undefined) {
    element("span", "model-name").textContent = "loading";
  }
  try {
    const options = {
      ...loadOptions(),
      signal: controller.signal,
      onProgress: ({ phase, done, total }: { phase: string; done: number; total: number | undefined }) => {
        if (phase === "download" && total !== undefined) {
          load.value = done / total;
        } else {
          load.removeAttribute("value");
        }
      },
    };
    // The service worker keeps the demo model already.
    const opened = chosen === undefined ? await BitNet.demo({ ...options, cache: false }) : await BitNet.load(chosen, options);
    if (controller.signal.aborted) {
      opened.dispose();
      return;
    }
    const before = model;
    model = opened;
    source = chosen;
    showFacts(opened);
    search.use(opened);
    await conversation.use(search.isOpen ? undefined : opened, chosen === undefined);
    before?.dispose();
    if (opening !== undefined) {
      conversation.say(opening);
    }
    await inside.use(opened);
    await showMemory();
  } catch (error) {
    if (!controller.signal.aborted) {
      if (model === undefined) {
        showNoModel();
      }
      showError(error);
    }
  } finally {
    if (loading === controller) {
      load.hidden = true;
    }
  }
}

function showFacts({ info }: BitNet): void {
  element("span", "model-name").textContent = nameOf(info);
  element("span", "device-chip").textContent = info.device;
  const facts = element("div", "facts");
  const table = made("table");
  const rows: [string, string][] = [
    ["Weights", `${(info.parameters / 1e6).toFixed(1)} million in ${info.layers} layers`],
    ["File", `${bytes(info.weightBytes)}${info.cached ? ", kept from an earlier visit" : ""}`],
    ["Vocabulary", `${info.vocabulary} tokens`],
    ["Context", `${info.contextLength} tokens, ${bytes(info.kvBytesPerToken)} each`],
    ["Kernels", info.variant === "webgpu" ? info.isa : `${info.isa}, ${info.threads} thread${info.threads === 1 ? "" : "s"}`],
  ];
  for (const [name, value] of rows) {
    const row = table.insertRow();
    const head = made("th", "", name);
    head.scope = "row";
    row.append(head, made("td", "number", value));
  }
  const fallbacks = info.fallbacks.map(({ wanted, used, reason }) => made("p", "fallback", `${wanted} is not used, but ${used}: ${reason}.`));
  facts.replaceChildren(table, ...fallbacks);
}

/** Nothing of the model before, and a way back. */
function showNoModel(): void {
  element("span", "model-name").textContent = "no model";
  element("span", "device-chip").textContent = "";
  element("div", "facts").replaceChildren();
  for (const gauge of Object.values(gauges)) {
    gauge.textContent = "–";
  }
  const back = made("button", "", "Open the demo model");
  back.type = "button";
  back.addEventListener("click", () => void open(undefined));
  element("div", "ideas").replaceChildren(back);
}

async function showMemory(): Promise<void> {
  const memory = await model?.memory().catch(() => undefined);
  gauges.memory.textContent = memory === undefined ? "–" : bytes(memory.wasm);
}

/** What went wrong, in words that help. */
function showError(error: unknown): void {
  const code = error instanceof BitNetError ? error.code : "internal";
  if (code === "aborted" || code === "disposed") {
    return;
  }
  const message = error instanceof Error ? error.message : String(error);
  const advice: Partial<Record<string, string>> = {
    "bad-file": "The file is damaged or no model of a kind that runs here.",
    unsupported: "This file is of a kind that does not run here.",
    "no-memory": "There is not enough memory for this model on this device.",
    network: "The download failed.",
    quota: "The browser grants no more storage. Remove a kept model, or free space.",
    "no-webgpu": "WebGPU is not available. Choose WebAssembly in the settings.",
    "gpu-lost": "The graphics card was lost. Load the model again, or choose WebAssembly in the settings.",
    "context-full": "The message is longer than this model can read: shorten it.",
  };
  notice.textContent = [advice[code], message].filter(Boolean).join(" ");
  notice.dataset["code"] = code;
  notice.hidden = false;
}

/** One view at a time; beside the chat where there is room. */
function connectViews(): void {
  const tabs = [...document.querySelectorAll<HTMLButtonElement>("[role=tab]")];
  const wide = matchMedia("(width >= 900px)");
  const show = (name: string) => {
    document.body.dataset["view"] = name;
    const side = name === "chat" ? (wide.matches ? "inside" : "") : name;
    for (const tab of tabs) {
      const own = tab.id.slice("tab-".length);
      const selected = own === name || (name === "chat" && wide.matches && own === "inside");
      tab.ariaSelected = String(selected);
      tab.tabIndex = selected ? 0 : -1;
      if (own !== "chat") {
        const view = document.getElementById(`view-${own}`);
        if (view !== null) {
          view.hidden = own !== side;
        }
      }
    }
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => show(tab.id.slice("tab-".length)));
    tab.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      if (step !== 0 && next !== undefined && next.offsetParent !== null) {
        next.focus();
        next.click();
      }
    });
  }
  wide.addEventListener("change", () => show(document.body.dataset["view"] ?? "chat"));
  show("chat");
}

connectViews();
connectPreferences(
  () => void open(source),
  () => inside.paint(),
);
connectPicker(
  (chosen) => void open(chosen),
  (texts) => {
    if (search.isOpen) {
      search.add(texts);
    } else {
      showError(new BitNetError("argument", "Texts are searched with a model that embeds: open one first, such as BitNet-embedding."));
    }
  },
);
connectBenchmark(() => model, showError);
if (!(await connectOffline())) {
  await open(undefined, OPENING);
  if (model !== undefined) {
    await keepForOffline(model.info.variant).catch(() => undefined);
  }
}
