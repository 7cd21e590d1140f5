import { addressesOf, rewriteUrls } from './address.ts'
import type { Edit } from '../../json/tape.ts'
import { createSecretKey, hash, randomBytes } from 'node:crypto'
import { splitTransaction } from './transaction.ts'
import { releaseOutcome, releaseParameters } from './shapes.ts'
import { createTrim } from './trim.ts'
import type { Config } from '../../config/schema.ts'
import type { Answer, FitAnswer, Tally } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import { loadElements } from '../../fhir/elements.ts'
import { parseReference } from '../../fhir/reference.ts'
import { createCuts } from '../../json/cuts.ts'
import { createSimdScan } from '../../json/simd-scan.ts'
import { JsonError } from '../../json/token.ts'
import type { Tape } from '../../json/tape.ts'
import { member, textOf } from '../../json/tape.ts'
import { LINES } from '../../fhir/operations.ts'
import type { LinesShape } from '../../fhir/operations.ts'
import { discard, NDJSON } from '../../http/content.ts'
import { isKnown, viewTag } from '../../http/validators.ts'
import { releaseJob, releaseLines, releaseManifest } from './export.ts'
import { Readable } from 'node:stream'
import { Permit } from '../../permit.ts'
import type { Inspect, Inward, MaskingNames, Touches, View } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { unreadable } from './bundle.ts'
import { identify, judge } from './judge.ts'
import { planMasking } from './mask/plan-masking.ts'
import { isAltered, isMarked } from './mask/marks.ts'
import { createKeyedHash } from './mask/keyed-hash.ts'
import { createMaskings } from './mask/maskings.ts'
import type { MaskingProfiles } from '../../policy/load-masking.ts'
import type { Context } from './context.ts'
import { hiddenOf } from './frame.ts'
import { bytesOf, releaseResource, viewerOf } from './resource.ts'
import { referencesIn } from './references.ts'
import { releaseFurther, releaseGathered, releaseStream } from './stream.ts'
import type { Turn } from './stream.ts'
import { newTally } from './tally.ts'
import { createWriter } from './writer.ts'
import { buildBundleWords, buildVocabulary } from './vocabulary.ts'

export type Released = { readonly answer: Answer; readonly tally: Tally }

export type Release = {
  /**
   * Lets out of an answer only what the permit's terms allow; Refusal when nothing of it may. With `turn`
   * a page from which something is withheld is filled.
   */
  readonly release: (permit: Permit, fit: FitAnswer, turn?: Turn) => Promise<Released>
  /** Judges one resource without releasing it: payloads and current states of writes. */
  readonly inspect: Inspect
  /** Whether profiles mask what an element shows: a search that looks at it would tell. */
  readonly touches: Touches
  readonly view: View
  readonly inward: Inward
  /** What upstream said to each entry of a transaction, in order. Throws Refusal. */
  readonly splitTransaction: (body: Buffer, entries: number) => readonly FitAnswer[]
}

/** What masking is made of. */
export type MaskingParts = {
  /** What names of profiles stand for, the same for the same set; a name that is none shows nothing. */
  readonly profiles: (names: MaskingNames) => MaskingProfiles
  /** Secret of 32 bytes or more. */
  readonly key: Buffer
  readonly now: () => number
}

/** Headers by their names, as upstream said them. */
type Said = FitAnswer['headers']
/** By which a client knows an answer again. */
type Tags = { readonly etag?: string | undefined; readonly 'last-modified'?: string | undefined }

/** REST-23: "response-modified-[identity]: [purpose]" of an intermediary that alters what it passes on. */
const MODIFIED = 'response-modified-fhirewall'

