import { formatInteraction } from '../../fhir/interaction.ts'
import type { Parameter } from '../../fhir/interaction.ts'
import type { UpstreamAnswer } from '../../ports.ts'
import { below } from '../../fhir/reference.ts'
import { Refusal } from '../../refusal.ts'
import { splitTarget } from './cursors.ts'
import type { Request } from './request.ts'

/** One resource that a principal may see. */
export type Seen = { readonly id: string; readonly resource: Readonly<Record<string, unknown>> }

/** More than this many matches are not a condition or a chain any more, but a harvest. */
export const MOST_SEEN = 100

/** Upstream's pages read for it, at most. */
const MOST_PAGES = 10

/**
 * What the principal would see of a search of one type: permitted, narrowed, asked and judged like
 * any other, so that what depends on a search tells no more than the search itself. Throws Refusal,
 * also when there is more than {@link MOST_SEEN} or than fits a page.
 */
export async function searchInView(
  request: Request,
  type: string,
  parameters: readonly Parameter[],
): Promise<readonly Seen[]> {
  const { inquiry, inspect, upstream, config } = request
  if (request.budget.left-- <= 0) {
    throw new Refusal('parameter-forbidden', { detail: 'too many searches on the way' })
  }
  const count: Parameter = { name: '_count', values: [String(MOST_SEEN + 1)] }
  const permit = await request.again({
    code: 'search-type',
    method: 'GET',
    type,
    parameters: [...parameters, count],
  })
  const seen: Seen[] = []
  // What is withheld does not count: were pages not filled here as well, a refusal would tell of it (REST-11).
  let pages = MOST_PAGES
  for (let next: string | undefined = ''; next !== undefined && seen.length <= MOST_SEEN;) {
    if (pages-- <= 0) throw tooMuch()
    const found = await askPage(next)
    for (const resource of found.resources) {
      const one = see(resource)
      if (one !== undefined) seen.push(one)
    }
    next = found.next === next ? undefined : found.next
  }
  if (seen.length > MOST_SEEN) throw tooMuch()
  return seen

  async function askPage(target: string): Promise<Found> {
    const { path, query } =
      target === '' ? formatInteraction(permit.interaction) : splitTarget(target)
    const answer = await upstream({
      method: 'GET',
      path,
      query,
      headers: { accept: 'application/fhir+json', prefer: 'handling=strict' },
      signal: inquiry.arrival.signal,
    })
    const bytes = await collect(answer, config.limits.bodyBytes)
    if (answer.status !== 200) {
      throw new Refusal(answer.status === 400 ? 'rejected-upstream' : 'upstream-failed', {
        detail: `a search on the way answered ${answer.status}`,
      })
    }
    return readBundle(bytes, request.bases)
  }

  /** One of what was found, as the principal may see it; undefined = it may not. */
  function see(resource: Resource): Seen | undefined {
    const one = Buffer.from(JSON.stringify(resource))
    const { withheld, id, masked } = inspect(permit.terms, one)
    if (withheld !== undefined || id === undefined || resource['resourceType'] !== type)
      return undefined
    const shown = permit.terms.shown?.get(type)
    // What is hidden of it leads nowhere.
    const view =
      masked === 0
        ? resource
        : (JSON.parse(request.view(permit.terms, one).toString()) as typeof resource)
    return masked === 0 || shown?.holds(view, resource) !== false
      ? { id, resource: view }
      : undefined
  }
}

const tooMuch = (): Refusal =>
  new Refusal('parameter-forbidden', { detail: 'a condition or chain that matches too much' })

type Resource = Readonly<Record<string, unknown>>
type Found = { readonly resources: readonly Resource[]; readonly next: string | undefined }

/** The resources of a searchset, and the address of its next page below the upstream base. */
export function readBundle(bytes: Buffer, bases: readonly string[]): Found {
  const unreadable = (cause?: unknown) => new Refusal('upstream-unreadable', { cause })
  let bundle: unknown
  try {
    bundle = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw unreadable(error)
  }
  if (!isObject(bundle) || bundle['resourceType'] !== 'Bundle') throw unreadable()
  const links = Array.isArray(bundle['link']) ? (bundle['link'] as unknown[]) : []
  const entries = Array.isArray(bundle['entry']) ? (bundle['entry'] as unknown[]) : []
  return {
    resources: entries
      .map((entry) => (isObject(entry) ? entry['resource'] : undefined))
      .filter(isObject),
    next: nextOf(links, bases),
  }
}

function nextOf(links: readonly unknown[], bases: readonly string[]): string | undefined {
  const next = links.filter(isObject).find(({ relation }) => relation === 'next')
  if (next === undefined) return undefined
  const target = below(String(next['url']), bases)
  if (target === undefined) throw tooMuch()
  return target
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The whole body of an answer, at most `limit` bytes of it. */
export async function collect({ body }: UpstreamAnswer, limit: number): Promise<Buffer> {
  if (Buffer.isBuffer(body)) return body
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of body) {
    length += piece.length
    if (length > limit) throw new Refusal('upstream-unreadable', { detail: 'too large to judge' })
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}
