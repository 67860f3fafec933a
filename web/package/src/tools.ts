// Tools that a model may call, as OpenAI describes them.

import { BitNetError } from "./errors.js";
import { wireJson } from "./json.js";

/** A function that a model may have called. */
export interface Tool {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** The JSON Schema of its arguments. */
    parameters?: object;
    /** Whether its arguments keep to that schema; where a call is demanded they always do. */
    strict?: boolean | null;
  };
}

/** Which call must come: any that the model likes, none, at least one, or one of this function. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/** A call that a model wrote. */
export interface WrittenCall {
  name: string;
  /** A JSON object. */
  arguments: string;
}

/** What may be called in one answer. */
export interface ToolOptions {
  tools?: Tool[];
  toolChoice?: ToolChoice;
  /** Whether more than one call may come: `true`. */
  parallelToolCalls?: boolean;
}

/** The tools that the model is told of. */
export function offeredTools({ tools = [], toolChoice }: ToolOptions): Tool[] {
  if (!Array.isArray(tools)) {
    throw new BitNetError("argument", `tools: expected a list, found ${typeof tools}`);
  }
  return toolChoice === "none" ? [] : tools;
}

/** JSON for the module of constraints: the calls that an answer may have, or must; nothing where there are none. */
export function wireOffer(options: ToolOptions): string | undefined {
  const tools = offeredTools(options);
  const demand = demandOf(options.toolChoice);
  return tools.length === 0 && demand === "nothing" ? undefined : wireJson("tools", { tools, demand, parallel: options.parallelToolCalls ?? true });
}

function demandOf(choice: ToolChoice = "auto"): "nothing" | "any" | { named: string } {
  switch (choice) {
    case "auto":
    case "none":
      return "nothing";
    case "required":
      return "any";
  }
  const named = choice?.type === "function" ? choice.function?.name : undefined;
  if (typeof named !== "string") {
    throw new BitNetError("argument", `tool_choice: expected "auto", "none", "required" or a function, found ${JSON.stringify(choice)}`);
  }
  return { named };
}
