// What the visitor chose: how to write, where to run, light or dark. Kept in this browser.

import type { GenerateOptions, LoadOptions } from "bitnet-web";
import { element } from "./dom.js";

const KEY = "bitnet-preferences";

interface Preferences {
  temperature: number;
  topP: number;
  topK: number;
  repetitionPenalty: number;
  maxTokens: number;
  seed: number | undefined;
  /** The form of answers, as text: a JSON schema, or nothing. */
  schema: string;
  device: NonNullable<LoadOptions["device"]> | "webgpu-software";
  threads: number | undefined;
  theme: "light" | "dark" | undefined;
}

const DEFAULTS: Preferences = {
  temperature: 0.7,
  topP: 0.95,
  topK: 40,
  repetitionPenalty: 1,
  maxTokens: 400,
  seed: undefined,
  schema: "",
  device: "auto",
  threads: undefined,
  theme: undefined,
};

let now: Preferences = read();

function read(): Preferences {
  try {
    return { ...DEFAULTS, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Preferences>) };
  } catch {
    return DEFAULTS;
  }
}

function change(changes: Partial<Preferences>): void {
  now = { ...now, ...changes };
  try {
    localStorage.setItem(KEY, JSON.stringify(now));
  } catch {
    // Private windows may keep nothing: the choice then lasts as long as the page.
  }
}

/** How to write. A seed that was not chosen is a new one. */
export function generateOptions(): GenerateOptions {
  const { temperature, topP, topK, repetitionPenalty, maxTokens, seed } = now;
  const options = { temperature, topP, topK, repetitionPenalty, maxTokens, seed: seed ?? Math.floor(Math.random() * 2 ** 32) };
  const schema = schemaOf(now.schema);
  return typeof schema === "object" ? { ...options, responseFormat: { type: "json_schema", schema } } : options;
}

/** The schema that a text is; nothing of an empty one; of others what is wrong. */
function schemaOf(text: string): object | string | undefined {
  if (text.trim() === "") {
    return undefined;
  }
  try {
    const schema = JSON.parse(text) as unknown;
    return typeof schema === "object" && schema !== null && !Array.isArray(schema) ? schema : "A schema is an object: { … }.";
  } catch (error) {
    return `This is no JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Where to run. */
export function loadOptions(): LoadOptions {
  const { device, threads } = now;
  const place: LoadOptions = device === "webgpu-software" ? { device: "webgpu", softwareGpu: true } : { device };
  return threads === undefined ? place : { ...place, threads };
}

/** Connects the settings with what they set. */
export function connectPreferences(onPlacement: () => void, onTheme: () => void): void {
  const settings = element("form", "settings");
  for (const name of ["temperature", "topP", "topK", "repetitionPenalty", "maxTokens", "seed"] as const) {
    const input = settings.elements.namedItem(name) as HTMLInputElement;
    const output = settings.elements.namedItem(`${name}-out`) as HTMLOutputElement | null;
    const show = () => {
      if (output !== null) {
        output.value = input.value;
      }
    };
    input.value = now[name]?.toString() ?? "";
    show();
    input.addEventListener("input", () => {
      show();
      if (input.validity.valid && (input.value !== "" || name === "seed")) {
        change({ [name]: input.value === "" ? undefined : Number(input.value) });
      }
    });
  }

  const schema = settings.elements.namedItem("schema") as HTMLTextAreaElement;
  const state = element("p", "schema-state");
  const unsaid = state.textContent;
  const tell = () => {
    const found = schemaOf(now.schema);
    schema.setAttribute("aria-invalid", String(typeof found === "string"));
    state.textContent = typeof found === "string" ? `${found} Answers are free until it is mended.` : found === undefined ? unsaid : "Answers have this form.";
  };
  schema.value = now.schema;
  schema.addEventListener("input", () => {
    change({ schema: schema.value });
    tell();
  });
  tell();

  const placement = element("form", "placement");
  const device = placement.elements.namedItem("device") as HTMLSelectElement;
  const threads = placement.elements.namedItem("threads") as HTMLInputElement;
  for (const option of device.options) {
    option.disabled = option.value.startsWith("webgpu") && !("gpu" in navigator);
  }
  device.value = now.device;
  threads.value = now.threads?.toString() ?? "";
  placement.addEventListener("submit", (event) => {
    event.preventDefault();
    change({
      device: device.value as Preferences["device"],
      threads: threads.value === "" ? undefined : Number(threads.value),
    });
    onPlacement();
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    document.documentElement.dataset["theme"] = now.theme ?? (dark.matches ? "dark" : "light");
    onTheme();
  };
  dark.addEventListener("change", paint);
  element("button", "theme").addEventListener("click", () => {
    change({ theme: document.documentElement.dataset["theme"] === "dark" ? "light" : "dark" });
    paint();
  });
  paint();
}
