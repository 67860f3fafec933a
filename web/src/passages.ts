// Text files, and the passages in which they are searched.

/** Characters of a passage, at most. */
const PASSAGE = 600;

/** Whether a file is a text, by what the system says of it. */
export function isText({ name, type }: File): boolean {
  return type.startsWith("text/") || /\.(txt|md)$/i.test(name);
}

/** The passages of a text: paragraphs, short ones together, long ones in parts that end with a sentence or a word where they can. */
export function passages(text: string): string[] {
  const parts: string[] = [];
  let part = "";
  for (const paragraph of text.split(/\n\s*\n/)) {
    let rest = paragraph.trim().replace(/\s+/g, " ");
    if (part !== "" && part.length + rest.length > PASSAGE) {
      parts.push(part);
      part = "";
    }
    while (rest.length > PASSAGE) {
      const head = rest.slice(0, PASSAGE);
      const sentence = head.lastIndexOf(". ") + 1;
      const end = sentence > PASSAGE / 2 ? sentence : Math.max(head.lastIndexOf(" "), 0) || PASSAGE;
      parts.push(rest.slice(0, end).trim());
      rest = rest.slice(end).trim();
    }
    part = [part, rest].filter(Boolean).join("\n");
  }
  return part === "" ? parts : [...parts, part];
}
