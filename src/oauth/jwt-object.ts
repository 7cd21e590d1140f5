import { isUtf8 } from 'node:buffer'

/** The compact form of a JWT (RFC 7515 §3.1) and the JSON objects that its header and payload are. */

/** A compact JWS, cut at its dots; nothing of it is read or checked. */
export type JwtParts = {
  readonly head: string
  readonly body: string
  readonly signature: string
  /** What is signed: "the JWS Signing Input" (RFC 7515 §2). */
  readonly input: string
}

/** Cuts a compact JWS (RFC 7515 §7.1); undefined when it has not three parts. */
export function splitJwt(token: string): JwtParts | undefined {
  const first = token.indexOf('.')
  const second = token.indexOf('.', first + 1)
  if (first === -1 || second === -1 || token.includes('.', second + 1)) return undefined
  return {
    head: token.slice(0, first),
    body: token.slice(first + 1, second),
    signature: token.slice(second + 1),
    input: token.slice(0, second),
  }
}

/**
 * The octets of base64url without padding (RFC 7515 §2); undefined when it is anything else. Node skips
 * what it cannot read, and each letter that is skipped makes an octet less; it also reads base64.
 */
export function decodeBase64Url(text: string): Buffer | undefined {
  // No octets make one letter more than four; and there a skipped one would not be missed.
  if (text === '' || text.length % 4 === 1) return undefined
  if (text.includes('+') || text.includes('/')) return undefined
  const octets = Buffer.from(text, 'base64url')
  return octets.length === (text.length * 3) >> 2 ? octets : undefined
}

/**
 * Reads a part. RFC 7519 §4: "The Claim Names within a JWT Claims Set MUST be unique"; here no
 * member of any object may be there twice, or two readers could read two things. Throws SyntaxError.
 */
export function parseJwtObject(part: string): Readonly<Record<string, unknown>> {
  const octets = decodeBase64Url(part)
  // Two names that are no UTF-8 would both be read with U+FFFD in them, and be one.
  if (octets === undefined || !isUtf8(octets)) throw new SyntaxError('no UTF-8 in base64url')
  const text = octets.toString('utf8')
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError('not an object')
  }
  // Of two members of one name JSON.parse keeps one.
  if (countWritten(text) !== countMembers(value)) throw new SyntaxError('a member is there twice')
  return value as Readonly<Record<string, unknown>>
}

const [QUOTE, BACKSLASH, COLON] = ['"', '\\', ':'].map((c) => c.charCodeAt(0))

/** Members of all objects in a text that is JSON: each has one colon that stands in no string. */
function countWritten(text: string): number {
  let count = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === COLON) count += 1
    else if (c === QUOTE) {
      for (i += 1; text.charCodeAt(i) !== QUOTE; i++) if (text.charCodeAt(i) === BACKSLASH) i += 1
    }
  }
  return count
}

/** Members of all objects in a value that JSON.parse made, however deep: without recursion. */
function countMembers(value: object): number {
  const open = [value]
  let count = 0
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const members: unknown[] = Array.isArray(next) ? next : Object.values(next)
    if (!Array.isArray(next)) count += members.length
    for (const member of members) {
      if (typeof member === 'object' && member !== null) open.push(member)
    }
  }
  return count
}
