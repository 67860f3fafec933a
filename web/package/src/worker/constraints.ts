// The module of constraints, which is fetched when a text of a given form is first asked for.

import init, { type Constraint, Grammars, Reply } from "../../wasm/constraints/bitnet.js";
import { BitNetError } from "../errors.js";
import { compile } from "./core.js";

export type { Constraint };

export class Constraints {
  readonly #words: () => Uint8Array;
  readonly #url: string | undefined;
  #grammars: Promise<Grammars> | undefined;
  /** Whether a form was too much for the module, which then cannot be used again. */
  #failed = false;

  /** Constraints of the model whose tokens write `words`. The module is at `url`, if not beside this script. */
  constructor(words: () => Uint8Array, url: string | undefined) {
    this.#words = words;
    this.#url = url;
  }

  /** The constraint to a form, behind thinking if there is any. It is to be freed. */
  async constraint(format: string, thinking: string | undefined): Promise<Constraint> {
    const grammars = await this.#loaded();
    return this.#within(() => grammars.constraint(format, thinking));
  }

  /**
   * What takes apart an answer of `form` in which the tools of `offer` may be called, and the constraint to it, if it has one; both are
   * to be freed.
   */
  async calls(form: string, offer: string, format: string | undefined, thinking: string | undefined): Promise<[Reply, Constraint | undefined]> {
    const grammars = await this.#loaded();
    return this.#within(() => [new Reply(form, offer), grammars.callConstraint(form, offer, format, thinking)]);
  }

  /** The tokens that may follow those of a text, a bit for each; nothing where any may. */
  allowed(constraint: Constraint, text: Uint32Array): Uint32Array | undefined {
    return this.#within(() => constraint.allowed(text));
  }

  async #loaded(): Promise<Grammars> {
    this.#grammars ??= this.#load();
    try {
      return await this.#grammars;
    } catch (error) {
      // The next one tries again.
      this.#grammars = undefined;
      throw error;
    }
  }

  async #load(): Promise<Grammars> {
    const url = this.#url === undefined ? new URL("./bitnet-constraints.wasm", import.meta.url) : new URL(this.#url);
    await init({ module_or_path: await compile(url) });
    return new Grammars(this.#words());
  }

  /** Runs a part of the module. One that goes beyond its stack or memory leaves the module in no state that is known. */
  #within<T>(work: () => T): T {
    if (this.#failed) {
      throw new BitNetError("unavailable", "an earlier form was too much for the module of constraints: load the model again");
    }
    try {
      return work();
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
        this.#failed = true;
        throw new BitNetError("argument", "responseFormat: expected a form that can be followed, found one that takes too much", { cause: error });
      }
      throw error;
    }
  }
}
