/** One part of a compact JWT (RFC 7515 §3.1): the JSON object that a header or payload is. */

/**
 * Reads a part. RFC 7519 §4: "The Claim Names within a JWT Claims Set MUST be unique"; here no
 * member of any object may be there twice, or two readers could read two things. Throws SyntaxError.
 */
export function parseJwtObject(part: string): Readonly<Record<string, unknown>> {
  if (!/^[\w-]+$/.test(part)) throw new SyntaxError('not base64url')
  const text = Buffer.from(part, 'base64url').toString('utf8')
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError('not an object')
  }
  checkMembers(text)
  return value as Readonly<Record<string, unknown>>
}

/** `text` is JSON that was parsed already. */
function checkMembers(text: string): void {
  // Names seen in every object that is open; undefined for an array.
  const open: (Set<string> | undefined)[] = []
  let isName = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (c === '"') {
      let end = i + 1
      while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1
      const names = open.at(-1)
      if (isName && names !== undefined) {
        const name = JSON.parse(text.slice(i, end + 1)) as string
        if (names.has(name)) throw new SyntaxError('a member is there twice')
        names.add(name)
        isName = false
      }
      i = end
    } else if (c === '{' || c === '[') {
      open.push(c === '{' ? new Set() : undefined)
      isName = c === '{'
    } else if (c === '}' || c === ']') open.pop()
    else if (c === ',') isName = open.at(-1) !== undefined
  }
}
