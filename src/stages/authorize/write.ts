import { parsePatch } from '../../fhir/patch.ts'
import type { FhirPatch } from '../../fhir/patch.ts'
import { JSON_PATCH, parseMediaType } from '../../http/content.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { Inquiry } from '../../exchange.ts'
import { Permit } from '../../permit.ts'
import type { Grant, Inspection } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { rankOf } from './holdings.ts'
import { ASKED } from './asked.ts'
import { checkLinks } from './links.ts'
import { checkParameters, takeShape } from './question.ts'
import { checkPreconditions } from './preconditions.ts'
import { createPatched } from './patched.ts'
import { only, remembering } from './request.ts'
import {
  checkAdded,
  checkPatched,
  checkReadable,
  checkStillHidden,
  restoreHidden,
  sightsOf,
} from './restoration.ts'
import type { Sights } from './restoration.ts'
import type { Request } from './request.ts'
import { giveTurn } from './turn.ts'
import { collect } from './view.ts'

/** create, update, patch and delete; what comes back is shown as a read would show it (SCOPE-4). */
export async function decideWrite(asked: Request): Promise<Permit> {
  const request = remembering(asked)
  const { interaction, body, arrival } = request.inquiry
  const { type = '' } = interaction
  const grant = request.holdings.demand(type, ASKED[interaction.code as 'create'])
  const { parameters, trim } = takeShape(interaction.parameters, request.definitions)
  checkParameters(type, parameters, grant, request)
  const { ifMatch, isNew, patients, content } = await judgeWrite(request, type, grant)
  const isJsonPatch = parseMediaType(arrival.headers['content-type']) === JSON_PATCH
  const told = await judgeProvenance(request)
  return Permit.issue({
    ...{ interaction: { ...interaction, parameters }, requested: interaction, patients },
    body: content ?? body,
    terms: { ...only(type, request.holdings.look(type, ASKED.read)), trim },
    rules: [...new Set([...grant.rules, ...(told?.rules ?? [])])],
    provenance: told?.header,
    ...{ ifMatch, isNew },
    contentType: interaction.code === 'patch' && isJsonPatch ? JSON_PATCH : undefined,
  })
}

/**
 * X-Provenance (https://hl7.org/fhir/R4/provenance.html#header) is a create of its own, of a
 * Provenance about what is written: judged as one.
 */
async function judgeProvenance({
  inquiry,
  again,
}: Request): Promise<{ readonly header: string; readonly rules: readonly string[] } | undefined> {
  const header = inquiry.arrival.headers['x-provenance']
  const { code, type } = inquiry.interaction
  if (header === undefined || type === 'Provenance') return undefined
  if (typeof header !== 'string' || (code !== 'create' && code !== 'update')) {
    throw new Refusal('header-malformed', { parameter: 'X-Provenance' })
  }
  const { rules } = await again(
    { code: 'create', method: 'POST', type: 'Provenance', parameters: [] },
    Buffer.from(header, 'latin1'),
  )
  return { header, rules }
}

/** What judging a write found. */
type Judged = {
  /** `W/"vid"` of the version that was judged; undefined when nothing is there yet. */
  readonly ifMatch: string | undefined
  /** update: there is no version. */
  readonly isNew?: true
  readonly patients: readonly string[]
  /** What upstream is to store, where it is not the body as it came. */
  readonly content?: Buffer | undefined
}

/** What a write replaces, as upstream has it, or what it would come to. */
type Version = { readonly bytes: Buffer; readonly found: Inspection }

/**
 * Judges the body of a write and, for update, patch and delete, the version it replaces: both must
 * be within the grant, so that nothing is moved into it or out of it. Throws Refusal.
 */
