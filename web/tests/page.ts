// Work in a page that has the package as it is published.

import type { Page } from "@playwright/test";
import type * as BitNetWeb from "../package/src/index.js";

type Package = typeof BitNetWeb;

/** Goes to an empty page and imports the package. */
export async function open(page: Page): Promise<void> {
  await page.goto("/blank.html");
  await page.evaluate(async () => {
    Object.assign(globalThis, { bitnet: await import("/package/index.js" as string) });
  });
}

/** Runs `work` with the package; errors come back as what programs see of them. */
export async function run<T, A>(page: Page, work: (bitnet: Package, argument: A) => Promise<T>, argument: A): Promise<T> {
  const outcome = await page.evaluate(`(async () => {
    try {
      return { value: await (${work.toString()})(globalThis.bitnet, ${JSON.stringify(argument)}) };
    } catch (error) {
      return { error: { name: error.name, code: error.code, message: error.message, tensor: error.tensor } };
    }
  })()`);
  const { value, error } = outcome as { value: T; error?: object };
  if (error !== undefined) {
    throw Object.assign(new Error(JSON.stringify(error)), { seen: error });
  }
  return value;
}

/** What programs see of the error of `work`. */
export async function failure<A>(page: Page, work: (bitnet: Package, argument: A) => Promise<unknown>, argument: A) {
  try {
    await run(page, work, argument);
  } catch (error) {
    return (error as { seen?: { name: string; code: string; message: string; tensor?: string } }).seen;
  }
  return undefined;
}
