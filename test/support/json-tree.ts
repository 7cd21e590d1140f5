/** A JSON value with the bytes it is written in. Reads strictly, and by other code than the gateway's. */
export type Tree =
  | { readonly kind: 'simple'; readonly raw: string }
  | { readonly kind: 'list'; readonly items: readonly Tree[] }
  | { readonly kind: 'object'; readonly members: readonly Part[] }
export type Part = { readonly name: string; readonly raw: string; readonly value: Tree }

const TOKEN =
  /[ \t\n\r]*("(?:[^"\\\0-\x1f]|\\(?:["\\/bfnrt]|u[\dA-Fa-f]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|[[\]{},:]|true|false|null)[ \t\n\r]*/y

/** Throws on whatever is not strict JSON (RFC 8259), a name that stands twice in an object included. */
export function readTree(text: string): Tree {
  TOKEN.lastIndex = 0
  let token = next()
  const tree = value()
  if (token !== '') throw new Error(`more than one value: ${token}`)
  return tree

  function next(): string {
    const at = TOKEN.lastIndex
    if (at === text.length && at > 0) return ''
    const found = TOKEN.exec(text)?.[1]
    if (found === undefined) throw new Error(`no JSON at ${at}: ${text.slice(at, at + 40)}`)
    return found
  }

  function take(wanted?: string): string {
    const taken = token
    if (wanted !== undefined && taken !== wanted) throw new Error(`${taken} for ${wanted}`)
    token = next()
    return taken
  }

  function value(): Tree {
    if (token === '[') return { kind: 'list', items: inside(']', value) }
    if (token !== '{') {
      if (/^[\]},:]?$/.test(token)) throw new Error(`${token} for a value`)
      return { kind: 'simple', raw: take() }
    }
    const members = inside('}', (): Part => {
      if (!token.startsWith('"')) throw new Error(`${token} for a name`)
      const raw = take()
      take(':')
      return { name: JSON.parse(raw) as string, raw, value: value() }
    })
    if (new Set(members.map(({ name }) => name)).size < members.length)
      throw new Error(`twice: ${members.map(({ name }) => name).join()}`)
    return { kind: 'object', members }
  }

  function inside<T>(end: string, one: () => T): T[] {
    take()
    const list: T[] = []
    if (token === end) {
      take()
      return list
    }
    for (;;) {
      list.push(one())
      if (token === end) break
      take(',')
    }
    take()
    return list
  }
}

/** The simple value of a member, decoded; undefined when there is none. */
export function textIn(tree: Tree, name: string): unknown {
  if (tree.kind !== 'object') return undefined
  const value = tree.members.find((part) => part.name === name)?.value
  return value?.kind === 'simple' ? JSON.parse(value.raw) : undefined
}
