import { readFileSync } from 'node:fs'

/** As much of https://webassembly.github.io/spec/js-api/ as is used here; Node's types leave it out. */
export type Memory = { readonly buffer: ArrayBuffer; readonly grow: (pages: number) => number }
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: unknown }
}

/** Bytes of a page of its memory. */
export const PAGE = 65_536

/**
 * Compiles a module of this folder once; each call of what comes back makes one that has a memory of its
 * own and reaches nothing else: what its source in assembly/ exports.
 */
export function loadModule(name: 'scan' | 'cuts'): () => unknown {
  const code = new WebAssembly.Module(readFileSync(new URL(`./${name}.wasm`, import.meta.url)))
  return () => new WebAssembly.Instance(code).exports
}