/** Compiles the names and paths once. */
export function createRelease(
  config: Config,
  definitions: Definitions,
  masking: MaskingParts = { profiles: () => new Map(), key: randomBytes(32), now: Date.now },
): Release {
  const elements = loadElements(definitions.version)
  const words = buildVocabulary(definitions, elements)
  const maskingFor = createMaskings(masking.profiles, elements, words)
  const upstreamUrl = config.upstream.url.replace(/\/$/, '')
  const publicUrl = config.public.url.replace(/\/$/, '')
  const bases = [upstreamUrl, publicUrl]
  const notice = words.noticeOf(upstreamUrl)
  const context: Context = {
    words,
    bundleWords: buildBundleWords(words),
    ...addressesOf(upstreamUrl, publicUrl),
    hidden: config.access.hidden === 'forbidden' ? 'hidden' : 'not-found',
    bases,
    maskingFor,
    keyedHash: createKeyedHash(createSecretKey(masking.key)),
    pseudonyms: new WeakMap(),
    now: masking.now,
    scan: createSimdScan(words.names, config.limits.jsonDepth, notice),
    cuts: createCuts(),
    trim: createTrim(
      createSimdScan(words.names, config.limits.jsonDepth),
      words,
      definitions.mandatory,
    ),
  }

  async function release(permit: Permit, fit: FitAnswer, turn?: Turn): Promise<Released> {
    if (!Permit.isGenuine(permit)) throw new Error('release needs a permit that was issued')
    const tally = newTally(permit.terms.hasOthers === true ? new Set() : undefined)
    const { code } = permit.interaction
    const { method } = permit.requested
    const isWrite = WRITES.has(code)
    if (isWrite) tally.resource = writtenResource(permit, fit)
    if (fit.body === undefined || (isWrite && !permit.terms.mayReadBack) || code === 'delete') {
      discard(fit.body)
      const headers = headersOf(fit.headers, permit)
      return { answer: { status: fit.status, headers, body: undefined }, tally }
    }
    const { shape } = permit
    if (isLines(shape)) {
      const { status, body: came } = fit
      const pieces = Buffer.isBuffer(came) ? Readable.from([came]) : came
      const body = releaseLines(pieces, shape, permit, context, tally)
      return { answer: { status, headers: { 'content-type': NDJSON }, body }, tally }
    }
    let version: string | undefined
    const whole = (bytes: Buffer): Buffer | undefined =>
      releaseWhole(bytes, permit, tally, (found) => (version = found))
    const body = isBundle(permit)
      ? await releaseBundle(fit.body, permit, tally, turn)
      : Buffer.isBuffer(fit.body)
        ? whole(fit.body)
        : releaseGathered(fit.body, whole)
    const isTagged = body !== undefined && !isBundle(permit)
    const tags = isTagged ? tagsOf(fit.headers, body, tally, version) : fit.headers
    const headers = headersOf(fit.headers, permit, tags)
    const isSpared = permit.unless !== undefined && isKnown(permit.unless, headers)
    if (body !== undefined && !isSpared) {
      headers['content-type'] =
        shape === 'manifest' ? 'application/json' : 'application/fhir+json; charset=utf-8'
      // Of a stream nobody knows yet; its frame at least is ours.
      if (tally.masked.size > 0 || !Buffer.isBuffer(body)) headers[MODIFIED] = 'masking'
    }
    if (!isSpared && method !== 'HEAD') {
      return { answer: { status: fit.status, headers, body }, tally }
    }
    // What GET would answer, without the body: it is judged to the end all the same.
    if (body !== undefined && !Buffer.isBuffer(body)) await drain(body)
    const status = isSpared ? 304 : fit.status
    return { answer: { status, headers, body: undefined }, tally }
  }

  /**
   * REST-16: a masked view is another one than the whole, and than another mask leaves. What upstream tags
   * need not be the version: of what is masked its tag may be a hash.
   */
  function tagsOf(
    { etag, 'last-modified': modified }: Tags,
    body: Buffer | AsyncIterable<Buffer>,
    { masked }: Tally,
    version: string | undefined,
  ): Tags {
    // Of a stream nobody knows yet whether it will be masked.
    if (!Buffer.isBuffer(body)) return { etag: undefined, 'last-modified': modified }
    if (masked.size === 0) return { etag, 'last-modified': modified }
    const isVersion = etag === `W/"${version ?? ''}"`
    const view = isVersion ? viewTag(etag, context.keyedHash(hash('sha256', body))) : undefined
    // By its time nobody who may see more by now could tell that there is more.
    return { etag: view, 'last-modified': undefined }
  }

  function releaseWhole(
    bytes: Buffer,
    permit: Permit,
    tally: Tally,
    tellVersion: (version: string | undefined) => void,
  ): Buffer | undefined {
    if (permit.shape === 'manifest') return releaseManifest(bytes, permit, context)
    const tape = read(bytes)
    const { code } = permit.interaction
    const type = textOf(tape, member(tape, 0, words.at.resourceType))
    if (permit.shape === 'parameters') return releaseParameters(tape, context, tally)
    if (permit.shape === 'outcome') return releaseOutcome(bytes)
    const isWrite = WRITES.has(code)
    // An OperationOutcome about a write is upstream's own words: not passed on, not an error.
    if (isWrite && type === 'OperationOutcome') return undefined
    const released = releaseResource(tape, 0, permit.terms, context, tally)
    const { verdict, edits } = released ?? {}
    const { id, versionId } = identify(tape, 0, words)
    tellVersion(versionId)
    const asked = permit.shape === undefined ? permit.interaction.id : undefined
    const isOther = asked !== undefined && id !== asked
    if (verdict === undefined || edits === undefined || isOther) {
      if (isWrite) return undefined
      const reason = verdict === undefined ? context.hidden : 'not-found'
      throw new Refusal(reason, { detail: 'withheld', withholds: true })
    }
    tally.resource ??= `${verdict.type}/${id ?? ''}`
    return bytesOf(tape, 0, edits)
  }

  async function releaseBundle(
    came: Buffer | AsyncIterable<Buffer>,
    permit: Permit,
    tally: Tally,
    turn: Turn | undefined,
  ): Promise<Buffer | AsyncIterable<Buffer>> {
    const writer = createWriter(permit, context, tally)
    const making = { permit, context, writer, turn, most: config.limits.furtherPages }
    if (!Buffer.isBuffer(came)) return releaseStream(came, making)
    writer.takeWhole(read(came))
    const place = writer.wants()
    if (place === undefined) return writer.finish()
    const pieces: Buffer[] = []
    for await (const piece of releaseFurther(place, making)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  function read(bytes: Buffer): Tape {
    try {
      return context.scan(bytes)
    } catch (error) {
      if (error instanceof JsonError) throw unreadable('a body that is not strict JSON', error)
      throw error
    }
  }

  /** `Type/id` or `Type/id/_history/v` of what a write made, for audit. */
  function writtenResource(permit: Permit, fit: FitAnswer): string | undefined {
    const { type, id } = permit.interaction
    const location = fit.headers['location'] ?? fit.headers['content-location']
    const made = location === undefined ? undefined : parseReference(location, bases)
    if (made !== undefined && made.type === type) {
      return `${made.type}/${made.id}${made.versionId === undefined ? '' : `/_history/${made.versionId}`}`
    }
    return type === undefined || id === undefined ? undefined : `${type}/${id}`
  }

  function headersOf(said: Said, permit: Permit, tags: Tags = said): Record<string, string> {
    if (permit.shape === 'job') {
      return { 'content-location': releaseJob(said['content-location'], permit, context) }
    }
    const headers: Record<string, string> = {}
    const hidden = hiddenOf(permit, context)
    // Of a Bundle they would tell of what is withheld from it.
    if (!isBundle(permit)) {
      if (tags.etag !== undefined && !hidden.version) headers['etag'] = tags.etag
      const modified = tags['last-modified']
      if (modified !== undefined && !hidden.time) headers['last-modified'] = modified
    }
    const wait = said['retry-after']
    if (wait !== undefined) headers['retry-after'] = wait
    if (hidden.id) return headers
    for (const name of ['location', 'content-location']) {
      const local = said[name] === undefined ? undefined : parseReference(said[name], bases)
      if (local === undefined) continue
      const version = local.versionId === undefined ? '' : `/_history/${local.versionId}`
      headers[name] = `${context.publicUrl}/${local.type}/${local.id}${version}`
    }
    return headers
  }

  const inspect: Inspect = (terms, resource) => {
    let tape: Tape
    try {
      tape = context.scan(resource)
    } catch (error) {
      throw new Refusal('body-malformed', { cause: error })
    }
    const judged = judge(tape, 0, terms, context)
    const { type, withheld, confidentiality, sensitivities, patients } = judged
    const plan = planMasking(tape, 0, viewerOf(judged, terms, context), context)
    let masked = 0
    for (const count of plan?.counts?.values() ?? []) masked += count
    return {
      ...{ type, confidentiality, sensitivities, patients, masked },
      withheld: plan === undefined ? (withheld ?? 'label') : withheld,
      ...identify(tape, 0, words),
      ...referencesIn(tape, 0, words, bases),
      marked: isMarked(tape, 0, words),
      altered: isAltered(tape, 0, words),
    }
  }

  // The same eyes, looking from the other side: addresses are upstream's own, or become so.
  const inside: Context = { ...context, ...addressesOf(upstreamUrl, upstreamUrl) }
  const inwards: Context = { ...context, ...addressesOf(publicUrl, upstreamUrl) }

  const view: View = (terms, resource) => {
    const tape = read(resource)
    const plan = planMasking(
      tape,
      0,
      viewerOf(judge(tape, 0, terms, inside), terms, inside),
      inside,
    )
    if (plan === undefined) throw new Refusal('not-found', { detail: 'withheld', withholds: true })
    return tape.splice(plan.edits)
  }

  const inward: Inward = (resource) => {
    const tape = context.scan(resource)
    const edits: Edit[] = []
    rewriteUrls(tape, 0, inwards, edits)
    return tape.splice(edits)
  }

  return {
    release,
    inspect,
    view,
    inward,
    splitTransaction: (body, entries) => splitTransaction(read(body), entries, words),
    touches: (names, type, path) => maskingFor(names).touches(type, path),
  }
}

function isLines(shape: Permit['shape']): shape is LinesShape {
  return shape !== undefined && LINES.has(shape)
}

const WRITES: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete'])

function isBundle({ interaction: { code }, shape }: Permit): boolean {
  return code.startsWith('search-') || code.startsWith('history-') || shape === 'bundle'
}

async function drain(body: AsyncIterable<Buffer>): Promise<void> {
  const pieces = body[Symbol.asyncIterator]()
  while ((await pieces.next()).done !== true);
}
