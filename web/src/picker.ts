// Choosing a model: the demo, a file, an address, or one that was kept.

import { type ModelSource, modelCache } from "bitnet-web";
import { bytes, element, made } from "./dom.js";
import { isText } from "./passages.js";

const dialog = element("dialog", "picker");
const file = element("input", "pick-file");
const kept = element("div", "kept");

/** Connects the dialog; `choose` gets the source, or `undefined` for the demo model. `takeTexts` gets text files that are dropped. */
export function connectPicker(choose: (source: ModelSource | undefined) => void, takeTexts: (files: File[]) => void): void {
  const pick = (source: ModelSource | undefined) => {
    dialog.close();
    choose(source);
  };
  element("button", "model-chip").addEventListener("click", () => {
    dialog.showModal();
    void listKept(pick);
  });
  element("button", "close-picker").addEventListener("click", () => dialog.close());
  element("button", "pick-demo").addEventListener("click", () => pick(undefined));
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (chosen !== undefined) {
      pick(chosen);
    }
  });
  element("form", "pick-url").addEventListener("submit", (event) => {
    event.preventDefault();
    pick(element("input", "url").value.trim());
  });

  // A file can be dropped anywhere.
  let inside = 0;
  const hasFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const mark = () => document.body.classList.toggle("dropping", inside > 0);
  addEventListener("dragenter", (event) => {
    if (hasFile(event)) {
      inside += 1;
      mark();
    }
  });
  addEventListener("dragleave", () => {
    inside = Math.max(0, inside - 1);
    mark();
  });
  addEventListener("dragover", (event) => {
    if (hasFile(event)) {
      event.preventDefault();
    }
  });
  addEventListener("drop", (event) => {
    inside = 0;
    mark();
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped[0] !== undefined) {
      event.preventDefault();
      if (dropped.every(isText)) {
        takeTexts(dropped);
      } else {
        pick(dropped[0]);
      }
    }
  });
}

/** Downloads of earlier visits. */
async function listKept(pick: (source: ModelSource) => void): Promise<void> {
  const models = await modelCache.list().catch(() => []);
  kept.replaceChildren(
    ...models.map(({ url, bytes: size, complete }) => {
      const row = made("div", "row pair");
      const name = new URL(url).pathname.split("/").pop() ?? url;
      const open = made("button", "quiet", `${name} · ${bytes(size)}${complete ? "" : ", unfinished"}`);
      open.type = "button";
      open.title = url;
      open.addEventListener("click", () => pick(url));
      const remove = made("button", "quiet", "Remove");
      remove.type = "button";
      remove.addEventListener("click", () => void modelCache.remove(url).then(() => row.remove(), () => undefined));
      row.append(open, remove);
      return row;
    }),
  );
}