async function judgeWrite(request: Request, type: string, grant: Grant): Promise<Judged> {
  const { interaction, body } = request.inquiry
  if (interaction.code === 'delete' && body !== undefined && body.length > 0) {
    throw new Refusal('body-malformed', { detail: 'a delete with a body' })
  }
  const { code } = interaction
  const isWhole = code === 'create' || code === 'update'
  const whole = isWhole ? judgeBody(request, type, grant, body) : undefined
  const checkMade = async (): Promise<void> => {
    checkUnmarked(whole?.found)
    if (whole !== undefined) await checkOwn(request, type, grant, whole)
  }
  // Addresses of ours in it are upstream's: whoever follows them there must get there.
  const sent = isWhole && body !== undefined ? request.inward(body) : undefined
  if (code === 'create') {
    await checkMade()
    return { ifMatch: undefined, patients: whole?.found.patients ?? [], content: sent }
  }
  const current = await fetchCurrent(request, type, grant)
  if (current === undefined) {
    const mayCreate = request.principal.kind === 'system' && code === 'update'
    if (!mayCreate) throw new Refusal('not-found')
    checkPreconditions(request, type, undefined)
    await checkMade()
    const patients = whole?.found.patients ?? []
    return { ifMatch: undefined, isNew: true, patients, content: sent }
  }
  const { found, bytes } = current
  await checkOwn(request, type, grant, current, found)
  const isMarked = whole?.found.altered === true && !found.altered
  const sights =
    code === 'delete' ? undefined : await sightsOf(request, type, grant, bytes, isMarked)
  if (sent !== undefined) await checkAdded(request, type, bytes, () => sent)
  let content = sent
  if (sights !== undefined && sent !== undefined) {
    content = await restoreHidden(request, bytes, sights, sent)
    await checkStillHidden(request, sights, content, () => sent)
  }
  const patched =
    code === 'patch' ? await judgePatched(request, type, grant, bytes, sights) : undefined
  const isRestored = content !== undefined && content !== sent
  await giveTurn(bytes)
  const version = patched ?? (isRestored ? judgeBody(request, type, grant, content) : whole)
  if (version !== undefined) await checkOwn(request, type, grant, version, found)
  const next = version?.found
  checkUnmarked(next, found)
  if (next !== undefined && isLowered(found, next)) {
    throw new Refusal('body-rule-broken', { detail: 'a security label would be lowered' })
  }
  if (next !== undefined && found.patients.join() !== next.patients.join()) {
    throw new Refusal('body-rule-broken', { detail: 'it would become another patient’s (REST-20)' })
  }
  const { versionId } = found
  checkPreconditions(request, type, { bytes, versionId })
  const patients = [...new Set([...found.patients, ...(next?.patients ?? [])])]
  return { ifMatch: `W/"${versionId ?? ''}"`, patients, content: patched?.patch ?? content }
}

/**
 * SCOPE-11, REST-20: what is written by the right to one patient is that patient's alone, and names no
 * other that was not named there before, nor what is another's; by the right to others it may name whom it
 * will. A new Patient is nobody's yet, whatever id it says.
 */
async function checkOwn(
  request: Request,
  type: string,
  grant: Grant,
  { bytes, found }: Version,
  before?: Inspection,
): Promise<void> {
  const { inquiry, inspect } = request
  const own = grant.reach.flatMap(({ patient }) => patient ?? [])
  const open = grant.reach.filter(({ patient }) => patient === undefined)
  const isOpen = (reach: Grant['reach']): boolean =>
    reach.length > 0 && inspect(only(type, { ...grant, reach }), bytes).withheld === undefined
  if (own.length === 0 || isOpen(open)) return
  const isNew = type === 'Patient' && inquiry.interaction.code === 'create'
  const isShared = found.patients.some((id) => !own.includes(id))
  const isNamed = found.named.some((id) => !own.includes(id) && before?.named.includes(id) !== true)
  if (isNew || isShared || isNamed) {
    throw new Refusal('compartment-denied', { detail: 'it names another patient, or makes one' })
  }
  const links = found.links.filter((link) => before?.links.includes(link) !== true)
  await checkLinks(request, grant, links)
}

/** What we put in the place of something must never be stored (MASK-10). */
function checkUnmarked(next: Inspection | undefined, current?: Inspection): void {
  // Upstream may hold what others have altered; who changes that has not altered it.
  const isAltered = next?.altered === true && current?.altered !== true
  if (next?.marked !== true && !isAltered) return
  throw new Refusal('body-rule-broken', { detail: 'mask marks in the body' })
}

/** INPUT-5: a lower confidentiality, or a sensitivity that is no longer said. */
function isLowered(current: Inspection, next: Inspection): boolean {
  if (rankOf(next.confidentiality) < rankOf(current.confidentiality)) return true
  return current.sensitivities.some((code) => !next.sensitivities.includes(code))
}

function judgeBody(
  { inquiry, inspect }: Request,
  type: string,
  grant: Grant,
  body: Buffer | undefined,
): Version {
  if (body === undefined || body.length === 0) throw new Refusal('body-malformed')
  const { code, id } = inquiry.interaction
  const found = inspect(only(type, grant), body)
  if (found.type !== type || (code !== 'create' && found.id !== id)) {
    throw new Refusal('body-mismatch')
  }
  if (found.withheld === 'compartment') throw new Refusal('compartment-denied')
  if (found.withheld !== undefined) throw new Refusal('policy-denied', { detail: found.withheld })
  checkSearches(inquiry, found, body)
  return { bytes: body, found }
}

