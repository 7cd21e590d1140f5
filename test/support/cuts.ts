import type { Cuts, Standing } from '../../src/json/cuts.ts'

/** The same as src/json/cuts.ts, byte by byte: what the one in WebAssembly is compared with. */
export function createPlainCuts(): Cuts {
  let slice: Buffer = Buffer.alloc(0)

  /** Shows what stands outside of strings, until `stop` says so; answers where that was, or -1. */
  function run(from: number, standing: Standing, stop: (c: number) => boolean): number {
    for (let i = from; i < slice.length; i++) {
      const c = slice[i]!
      const isTaken = (standing.carry & 2) !== 0
      standing.carry &= 1
      if (c === 0x5c && !isTaken) standing.carry |= 2
      else if (c === 0x22 && !isTaken) standing.carry ^= 1
      else if ((standing.carry & 1) === 0 && stop(c)) return i
    }
    return -1
  }

  const step = (c: number): number =>
    c === 0x7b || c === 0x5b ? 1 : c === 0x7d || c === 0x5d ? -1 : 0

  return {
    load: (loaded) => {
      slice = loaded
    },
    nextOpen: (from, standing) =>
      run(from, standing, (c) => {
        standing.depth += step(c)
        return step(c) > 0 && standing.depth === 2
      }),
    lastCut(from, standing) {
      let found = -1
      for (let at = from - 1; ;) {
        at = run(at + 1, standing, (c) => {
          standing.depth += step(c)
          return standing.depth < 2 || (c === 0x2c && standing.depth === 2)
        })
        if (at < 0 || standing.depth < 2) return at < 0 ? found : at
        found = at
      }
    },
  }
}
