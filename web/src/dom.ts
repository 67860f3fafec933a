// The page's elements, by id, with their types.

/** The element `id`, which index.html has. */
export function element<K extends keyof HTMLElementTagNameMap>(tag: K, id: string): HTMLElementTagNameMap[K] {
  const found = document.getElementById(id);
  if (found === null || found.tagName.toLowerCase() !== tag) {
    throw new Error(`index.html has no <${tag} id="${id}">`);
  }
  return found as HTMLElementTagNameMap[K];
}

/** A new element with `text` in it. */
export function made<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A model's name for people: without the ending, and without the mark by which bundlers tell builds apart. */
export function nameOf({ name }: { name: string }): string {
  return name.replace(/\.gguf$/, "").replace(/-[\w-]{8}$/, "");
}

/** A number of bytes as people say it. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** A rate or a time with as many digits as mean something. */
export function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
