// Search by meaning in text files, with a model that embeds: everything happens in this tab.

import type { BitNet } from "bitnet-web";
import { element, made } from "./dom.js";
import { passages } from "./passages.js";

const section = element("section", "search");
const picker = element("input", "pick-texts");
const state = element("p", "search-state");
const query = element("input", "query");
const find = element("button", "find");
const found = element("ol", "found");

/** Passages that are shown. */
const SHOWN = 8;
/** What models of this kind are told of a query. */
const INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query";

/** A part of a text, and where it points. */
interface Passage {
  file: string;
  text: string;
  vector: Float32Array;
}

export class Search {
  #model: BitNet | undefined;
  #passages: Passage[] = [];
  #files = 0;
  #reading: AbortController | undefined;
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
    picker.addEventListener("change", () => {
      const files = [...(picker.files ?? [])];
      picker.value = "";
      this.add(files);
    });
    element("form", "query-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#find(query.value).catch(onError);
    });
  }

  /** Shows the search if `model` embeds texts, and hides it otherwise. Texts of the model before are forgotten. */
  use(model: BitNet | undefined): void {
    this.#reading?.abort();
    this.#model = model?.info.embedsOnly ? model : undefined;
    this.#passages = [];
    this.#files = 0;
    found.replaceChildren();
    const searches = this.#model !== undefined;
    section.hidden = !searches;
    element("div", "log").hidden = searches;
    element("form", "composer").hidden = searches;
    this.#tell();
  }

  /** Whether there is a model that embeds. */
  get isOpen(): boolean {
    return this.#model !== undefined;
  }

  /** Reads files, which can be searched then. */
  add(files: File[]): void {
    this.#read(files).catch(this.#onError);
  }

  async #read(files: File[]): Promise<void> {
    const model = this.#model;
    if (model === undefined || files.length === 0) {
      return;
    }
    const controller = new AbortController();
    this.#reading = controller;
    try {
      for (const file of files) {
        const texts = passages(await file.text());
        const onProgress = (done: number, total: number) => (state.textContent = `Reading ${file.name}: ${done} of ${total} passages`);
        const { vectors } = await model.embed(texts, { signal: controller.signal, onProgress });
        if (this.#model !== model) {
          return;
        }
        texts.forEach((text, index) => {
          const vector = vectors[index];
          if (vector !== undefined) {
            this.#passages.push({ file: file.name, text, vector });
          }
        });
        this.#files += 1;
      }
    } finally {
      if (this.#reading === controller) {
        this.#reading = undefined;
        this.#tell();
      }
    }
  }

  async #find(text: string): Promise<void> {
    const { vectors } = (await this.#model?.embed([text], { instruction: INSTRUCTION })) ?? { vectors: [] };
    const [wanted] = vectors;
    if (wanted === undefined) {
      return;
    }
    const scored = this.#passages.map((passage) => ({ passage, score: dot(passage.vector, wanted) }));
    scored.sort((a, b) => b.score - a.score);
    found.replaceChildren(
      ...scored.slice(0, SHOWN).map(({ passage, score }) => {
        const row = made("li");
        row.append(made("p", "", passage.text), made("p", "facts-line", `${passage.file} · ${score.toFixed(3)}`));
        return row;
      }),
    );
  }

  #tell(): void {
    const [files, count] = [this.#files, this.#passages.length];
    state.textContent = count === 0 ? "No texts yet." : `${count} passage${count === 1 ? "" : "s"} of ${files} file${files === 1 ? "" : "s"}`;
    find.disabled = count === 0;
  }
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
}
