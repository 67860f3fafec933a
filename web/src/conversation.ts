// The chat: messages, the answer that is being written, and what it took.

import type { BitNet, ChatMessage, Generation, Timings } from "bitnet-web";
import { element, figure, made } from "./dom.js";
import { generateOptions } from "./preferences.js";

const log = element("div", "log");
const composer = element("form", "composer");
const prompt = element("textarea", "prompt");
const send = element("button", "send");
const ideas = element("div", "ideas");

/** What to say to the demo model, which knows stories and sums. */
const DEMO_IDEAS = ["What was the name?", "Was there a friend?", "What is 47 + 38?", "Tell me a story about a fox named Rusty in the forest."];

interface Listeners {
  /** Told the timings when an answer has ended, and the rate while it is written. */
  onRate(rate: number): void;
  onEnd(timings: Timings): void;
  onError(error: unknown): void;
}

export class Conversation {
  #model: BitNet | undefined;
  #messages: ChatMessage[] = [];
  #writing: AbortController | undefined;
  #ended: Promise<void> = Promise.resolve();
  readonly #listeners: Listeners;

  constructor(listeners: Listeners) {
    this.#listeners = listeners;
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#writing !== undefined) {
        this.#writing.abort();
      } else {
        this.say(prompt.value);
      }
    });
    prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        composer.requestSubmit();
      } else if (event.key === "Escape") {
        this.#writing?.abort();
      }
    });
    this.#refresh();
  }

  /** Begins anew with `model`; `undefined` while there is none. */
  async use(model: BitNet | undefined, isDemo: boolean): Promise<void> {
    this.#writing?.abort();
    await this.#ended;
    this.#model = model;
    this.#messages = [];
    log.replaceChildren();
    ideas.replaceChildren();
    if (isDemo && model !== undefined) {
      for (const idea of DEMO_IDEAS) {
        const button = made("button", "", idea);
        button.type = "button";
        button.addEventListener("click", () => this.say(idea));
        ideas.append(button);
      }
    }
    this.#refresh();
  }

  /** Says `text` and has it answered; without a chat template the text is continued. */
  say(text: string): void {
    const model = this.#model;
    text = text.trim();
    if (text === "" || model === undefined || this.#writing !== undefined) {
      return;
    }
    prompt.value = "";
    this.#show("user", text);
    const controller = new AbortController();
    this.#writing = controller;
    this.#refresh();
    const options = { ...generateOptions(), signal: controller.signal };
    let generation: Generation;
    try {
      if (model.info.hasChatTemplate) {
        this.#messages.push({ role: "user", content: text });
        generation = model.answer(this.#messages, options);
      } else {
        generation = model.generate(text, options);
      }
    } catch (error) {
      this.#finish();
      this.#listeners.onError(error);
      return;
    }
    this.#ended = this.#write(generation);
  }

  async #write(generation: Generation): Promise<void> {
    const message = this.#show("assistant", "");
    message.classList.add("writing");
    const text = document.createTextNode("");
    message.append(text);
    let begin: number | undefined;
    try {
      for await (const piece of generation) {
        const pinned = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
        text.appendData(begin === undefined ? piece.trimStart() : piece);
        begin ??= performance.now();
        if (pinned) {
          log.scrollTop = log.scrollHeight;
        }
        const elapsed = performance.now() - begin;
        if (elapsed > 200) {
          this.#listeners.onRate((generation.pieces * 1000) / elapsed);
        }
      }
      this.#messages.push({ role: "assistant", content: text.data });
      const { timings, reason } = generation;
      if (timings !== undefined) {
        const known = timings.cachedTokens > 0 ? `, ${timings.cachedTokens} known` : "";
        const why = { end: "", stop: "", length: " · cut at the longest answer", context: " · the context is full", cancelled: " · stopped" };
        const line = `${timings.generatedTokens} tokens · ${figure(timings.decodeRate)}/s · read ${timings.promptTokens - timings.cachedTokens}${known} in ${Math.round(timings.promptMilliseconds)} ms${why[reason ?? "end"]}`;
        message.after(made("p", "facts-line", line));
        log.scrollTop = log.scrollHeight;
        this.#listeners.onEnd(timings);
      }
    } catch (error) {
      if (text.data === "") {
        message.remove();
      }
      this.#listeners.onError(error);
    } finally {
      message.classList.remove("writing");
      this.#finish();
    }
  }

  #finish(): void {
    this.#writing = undefined;
    this.#refresh();
  }

  #show(role: "user" | "assistant", text: string): HTMLElement {
    const message = made("div", `message ${role}`);
    message.append(made("span", "hidden", role === "user" ? "You: " : "Model: "), text);
    log.append(message);
    log.scrollTop = log.scrollHeight;
    return message;
  }

  #refresh(): void {
    const writing = this.#writing !== undefined;
    send.textContent = writing ? "Stop" : "Send";
    send.disabled = this.#model === undefined;
    for (const idea of ideas.querySelectorAll("button")) {
      idea.disabled = writing;
    }
  }
}
