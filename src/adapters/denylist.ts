import { hash } from 'node:crypto'
import { parse } from 'yaml'
import { z } from 'zod'
import type { Config } from '../config/schema.ts'
import type { DeniableToken, Denylist, Log, LoggedOut } from '../ports.ts'
import { watchFiles } from './watched-files.ts'

const LARGEST_FILE = 16_777_216
/** Twice this and the moment a file must stand still are well below a second (AUTHN-18). */
const LOOK_EVERY_MS = 250

const text = z.string().min(1).max(1024)
const time = z.iso.datetime({ offset: true }).transform((at) => Date.parse(at) / 1000)

/** One entry: all that it names must match. */
const entrySchema = z
  .strictObject({
    jti: text.optional(),
    issuer: text.optional(),
    subject: text.optional(),
    client: text.optional(),
    session: text.optional(),
    until: time.optional(),
    before: time.optional(),
    because: z.string().optional(),
  })
  .refine(({ jti, issuer, client }) => (jti ?? issuer ?? client) !== undefined, {
    message: 'names neither jti nor issuer nor client',
  })
  .refine(
    ({ issuer, subject, session }) => issuer !== undefined || (subject ?? session) === undefined,
    { message: 'a subject or session needs its issuer' },
  )

type Entry = z.output<typeof entrySchema>
type Index = ReadonlyMap<string, readonly Entry[]>

/** Who was logged out, by names that tell nobody who: they may stand in a shared store. */
export type NamedLogout = {
  readonly subject?: string
  readonly session?: string
  /** Seconds since the epoch. */
  readonly at: number
}

const nameOf = (...names: readonly string[]): string =>
  hash('sha256', JSON.stringify(names), 'base64url')

function nameLogout({ issuer, subject, sessionId, at }: LoggedOut): NamedLogout {
  return {
    ...(subject === undefined ? {} : { subject: nameOf('subject', issuer, subject) }),
    ...(sessionId === undefined ? {} : { session: nameOf('session', issuer, sessionId) }),
    at,
  }
}

/** What {@link createDenylist} needs from outside. */
export type DenylistPorts = {
  readonly log: Log
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly reloaded?: (setting: string, result: 'reloaded' | 'failed') => void
}

/**
 * Denied tokens from a file that is followed, and those of whom their issuer has logged out. A file
 * that cannot be read leaves the entries of before in force and alarms. Throws when the first cannot.
 */
export function createDenylist(
  { denylist: { file, rememberSeconds, rememberedLogouts } }: Pick<Config, 'denylist'>,
  ports: DenylistPorts,
): Denylist & {
  /** Denies what was issued until then. Throws when as many are remembered as there is room for. */
  readonly logOut: (who: LoggedOut) => NamedLogout
  /** The same for one that another gateway was told so many seconds ago. */
  readonly learn: (logout: NamedLogout, ago: number) => void
  readonly entries: () => number
  readonly close: () => void
} {
  const { log, now, reloaded } = ports
  const watched =
    file === undefined
      ? undefined
      : watchFiles([file], ([content]) => parseEntries(content), {
          setting: 'denylist.file',
          ...{ log, intervalMs: LOOK_EVERY_MS },
          ...(reloaded === undefined ? {} : { reloaded }),
        })
  const logouts = createLogouts(rememberSeconds, rememberedLogouts)
  return {
    isDenied(token) {
      const index = watched?.current()
      const isListed = index !== undefined && index.size > 0 && isIn(index, token, now() / 1000)
      return isListed || logouts.isDenied(token, now() / 1000)
    },
    logOut(who) {
      const logout = nameLogout(who)
      logouts.add(logout, now() / 1000)
      return logout
    },
    learn(logout, ago) {
      logouts.add(logout, now() / 1000, ago)
    },
    entries: () => (watched?.current().size ?? 0) + logouts.size(),
    close: () => watched?.close(),
  }
}

function parseEntries(content: Buffer | undefined): Index {
  const bytes = content ?? Buffer.of()
  if (bytes.length > LARGEST_FILE) throw new Error('the denylist is larger than any should be')
  const found = z.array(entrySchema).parse(parseList(bytes.toString('utf8')))
  const index = new Map<string, Entry[]>()
  for (const entry of found) {
    const key = keyOf(entry)
    const known = index.get(key)
    if (known === undefined) index.set(key, [entry])
    else known.push(entry)
  }
  return index
}

function parseList(source: string): unknown {
  if (source.trimStart().startsWith('{')) {
    const lines = source.split('\n').filter((line) => line.trim() !== '')
    return lines.map((line) => JSON.parse(line) as unknown)
  }
  // An empty file, or one of comments alone, denies nobody.
  return (parse(source, { maxAliasCount: 0 }) as unknown) ?? []
}

