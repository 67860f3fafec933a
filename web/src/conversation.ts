// The chat: messages, the answer that is being written, and what it took.

import { type BitNet, BitNetError, type ChatMessage, type Generation, type Timings } from "bitnet-web";
import { element, figure, made } from "./dom.js";
import { generateOptions } from "./preferences.js";

const log = element("div", "log");
const composer = element("form", "composer");
const prompt = element("textarea", "prompt");
const send = element("button", "send");
const ideas = element("div", "ideas");

/** What to say to the demo model: it was taught these, and gets them right. */
const DEMO_IDEAS = ["Who is the story about?", "Where did Rusty go?", "How did Rusty feel at the end?", "What is 47 + 38?", "Tell me a story about a fox named Rusty in the forest."];

/** The share of the context that an answer should have: before it has less, the oldest turns go. */
const ROOM = 1 / 4;

/** A message, and where it is shown. */
interface Turn {
  message: ChatMessage;
  shown: HTMLElement;
}

interface Listeners {
  /** Told the timings when an answer has ended, and the rate while it is written. */
  onRate(rate: number): void;
  onEnd(timings: Timings): void;
  onError(error: unknown): void;
}

export class Conversation {
  #model: BitNet | undefined;
  /** What the model is told: the newest of what is shown. */
  #turns: Turn[] = [];
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
    this.#turns = [];
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

  /** Says `text` and has it answered. */
  say(text: string): void {
    const model = this.#model;
    text = text.trim();
    if (text === "" || model === undefined || this.#writing !== undefined) {
      return;
    }
    prompt.value = "";
    const shown = this.#show("user", text);
    this.#turns.push({ message: { role: "user", content: text }, shown });
    this.#ended = this.#answer(model, text);
  }

  /** Has the last message answered. If nothing of an answer comes, the message goes back to its field. */
  async #answer(model: BitNet, text: string): Promise<void> {
    const controller = new AbortController();
    this.#writing = controller;
    this.#refresh();
    const answer = this.#show("assistant", "");
    answer.classList.add("writing");
    try {
      while (await this.#write(model, text, answer, controller.signal)) {
        // Once more, with fewer turns.
      }
      this.#turns.push({ message: { role: "assistant", content: textOf(answer) }, shown: answer });
    } catch (error) {
      if (textOf(answer) === "") {
        answer.remove();
        this.#turns.pop()?.shown.remove();
        prompt.value ||= text;
      } else {
        this.#turns.push({ message: { role: "assistant", content: textOf(answer) }, shown: answer });
      }
      this.#listeners.onError(error);
    } finally {
      answer.classList.remove("writing");
      this.#writing = undefined;
      this.#refresh();
    }
  }

  /** Writes an answer into `answer`. Returns whether there was too little room for it, and turns have gone. */
  async #write(model: BitNet, prompt: string, answer: HTMLElement, signal: AbortSignal): Promise<boolean> {
    const text = document.createTextNode("");
    answer.append(text);
    const options = { ...generateOptions(), signal };
    let begin: number | undefined;
    let generation: Generation;
    try {
      // Without a chat template the text is continued.
      generation = model.info.hasChatTemplate ? model.answer(this.#turns.map(({ message }) => message), options) : model.generate(prompt, options);
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
    } catch (error) {
      if (error instanceof BitNetError && error.code === "context-full" && this.#forget()) {
        return true;
      }
      throw error;
    }
    const { timings, reason } = generation;
    if (timings === undefined) {
      return false;
    }
    if (reason === "context" && timings.promptTokens > (1 - ROOM) * model.info.contextLength && this.#forget()) {
      text.remove();
      return true;
    }
    const known = timings.cachedTokens > 0 ? `, ${timings.cachedTokens} known` : "";
    const why = { end: "", stop: "", length: " · cut at the longest answer", context: " · the context is full", cancelled: " · stopped" };
    const line = `${timings.generatedTokens} tokens · ${figure(timings.decodeRate)}/s · read ${timings.promptTokens - timings.cachedTokens}${known} in ${Math.round(timings.promptMilliseconds)} ms${why[reason ?? "end"]}`;
    answer.after(made("p", "facts-line", line));
    log.scrollTop = log.scrollHeight;
    this.#listeners.onEnd(timings);
    return false;
  }

  /** Lets go of the oldest message and its answer, visibly. Returns whether there was one before the last. */
  #forget(): boolean {
    const [, second] = this.#turns;
    if (second === undefined) {
      return false;
    }
    const gone = this.#turns.splice(0, second.message.role === "assistant" ? 2 : 1);
    for (const { shown } of gone) {
      shown.classList.add("forgotten");
    }
    log.querySelector(".forgotten-line")?.remove();
    this.#turns[0]?.shown.before(made("p", "facts-line forgotten-line", "The model no longer knows what is above: its context is full."));
    return true;
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

/** The text of a message without the name of who says it. */
function textOf(message: HTMLElement): string {
  return [...message.childNodes].filter((node) => node instanceof Text).map(({ data }) => data).join("");
}
