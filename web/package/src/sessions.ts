// Sessions that are kept, as the page sees them.

import { fromEach } from "./cache.js";
import { BitNetError, withCode } from "./errors.js";
import type { Link } from "./link.js";
import type { SessionNote } from "./protocol.js";
import { cachedNotes } from "./worker/store-cache.js";
import { notes } from "./worker/store-files.js";
import { removeFromCache, removeFromFiles, SESSIONS } from "./worker/saved.js";

/** A session that is kept. */
export interface SavedSession {
  /** The name it was saved under. */
  name: string;
  /** Its file's size. */
  bytes: number;
  /** Tokens in it. */
  tokens: number;
  /** The model's name. */
  model: string;
  /** Where the model came from: an address, `demo`, or nothing for files and streams. */
  source: string | undefined;
  saved: Date;
}

/** The name of sessions that are saved without one. */
export const DEFAULT_NAME = "session";

/** What a page sees of a note. */
function described({ name, bytes, tokens, model, source, saved }: SessionNote): SavedSession {
  return { name, bytes, tokens, model, source, saved: new Date(saved) };
}

/** Lists and removes the sessions that this origin keeps. */
export const savedSessions = {
  /** Every session, the last saved first. */
  async list(): Promise<SavedSession[]> {
    const found = await withCode(() =>
      fromEach(
        SESSIONS,
        async (home) => {
          const found: SavedSession[] = [];
          for await (const [, note] of notes<SessionNote>(home)) {
            found.push(described(note));
          }
          return found;
        },
        async (cache) => {
          const found: SavedSession[] = [];
          for await (const note of cachedNotes<SessionNote>(cache)) {
            found.push(described(note));
          }
          return found;
        },
      ),
    );
    return found.flat().sort((a, b) => b.saved.getTime() - a.saved.getTime());
  },

  /** Removes the session called `name`; `false` if there was none. */
  async remove(name: string): Promise<boolean> {
    const removed = await withCode(() =>
      fromEach(
        SESSIONS,
        (home) => removeFromFiles(home, name),
        (cache) => removeFromCache(cache, name),
      ),
    );
    return removed.includes(true);
  },
};

/** What the model has read and written so far, its keys and values included: `model.session`. */
export class Session {
  readonly #link: Link;
  readonly #about: Pick<SessionNote, "model" | "source" | "options">;

  /** @internal */
  constructor(link: Link, about: Pick<SessionNote, "model" | "source" | "options">) {
    this.#link = link;
    this.#about = about;
  }

  /**
   * Keeps the session in this browser under `name`, in place of an earlier one of that name. {@link BitNet.restore} or
   * {@link Session.restore} go on from there: nothing is read again, and what follows has the same bits.
   *
   * @throws {BitNetError} `quota` if the browser grants no more storage; the earlier one is then still there.
   */
  async save(name: string = DEFAULT_NAME): Promise<SavedSession> {
    if (name === "") {
      throw new BitNetError("argument", "name: expected a text, found an empty one");
    }
    return described(await this.#link.call("saveSession", { name, ...this.#about }));
  }

  /**
   * Makes the session that was saved as `name` this model's. Returns how many tokens it has.
   *
   * @throws {BitNetError} `argument` if there is none, `bad-file` if it is damaged or was saved with another model; this model's
   * session is then as before.
   */
  restore(name: string = DEFAULT_NAME): Promise<number> {
    return this.#link.call("restoreSession", { name });
  }
}