/**
 * REST-6, REST-20: upstream would answer a reference that is a search in nobody's view, one that was
 * there before as well. Throws Refusal, which names an element only of what the caller has sent.
 */
export function checkSearches(
  { body: sent }: Inquiry,
  { searches: [open] }: Inspection,
  judged: Buffer,
): void {
  if (open === undefined) return
  const isNamed = judged === sent && /^[A-Za-z0-9_.]{1,200}$/.test(open.element)
  throw new Refusal('reference-is-search', isNamed ? { element: open.element } : {})
}

/** Judges what the current version would become; upstream gets the patch itself, inward. */
async function judgePatched(
  request: Request,
  type: string,
  grant: Grant,
  current: Buffer,
  sights: Sights | undefined,
): Promise<Version & { readonly patch: Buffer }> {
  const { body, arrival } = request.inquiry
  if (body === undefined || body.length === 0) throw new Refusal('body-malformed')
  const isJsonPatch = parseMediaType(arrival.headers['content-type']) === JSON_PATCH
  const parse = (bytes: Buffer): FhirPatch =>
    parsePatch(bytes, isJsonPatch ? JSON_PATCH : 'application/fhir+json')
  parse(body)
  const sent = inwardOf(request, body)
  const patch = parse(sent)
  if (patch.hasTest) checkReadable(request, type, current)
  const patched = createPatched(patch)
  await checkAdded(request, type, current, async (view) =>
    (await patched.isApplicable(view)) ? (await patched.of(view)).after : undefined,
  )
  if (sights !== undefined) await checkPatched(request, current, sights, patched)
  const { after: next } = await patched.of(current)
  if (sights !== undefined) {
    const [first] = sights
    await checkStillHidden(request, sights, next, async ({ view }) => {
      const { after } = await patched.of((await patched.isApplicable(view)) ? view : first.view)
      return after
    })
  }
  await giveTurn(current)
  // A bare string is an address by where the patch puts it: there nobody has made it upstream's.
  const isOurs = (bytes: Buffer): boolean => !inwardOf(request, bytes).equals(bytes)
  if (isOurs(next) && !isOurs(current)) {
    throw new Refusal('body-rule-broken', { detail: 'an address of ours as a bare string' })
  }
  await giveTurn(current)
  return { ...judgeBody(request, type, grant, next), patch: sent }
}

function inwardOf({ inward }: Request, bytes: Buffer): Buffer {
  try {
    return inward(bytes)
  } catch (cause) {
    throw new Refusal('body-malformed', { cause })
  }
}

async function fetchCurrent(
  request: Request,
  type: string,
  grant: Grant,
): Promise<Version | undefined> {
  const { inquiry, inspect, upstream, config } = request
  const { id = '' } = inquiry.interaction
  const target = formatInteraction({ code: 'read', method: 'GET', type, id, parameters: [] })
  const answer = await upstream({
    method: 'GET',
    path: target.path,
    query: target.query,
    headers: { accept: 'application/fhir+json' },
    signal: inquiry.arrival.signal,
  })
  const bytes = await collect(answer, config.limits.bodyBytes)
  if (answer.status === 404 || answer.status === 410) return undefined
  if (answer.status !== 200) throw new Refusal('upstream-failed', { detail: 'no current version' })
  const found = inspectCurrent(inspect, type, grant, bytes)
  if (found.type !== type || found.id !== id) {
    throw new Refusal('upstream-unreadable', { detail: 'the current version is another resource' })
  }
  if (found.withheld !== undefined) {
    const reason = config.access.hidden === 'forbidden' ? 'hidden' : 'not-found'
    throw new Refusal(reason, { withholds: true })
  }
  if (found.versionId === undefined) {
    throw new Refusal('upstream-unreadable', { detail: 'the current version has no versionId' })
  }
  return { bytes, found }
}

/** What upstream holds and nobody can read is upstream's fault, not that of the caller's body. */
function inspectCurrent(
  inspect: Request['inspect'],
  type: string,
  grant: Grant,
  bytes: Buffer,
): Inspection {
  try {
    return inspect(only(type, grant), bytes)
  } catch (cause) {
    throw new Refusal('upstream-unreadable', { detail: 'the current version', cause })
  }
}
