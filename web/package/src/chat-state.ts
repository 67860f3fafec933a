// A conversation with a model as frameworks show it: what loads, what was said, what is being written. Each change makes a new state.

import { BitNet, BitNetError, type ChatMessage, type GenerateOptions, type LoadOptions, type LoadProgress, type ModelSource } from "./index.js";

/** A model that is open and stays its owner's, or where one comes from; `"demo"` is the one that comes with this package. */
export type ChatModel = BitNet | "demo" | ModelSource;

/** How a conversation goes. */
export interface ChatOptions {
  /** How to load the model; heeded when the load begins. */
  load?: Omit<LoadOptions, "signal" | "onProgress">;
  /** How to write the next answer. */
  generate?: Omit<GenerateOptions, "signal">;
  /** What the conversation begins with, such as a message of the system. */
  messages?: ChatMessage[];
}

/**
 * `loading` until the model is there, then `ready` or `answering`; `failed` where it could not be loaded, `closed` after the end. An
 * answer that fails leaves an `error`, and the model `ready`.
 */
export type ChatStatus = "loading" | "ready" | "answering" | "failed" | "closed";

/** What there is to show. */
export interface ChatState {
  status: ChatStatus;
  /** How far the load is, while it is. */
  progress: LoadProgress | undefined;
  /** Everything that was said; the last message grows while it is written. */
  messages: ChatMessage[];
  /** The last answer, as far as it is written. */
  text: string;
  /** What the model thought before it. */
  thinking: string;
  /** Why the load or the last answer failed. */
  error: BitNetError | undefined;
  model: BitNet | undefined;
}

/** What there is to do. */
export interface ChatActions {
  /** Says something, and has it answered as soon as the model is there; an answer that is being written is stopped first. */
  send(message: string | ChatMessage): Promise<void>;
  /** Ends the answer that is being written. What came before stays. */
  stop(): void;
  /** Answers the last message of the user anew; what followed it is dropped. */
  regenerate(): Promise<void>;
  /** Puts other messages in place of the conversation: by default those that it began with. */
  reset(messages?: ChatMessage[]): void;
}

/** A conversation that tells its listeners of changes. Once closed it can be opened again. */
export class Chat implements ChatActions {
  /** How the conversation goes from here. */
  options: ChatOptions;
  readonly #source: ChatModel;
  readonly #listeners = new Set<() => void>();
  #state: ChatState;
  /** Ends what began with `open`. */
  #life: AbortController | undefined;
  /** The model of this life, when it is there; nothing where it could not be had. */
  #model: Promise<BitNet | undefined> = Promise.resolve(undefined);
  #turn: AbortController | undefined;
  /** Settles when the last answer has ended. */
  #writing: Promise<void> = Promise.resolve();

  constructor(source: ChatModel, options: ChatOptions = {}) {
    this.#source = source;
    this.options = options;
    this.#state = { status: "loading", progress: undefined, messages: options.messages ?? [], text: "", thinking: "", error: undefined, model: undefined };
  }

  readonly state = (): ChatState => this.#state;

  /** Calls `listener` after each change; what is returned ends that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Loads the model, unless that has begun. */
  open(): void {
    if (this.#life === undefined) {
      this.#life = new AbortController();
      this.#change({ status: "loading", error: undefined });
      this.#model = this.#load(this.#life.signal);
    }
  }

  /** Ends the load or the answer under way, and gives back a model that was loaded here. */
  close(): void {
    this.stop();
    this.#life?.abort();
    this.#life = undefined;
    const { model } = this.#state;
    this.#change({ status: "closed", progress: undefined, model: undefined });
    if (model !== this.#source) {
      model?.dispose();
    }
  }

  readonly send = (message: string | ChatMessage): Promise<void> => {
    const said = typeof message === "string" ? { role: "user", content: message } : message;
    return this.#answer([...this.#state.messages, said]);
  };

  readonly stop = (): void => this.#turn?.abort();

  readonly regenerate = async (): Promise<void> => {
    const { messages } = this.#state;
    const last = messages.map(({ role }) => role).lastIndexOf("user");
    if (last < 0) {
      this.#change({ error: new BitNetError("argument", "regenerate: expected a message of the user, found none; send one") });
      return;
    }
    await this.#answer(messages.slice(0, last + 1));
  };

  readonly reset = (messages: ChatMessage[] = this.options.messages ?? []): void => {
    this.stop();
    // What is still written belongs to the conversation before.
    this.#turn = undefined;
    const status = this.#state.status === "answering" ? "ready" : this.#state.status;
    this.#change({ messages, text: "", thinking: "", error: undefined, status });
  };

  async #load(signal: AbortSignal): Promise<BitNet | undefined> {
    const source = this.#source;
    try {
      if (isModel(source)) {
        this.#change({ status: "ready", model: source });
        return source;
      }
      const onProgress = (progress: LoadProgress) => {
        if (!signal.aborted) {
          this.#change({ progress });
        }
      };
      const options = { ...this.options.load, signal, onProgress };
      const model = await (source === "demo" ? BitNet.demo(options) : BitNet.load(source, options));
      if (signal.aborted) {
        model.dispose();
        return undefined;
      }
      this.#change({ status: "ready", progress: undefined, model });
      return model;
    } catch (error) {
      if (!signal.aborted) {
        this.#change({ status: "failed", progress: undefined, error: error as BitNetError });
      }
      return undefined;
    }
  }

  /** Has the last of `messages` answered, after the answer before has ended. */
  #answer(messages: ChatMessage[]): Promise<void> {
    this.stop();
    const turn = new AbortController();
    this.#turn = turn;
    const { status, error } = this.#state;
    // Why there is no model stays to be seen.
    this.#change({ messages, text: "", thinking: "", error: status === "failed" ? error : undefined });
    const before = this.#writing;
    const writing = (async () => {
      await before;
      await this.#write(messages, turn);
    })();
    this.#writing = writing;
    return writing;
  }

  async #write(messages: ChatMessage[], turn: AbortController): Promise<void> {
    const model = await this.#model;
    const change = (change: Partial<ChatState>) => {
      // Another turn, or another conversation, has the word.
      if (this.#turn === turn && this.#state.model === model) {
        this.#change(change);
      }
    };
    if (model === undefined || turn.signal.aborted) {
      return;
    }
    change({ status: "answering" });
    try {
      let [thinking, text] = ["", ""];
      const generation = model.answer(messages, { separateThinking: true, ...this.options.generate, signal: turn.signal });
      for await (const part of generation.parts()) {
        thinking += part.thinking;
        text += part.text;
        change({ thinking, text, messages: text === "" ? messages : [...messages, { role: "assistant", content: text }] });
      }
      change({ status: "ready" });
    } catch (error) {
      change({ status: "ready", ...(turn.signal.aborted ? {} : { error: error as BitNetError }) });
    }
  }

  #change(change: Partial<ChatState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

/** Whether a source is an open model, of whichever copy of this package. */
function isModel(source: ChatModel): source is BitNet {
  return typeof source === "object" && "answer" in source;
}
