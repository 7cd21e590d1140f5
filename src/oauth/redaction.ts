/**
 * What must not be written down (AUD-4, AUD-15), found in text that a client wrote, before anybody has
 * judged it. So every pattern here is linear: a run of characters is taken whole or left whole, and no
 * place in it is tried twice. `eyJeyJ…` in a header without a token once held the process for seconds.
 */

/** Words in the name of a credential; no search parameter of FHIR has one of them. */
const SECRET = /token|secret|passw|assertion|authorization|api[-_]?key/i

/**
 * Takes the value of every pair whose name is a credential's, however it is encoded, the password of
 * every address, and every JWT.
 */
export function withoutCredentials(text: string): string {
  const kept = SECRET.test(decoded(text)) ? text.replace(/[^&;#]+/g, withoutSecret) : text
  return withoutTokens(withoutPasswords(kept))
}

const SLASHES = /((?:\/|%(?:25)*2f){2})/i
/** What ends an authority; `|` because of `system|value`. */
const DELIMITER = /[\s/?#&|]|%(?:25)*(?:2[036f]|3f|7c)/i
const USERINFO = /^[^]*(?=@|%(?:25)*40)/i

/** `https://user:password@host` (RFC 3986 §3.2.1), or the same encoded as a value of another address. */
function withoutPasswords(text: string): string {
  if (!/@|%(?:25)*40/i.test(text)) return text
  const pieces = text.split(SLASHES)
  for (let at = 2; at < pieces.length; at += 2) {
    const piece = pieces[at] ?? ''
    const end = piece.search(DELIMITER)
    const [userinfo] = USERINFO.exec(end < 0 ? piece : piece.slice(0, end)) ?? []
    if (userinfo === undefined || !decoded(userinfo).includes(':')) continue
    pieces[at] = `[removed]${piece.slice(userinfo.length)}`
  }
  return pieces.join('')
}

/** A JWT is a credential wherever it stands: base64url of `{"` begins with `eyJ`. */
export function withoutTokens(text: string): string {
  if (!text.includes('eyJ')) return text
  return text.replace(
    /[\w-]+((?:\.|%(?:25)*2e)[\w-]*)*/gi,
    (run: string, afterDot: string | undefined) =>
      afterDot !== undefined && /eyJ[\w-]{8}/.test(run) ? '[removed]' : run,
  )
}

/** `a=b`, or more of them when what stands between is encoded: an address can be a value itself. */
function withoutSecret(pairs: string): string {
  let start = 0
  for (const { index, 0: equals } of pairs.matchAll(/=|%(?:25)*3d/gi)) {
    const [name = ''] = pairs
      .slice(start, index)
      .split(/\?|%(?:25)*(?:3f|26|3b|23)/i)
      .slice(-1)
    start = index + equals.length
    if (SECRET.test(decoded(name))) return `${pairs.slice(0, start)}[removed]`
  }
  return pairs
}

/** ASCII alone, and never an error: half an escape must not hide the rest of a name. */
function decoded(text: string): string {
  if (!text.includes('%')) return text
  return text.replace(/%(?:25)*([0-9a-f]{2})/gi, (_, code: string) =>
    String.fromCharCode(parseInt(code, 16)),
  )
}
