/** What programs tell errors apart by. */
export type BitNetErrorCode =
  /** The file breaks its format or is incomplete; `tensor` names the one at fault, if one is. */
  | "bad-file"
  /** A well-formed file that is not run here; the message says what to do instead. */
  | "unsupported"
  /** Memory that could not be had. */
  | "no-memory"
  /** WebGPU was asked for and is not there. */
  | "no-webgpu"
  /** The GPU was lost: its driver was reset, or it was taken away. The model can be loaded again. */
  | "gpu-lost"
  /** Something else that was asked for is not there: instruction sets, threads, Workers. */
  | "unavailable"
  /** The `AbortSignal` fired. */
  | "aborted"
  /** A download failed, also after trying again. */
  | "network"
  /** The browser grants no more storage. */
  | "quota"
  /** An option or argument outside what it can be. */
  | "argument"
  /** The prompt does not fit the context. */
  | "context-full"
  /** The model has no chat template, or the template refuses the messages. */
  | "template"
  /** The model was disposed of. */
  | "disposed"
  /** A fault of this library. */
  | "internal";

/** Everything that this library throws. */
export class BitNetError extends Error {
  override readonly name = "BitNetError";
  /** What programs tell errors apart by. */
  readonly code: BitNetErrorCode;
  /** The tensor at fault, where one is. */
  readonly tensor: string | undefined;

  constructor(code: BitNetErrorCode, message: string, options: { cause?: unknown; tensor?: string | undefined } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.tensor = options.tensor;
  }
}

/** What an error says. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A failure as it travels from the Worker. */
export interface Failure {
  code: BitNetErrorCode;
  message: string;
  tensor?: string | undefined;
}

/** The codes of errors that browsers throw, by name. */
const CODES: Partial<Record<string, BitNetErrorCode>> = {
  AbortError: "aborted",
  // WebAssembly that this browser, or the page's Content-Security-Policy, does not take.
  CompileError: "unavailable",
  DataCloneError: "argument",
  NoModificationAllowedError: "unavailable",
  // What the page's origin or policy does not allow.
  SecurityError: "unavailable",
  URIError: "argument",
};

/** What `error` is, whatever threw it. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Error) {
    const { code, tensor } = error as { code?: unknown; tensor?: string };
    if (error.name === "BitNetError" && typeof code === "string") {
      return { code: code as BitNetErrorCode, message: error.message, tensor };
    }
    if (error.name === "QuotaExceededError") {
      return { code: "quota", message: `the browser grants no more storage: ${error.message}` };
    }
    if (error instanceof RangeError && /memory|allocation/i.test(error.message)) {
      return { code: "no-memory", message: `the browser grants no more memory: ${error.message}` };
    }
    return { code: CODES[error.name] ?? "internal", message: error.message };
  }
  return { code: "internal", message: String(error) };
}

/** The error that a failure stands for. */
export function errorOf(failure: Failure): BitNetError {
  return new BitNetError(failure.code, failure.message, { tensor: failure.tensor });
}

/** `error` as this library throws it, whatever threw it. */
export function coded(error: unknown): BitNetError {
  if (error instanceof BitNetError) {
    return error;
  }
  const { code, message, tensor } = failureOf(error);
  return new BitNetError(code, message, { cause: error, tensor });
}

/** Does `work`; what it throws has a code. */
export async function withCode<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw coded(error);
  }
}

/** The error of a signal that fired. */
export function aborted(signal?: AbortSignal): BitNetError {
  return new BitNetError("aborted", "the operation was aborted", { cause: signal?.reason });
}
