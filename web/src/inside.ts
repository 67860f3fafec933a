// The look inside: chances of the next token, a matrix's weights, and where a head looks.

import { BitNetError, type AttendedToken, type BitNet, type TensorInfo } from "bitnet-web";
import { bytes, element, made } from "./dom.js";

const likely = element("ol", "likely");
const before = element("p", "before");
const back = element("input", "back");
const select = element("select", "tensor");
const plane = element("canvas", "plane");
const caption = element("figcaption", "plane-caption");
const histogram = element("div", "histogram");
const weave = element("canvas", "weave");
const attention = element("p", "attention");
const layers = element("select", "attention-layer");
const heads = element("select", "attention-head");

/** Weights shown of a matrix. */
const AREA = { rows: 160, cols: 256 };

export class Inside {
  #model: BitNet | undefined;
  #tensors: TensorInfo[] = [];
  #woven: Int8Array | undefined;
  #shown: { codes: Int8Array; rows: number; cols: number } | undefined;

  constructor(onError: (error: unknown) => void) {
    const attempt = (work: () => Promise<void>) => () => void work().catch(onError);
    back.addEventListener("change", attempt(() => this.refresh()));
    select.addEventListener("change", attempt(() => this.#showTensor()));
    layers.addEventListener("change", attempt(() => this.#showAttention()));
    heads.addEventListener("change", attempt(() => this.#showAttention()));
  }

  /** Shows `model`'s matrices. */
  async use(model: BitNet): Promise<void> {
    this.#model = model;
    this.#tensors = (await model.tensors()).filter((tensor) => tensor.ternary);
    const option = (value: string) => Object.assign(made("option", "", value), { value });
    select.replaceChildren(...this.#tensors.map(({ name }) => option(name)));
    const numbers = (count: number) => Array.from({ length: count }, (_, i) => option(`${i}`));
    layers.replaceChildren(...numbers(model.info.layers));
    heads.replaceChildren(...numbers(model.info.heads));
    layers.value = `${model.info.layers - 1}`;
    likely.replaceChildren();
    attention.replaceChildren();
    await this.#weave();
    await this.#showTensor();
  }

  /** Shows what the model finds likeliest after what it holds, and where it looked. */
  async refresh(): Promise<void> {
    const model = this.#model;
    if (model === undefined) {
      return;
    }
    const { context, chosen, tokens } = await model.likeliest({ count: 8, back: Number(back.max) - Number(back.value) });
    before.textContent = `… ${context.trimStart()}`;
    likely.replaceChildren(
      ...tokens.map(({ id, text, probability }) => {
        const row = made("li", id === chosen ? "chosen" : "");
        const bar = made("span", "bar");
        bar.style.setProperty("--share", `${(100 * probability).toFixed(1)}%`);
        row.append(made("code", "", spelled(text)), bar, made("span", "number", `${(100 * probability).toFixed(1)} %`));
        return row;
      }),
    );
    await this.#showAttention();
  }

  /** Paints again, in the colours of now. */
  paint(): void {
    if (this.#woven !== undefined) {
      paint(weave, this.#woven, WEAVE.rows, WEAVE.cols);
    }
    if (this.#shown !== undefined) {
      const { codes, rows, cols } = this.#shown;
      paint(plane, codes, rows, cols);
    }
  }

  async #showAttention(): Promise<void> {
    const model = this.#model;
    if (model === undefined) {
      return;
    }
    let seen: AttendedToken[];
    try {
      seen = await model.attention(Number(layers.value), Number(heads.value));
    } catch (error) {
      if (error instanceof BitNetError && error.code === "unavailable") {
        attention.textContent = "A model on a graphics card does not show this.";
        return;
      }
      throw error;
    }
    const most = Math.max(...seen.map(({ weight }) => weight), 1e-9);
    attention.replaceChildren(
      ...seen.map(({ text, weight }) => {
        // Marks between the turns have no text.
        const word = made("span", "", text === "" ? "⏎\n" : text);
        word.style.setProperty("--share", `${(85 * (weight / most)).toFixed(0)}%`);
        word.title = `${(100 * weight).toFixed(1)} %`;
        return word;
      }),
    );
  }

  async #showTensor(): Promise<void> {
    const tensor = this.#tensors.find(({ name }) => name === select.value);
    if (this.#model === undefined || tensor === undefined) {
      caption.textContent = "This model's matrices are not ternary in its file.";
      histogram.replaceChildren();
      return;
    }
    const rows = Math.min(AREA.rows, tensor.rows);
    const cols = Math.min(AREA.cols, tensor.cols);
    const codes = await this.#model.ternaryCodes(tensor.name, { row: 0, rows, col: 0, cols });
    this.#shown = { codes, rows, cols };
    paint(plane, codes, rows, cols);
    const { minus, zero, plus } = await this.#model.ternaryCounts(tensor.name);
    const total = Math.max(minus + zero + plus, 1);
    const bits = (8 * tensor.bytes) / total;
    caption.textContent = `The first ${rows} × ${cols} of ${tensor.rows} × ${tensor.cols} weights · ${tensor.kind} · ${bytes(tensor.bytes)} · ${bits.toFixed(2)} bits each`;
    const parts = [
      ["minus", "−1", minus],
      ["zero", "0", zero],
      ["plus", "+1", plus],
    ] as const;
    histogram.replaceChildren(
      ...parts.map(([name, label, count]) => {
        const part = made("span", name, `${label} ${((100 * count) / total).toFixed(1)} %`);
        part.style.flexGrow = `${count}`;
        return part;
      }),
    );
    histogram.ariaLabel = parts.map(([, label, count]) => `${label}: ${((100 * count) / total).toFixed(1)} percent`).join(", ");
  }

  /** The cloth behind the title: weights of the first matrix. */
  async #weave(): Promise<void> {
    const tensor = this.#tensors.find(({ rows, cols }) => rows >= WEAVE.rows && cols >= WEAVE.cols);
    if (this.#model === undefined || tensor === undefined) {
      return;
    }
    this.#woven = await this.#model.ternaryCodes(tensor.name, { row: 0, rows: WEAVE.rows, col: 0, cols: WEAVE.cols });
    paint(weave, this.#woven, WEAVE.rows, WEAVE.cols);
  }
}

const WEAVE = { rows: 16, cols: 320 };

/** One pixel for each code, in the page's three colours. */
function paint(canvas: HTMLCanvasElement, codes: Int8Array, rows: number, cols: number): void {
  canvas.width = cols;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  if (context === null) {
    return;
  }
  const style = getComputedStyle(document.documentElement);
  const colours = ["--minus", "--card", "--plus"].map((name) => rgb(style.getPropertyValue(name)));
  const image = context.createImageData(cols, rows);
  codes.forEach((code, index) => image.data.set(colours[code + 1] ?? [0, 0, 0, 0], 4 * index));
  context.putImageData(image, 0, 0);
}

/** A token as people can see it: line ends as they are escaped, and spaces where there is nothing else. */
function spelled(text: string): string {
  const escaped = JSON.stringify(text).slice(1, -1);
  return text.trim() === "" ? escaped.replaceAll(" ", "␣") : escaped;
}

/** The parts of a colour written as #rrggbb. */
function rgb(colour: string): [number, number, number, number] {
  const value = Number.parseInt(colour.trim().slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255, 255];
}
