import { sameAs, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { formatParts } from './method-context.ts'
import type { Domain, MethodContext } from './method-context.ts'

/**
 * The same for the same text and recipient wherever it stands, so that references still lead to what
 * they led to: of `Patient/1` the id, of `urn:uuid:…` the uuid, of `#1` what follows the sign. A bare
 * id has that of what it is one of: `Patient/1` and `Group/1` are two.
 */
export function pseudonym(
  text: string,
  type: string,
  context: PseudonymContext,
  idOf?: string,
): string {
  const { home, known } = context
  if (idOf !== undefined && !text.startsWith('#')) {
    return tokenOf(idOf === CONTAINED ? idOf : `${home ?? ''}${idOf}`, text, context)
  }
  // What is no address is one thing as a URI and another as a text.
  const isUri = URIS.has(type)
  if (home !== undefined) return buildPseudonym(text, isUri, context)
  const names = isUri ? known.uris : known.texts
  return names.get(text) ?? keep(names, text, buildPseudonym(text, isUri, context))
}

/** Ids of what is contained: a reference to one does not say its type. */
export const CONTAINED = '#'

/** The same of a string on a tape. */
export function pseudonymAt(
  tape: Tape,
  entry: number,
  type: string,
  context: PseudonymContext,
): string {
  const { known, home } = context
  if (known.tape !== tape) {
    known.tape = tape
    known.places.clear()
  }
  // Where equal ones are not known each is its own, and met once.
  const first = sameAs(tape, entry)
  const place = first * 2 + (URIS.has(type) ? 1 : 0)
  const met = first < entry && home === undefined ? known.places.get(place) : undefined
  if (met !== undefined) return met
  const made = pseudonym(textOf(tape, entry) ?? '', type, context)
  if (home === undefined) known.places.set(place, made)
  return made
}

function keep<T>(known: Map<string, T>, name: string, made: T): T {
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(name, made)
  return made
}
const MOST_KNOWN = 20_000

/** What pseudonyms are made of. */
export type PseudonymContext = Pick<MethodContext, 'keyedHash' | 'recipient' | 'known' | 'home'>

function buildPseudonym(text: string, isUri: boolean, context: PseudonymContext): string {
  const token = (part: string, of = ''): string => tokenOf(of, part, context)
  if (text.includes('/')) {
    const [, base, type, id] = RESOURCE.exec(text) ?? []
    if (type !== undefined && id !== undefined && context.known.isType(type))
      return `${type}/${token(id, `${homeOf(base, context) ?? ''}${type}`)}`
  }
  if (/^urn:uuid:/i.test(text)) {
    const uuid = text.slice(9).toLowerCase()
    // There is no other name for it, under which it could be met again.
    return `urn:uuid:${uuidOf(hashIn(domainOf('', context), uuid, context))}`
  }
  if (text.startsWith('#')) return `#${text === '#' ? '' : token(text.slice(1), CONTAINED)}`
  // What is some other address, or must be one, is known by nobody elsewhere.
  const isAddress = isUri || /^[a-z][a-z0-9+.-]{1,20}:/i.test(text)
  return isAddress ? `urn:uuid:${uuidOf(token(text))}` : token(text)
}

function tokenOf(of: string, part: string, context: PseudonymContext): string {
  const domain = domainOf(of, context)
  const { tokens } = domain
  return tokens.get(part) ?? keep(tokens, part, hashIn(domain, part, context))
}

function domainOf(of: string, { recipient, known: { domains } }: PseudonymContext): Domain {
  const known = domains.get(of)
  if (known !== undefined) return known
  return keep(domains, of, {
    prefix: formatParts('pseudonym', recipient, of),
    tokens: new Map<string, string>(),
  })
}

const hashIn = ({ prefix }: Domain, part: string, { keyedHash }: PseudonymContext): string =>
  keyedHash(prefix + formatParts(part)).slice(0, 32)

/** `Patient/1`, and the same at the end of an address. */
const RESOURCE =
  /^(?:(.{0,2000})\/)?([A-Z][A-Za-z]{1,63})\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/.{1,64})?$/

/** The base that tells what an address names from what has its type and id with us. */
function homeOf(base: string | undefined, { known, home }: PseudonymContext): string | undefined {
  if (base === undefined) return home
  return known.bases.includes(base) ? undefined : `${base}/`
}

/** The same context within an entry of a Bundle, whose own address the others there are relative to. */
export function atHome(fullUrl: string, context: MethodContext): MethodContext {
  const [, base] = RESOURCE.exec(fullUrl) ?? []
  const home = homeOf(base, context)
  return home === context.home ? context : { ...context, home }
}

/** 122 bits in the form of a uuid of version 8, "custom" (RFC 9562 §5.8). */
function uuidOf(hex: string): string {
  const [low, mid, high] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(13, 16)]
  return `${low}-${mid}-8${high}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

const URIS: ReadonlySet<string> = new Set(['uri', 'url', 'canonical', 'oid', 'uuid'])
