/// <reference types="vite/client" />

/** Files that the model's Worker fetches, relative to the page; written by the build. */
declare const __WORKER_ASSETS__: string[];
