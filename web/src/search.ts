// Search by meaning in text files, with a model that embeds: everything happens in this tab.

import { type BitNet, SemanticIndex } from "bitnet-web";
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

export class Search {
  #index: SemanticIndex | undefined;
  /** The names of the files that were read, by their numbers. */
  readonly #files = new Map<number, string>();
  #next = 0;
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
    this.#index = model?.info.embedsOnly ? new SemanticIndex(model) : undefined;
    this.#files.clear();
    found.replaceChildren();
    const searches = this.#index !== undefined;
    section.hidden = !searches;
    element("div", "log").hidden = searches;
    element("form", "composer").hidden = searches;
    this.#tell();
  }

  /** Whether there is a model that embeds. */
  get isOpen(): boolean {
    return this.#index !== undefined;
  }

  /** Reads files, which can be searched then. */
  add(files: File[]): void {
    this.#read(files).catch(this.#onError);
  }

  async #read(files: File[]): Promise<void> {
    const index = this.#index;
    if (index === undefined || files.length === 0) {
      return;
    }
    const controller = new AbortController();
    this.#reading = controller;
    try {
      for (const file of files) {
        const number = this.#next++;
        const texts = passages(await file.text()).map((text, place) => ({ id: `${number}:${place}`, text }));
        const onProgress = (done: number, total: number) => (state.textContent = `Reading ${file.name}: ${done} of ${total} passages`);
        await index.add(texts, { signal: controller.signal, onProgress });
        if (this.#index !== index) {
          return;
        }
        this.#files.set(number, file.name);
      }
    } finally {
      if (this.#reading === controller) {
        this.#reading = undefined;
        this.#tell();
      }
    }
  }

  async #find(text: string): Promise<void> {
    const hits = (await this.#index?.search(text, { count: SHOWN, instruction: INSTRUCTION })) ?? [];
    found.replaceChildren(
      ...hits.map(({ id, text, score }) => {
        const row = made("li");
        const file = this.#files.get(Number.parseInt(id)) ?? "";
        row.append(made("p", "", text), made("p", "facts-line", `${file} · ${score.toFixed(3)}`));
        return row;
      }),
    );
  }

  #tell(): void {
    const [files, count] = [this.#files.size, this.#index?.size ?? 0];
    state.textContent = count === 0 ? "No texts yet." : `${count} passage${count === 1 ? "" : "s"} of ${files} file${files === 1 ? "" : "s"}`;
    find.disabled = count === 0;
  }
}
