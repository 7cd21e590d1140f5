/** Member names, found in the bytes of a text without making strings of them. */

/**
 * Names worth knowing. Those of members have their numbers on the tape; the first 128 of them no object
 * may have twice, and the first 32 show in its flags.
 */
export type Names = {
  readonly list: readonly string[]
  readonly find: (bytes: Buffer, start: number, end: number) => number
  readonly id: (name: string) => number
}

/** Compiles a list of texts into a lookup by length, three bytes, and then all of them. */
export function compileNames(list: readonly string[]): Names {
  const known = list.map((name) => Buffer.from(name))
  /** First candidate by hash and next candidate by id, plus one; 0 = none. */
  const size = 2 ** Math.max(10, Math.ceil(Math.log2(list.length * 2 + 1)))
  const first = new Uint16Array(size)
  const next = new Uint16Array(list.length + 1)
  known.forEach((bytes, id) => {
    const hash = hashOf(bytes, 0, bytes.length) & (size - 1)
    next[id] = first[hash] as number
    first[hash] = id + 1
  })
  const ids = new Map(list.map((name, id) => [name, id]))
  return {
    list,
    id: (name) => ids.get(name) ?? -1,
    find(bytes, start, end) {
      const length = end - start
      if (length === 0) return ids.get('') ?? -1
      for (let one = first[hashOf(bytes, start, end) & (size - 1)] as number; one > 0;) {
        const candidate = known[one - 1] as Buffer
        if (candidate.length === length) {
          let n = 0
          while (n < length && candidate[n] === bytes[start + n]) n++
          if (n === length) return one - 1
        }
        one = next[one - 1] as number
      }
      return -1
    },
  }
}

function hashOf(bytes: Buffer, start: number, end: number): number {
  const length = end - start
  const middle = bytes[start + (length >> 1)] as number
  const [one, last] = [bytes[start] as number, bytes[end - 1] as number]
  return one * 37 + middle * 331 + last * 83 + length * 1021
}