/** The most telling thing that an entry names; the rest is compared. */
function keyOf({ jti, issuer, subject, client, session }: Entry): string {
  if (jti !== undefined) return key('jti', jti)
  if (session !== undefined) return key('session', issuer, session)
  if (subject !== undefined) return key('subject', issuer, subject)
  return client === undefined ? key('issuer', issuer) : key('client', client)
}

const key = (...names: (string | undefined)[]): string => JSON.stringify(names)

function isIn(index: Index, token: DeniableToken, now: number): boolean {
  const { issuer, subject, clientId, tokenId, sessionId } = token
  const keys = [
    ...(tokenId === undefined ? [] : [key('jti', tokenId)]),
    ...(sessionId === undefined ? [] : [key('session', issuer, sessionId)]),
    ...(subject === undefined ? [] : [key('subject', issuer, subject)]),
    ...(clientId === undefined ? [] : [key('client', clientId)]),
    key('issuer', issuer),
  ]
  return keys.some((one) => index.get(one)?.some((entry) => matches(entry, token, now)) === true)
}

function matches(entry: Entry, token: DeniableToken, now: number): boolean {
  const { jti, issuer, subject, client, session, until, before } = entry
  return (
    (jti === undefined || jti === token.tokenId) &&
    (issuer === undefined || issuer === token.issuer) &&
    (subject === undefined || subject === token.subject) &&
    (client === undefined || client === token.clientId) &&
    (session === undefined || session === token.sessionId) &&
    (until === undefined || now < until) &&
    (before === undefined || token.issuedAt < before)
  )
}

type Logout = {
  /** By the clock of the issuer, and by ours. */
  readonly at: number
  readonly told: number
  readonly until: number
  readonly session?: string
}

/**
 * Whether a token is from before a logout. Of one that does not say, the issuer's word after that counts:
 * it ends what it logs out.
 */
function isBefore({ issuedAt, askedAt }: DeniableToken, { at, told }: Logout): boolean {
  return askedAt === undefined ? issuedAt <= at : askedAt <= told
}

/** Who was logged out, as long as a token from before could live. */
function createLogouts(seconds: number, most: number) {
  const sessions = new Map<string, Logout>()
  /** Of one person: a logout of all sessions, and of single ones. */
  const subjects = new Map<string, Logout[]>()
  let count = 0

  /** Both maps are in the order of time, but for a person who was logged out again. */
  function sweep(now: number): void {
    for (const [name, { until }] of sessions) {
      if (until > now) break
      sessions.delete(name)
      count -= 1
    }
    for (const [name, known] of subjects) {
      const live = known.filter(({ until }) => until > now)
      if (live.length === known.length) break
      count -= known.length - live.length
      subjects.delete(name)
      if (live.length > 0) subjects.set(name, live)
    }
  }

  /** Whether it says nothing new: gateways hear of one logout again and again. */
  function isKnown(subject: string | undefined, session: string | undefined, at: number): boolean {
    const isLater = (one: Logout | undefined): boolean => one !== undefined && one.at >= at
    const known = subject === undefined ? [] : (subjects.get(subject) ?? [])
    return (
      (session === undefined || isLater(sessions.get(session))) &&
      (subject === undefined || known.some((one) => one.session === session && isLater(one)))
    )
  }

  return {
    add({ subject, session, at }: NamedLogout, now: number, ago = 0): void {
      if (isKnown(subject, session, at)) return
      sweep(now)
      if (count + 2 > most) throw new Error('as many logouts are remembered as there is room for')
      const logout = { at, told: now - ago, until: now + seconds - ago }
      if (session !== undefined) {
        if (!sessions.delete(session)) count += 1
        sessions.set(session, logout)
      }
      if (subject !== undefined) {
        // Of what was logged out again, the later time says all.
        const known = subjects.get(subject) ?? []
        const others = known.filter((one) => one.session !== session)
        count += 1 + others.length - known.length
        subjects.delete(subject)
        subjects.set(subject, [...others, session === undefined ? logout : { ...logout, session }])
      }
    },
    isDenied(token: DeniableToken, now: number): boolean {
      const { issuer, subject, sessionId } = token
      if (count === 0) return false
      if (sessionId !== undefined) {
        const found = sessions.get(nameOf('session', issuer, sessionId))
        if (found !== undefined && now < found.until) return true
      }
      const known =
        subject === undefined ? undefined : subjects.get(nameOf('subject', issuer, subject))
      // A token that names no session may be of the one that ended; a new login makes a new token.
      return (
        known?.some(
          (one) =>
            now < one.until &&
            isBefore(token, one) &&
            (one.session === undefined || sessionId === undefined),
        ) === true
      )
    },
    size: () => count,
  }
}
