/// <reference types="vite/client" />

/** The files of the build but index.html, relative to the page; written by the build. */
declare const __ASSETS__: string[];
