import { setImmediate } from 'node:timers/promises'
import type { Tally } from '../../exchange.ts'
import { INSTANT } from '../../fhir/datatypes.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { LinesShape } from '../../fhir/operations.ts'
import { splitLines } from '../../json/lines.ts'
import type { Bulk, Permit } from '../../permit.ts'
import { below } from '../../fhir/reference.ts'
import { unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import { bytesOf, releaseResource } from './resource.ts'
import { releaseOutcome } from './shapes.ts'
import { CHUNK, LARGEST_RESOURCE, STRETCH } from './stream.ts'

/** The address of a job that was begun, as one of ours (pitfall 18). Throws when it is not upstream's. */
export function releaseJob(location: string | undefined, permit: Permit, context: Context): string {
  const target = location === undefined ? undefined : below(location, context.bases)
  if (target === undefined) throw unreadable('a job that has no address below the base')
  return linkTo('job', target, permit, context)
}

/** The parts of a manifest that name files, and what the lines of those are. */
const FILES: readonly (readonly [name: string, shape: LinesShape])[] = [
  ['output', 'resources'],
  ['deleted', 'deletions'],
  ['error', 'outcomes'],
]

/**
 * What a job has come to, built anew: the time, our own request, and the files whose type may leave,
 * each at an address of ours. Counts go: they tell what is withheld (REST-11). Throws when a file is
 * anywhere else than below the base: it could be fetched past the gateway, or not at all.
 */
export function releaseManifest(bytes: Buffer, permit: Permit, context: Context): Buffer {
  let manifest: Record<string, unknown>
  try {
    manifest = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
  } catch (error) {
    throw unreadable('a manifest that is not JSON', error)
  }
  const { transactionTime } = manifest
  if (typeof transactionTime !== 'string' || !INSTANT.test(transactionTime)) {
    throw unreadable('a manifest without its time')
  }
  const { path, query } = formatInteraction(bulkOf(permit).kickOff)
  const files = Object.fromEntries(
    FILES.map(([name, shape]) => [name, releaseFiles(manifest[name], shape, permit, context)]),
  )
  const next = releaseNext(manifest['link'], permit, context)
  return Buffer.from(
    JSON.stringify({
      transactionTime,
      request: `${context.publicUrl}${path}${query === '' ? '' : `?${query}`}`,
      requiresAccessToken: true,
      ...files,
      ...(next === undefined ? {} : { link: [{ relation: 'next', url: next }] }),
    }),
  )
}

/**
 * The address at which the manifest goes on (Bulk Data Access 3, `link`): without it a part of an export
 * would look like the whole.
 */
function releaseNext(value: unknown, permit: Permit, context: Context): string | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) throw unreadable('links that are no list')
  const links = (value as unknown[]).map((link) => (link ?? {}) as Record<string, unknown>)
  const found = links.find(({ relation }) => relation === 'next')
  if (found === undefined) return undefined
  const { url } = found
  const target = typeof url === 'string' ? below(url, context.bases) : undefined
  if (target === undefined) throw unreadable('a manifest that goes on elsewhere')
  return linkTo('job', target, permit, context)
}

function releaseFiles(
  value: unknown,
  shape: LinesShape,
  permit: Permit,
  context: Context,
): readonly { readonly type: string; readonly url: string }[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw unreadable('files that are no list')
  return (value as unknown[]).flatMap((file) => {
    const { type, url } = (file ?? {}) as Record<string, unknown>
    const target = typeof url === 'string' ? below(url, context.bases) : undefined
    if (typeof type !== 'string' || target === undefined) {
      throw unreadable('a file that is not below the base')
    }
    if (shape === 'resources' && permit.terms.grantFor(type) === undefined) return []
    // The others are Bundle and OperationOutcome, whatever upstream calls them.
    const named =
      shape === 'resources' ? type : shape === 'deletions' ? 'Bundle' : 'OperationOutcome'
    return [{ type: named, url: linkTo(shape, target, permit, context) }]
  })
}

function linkTo(
  kind: LinesShape | 'job',
  target: string,
  permit: Permit,
  { publicUrl }: Context,
): string {
  return publicUrl + bulkOf(permit).link(kind, target)
}

function bulkOf({ bulk }: Permit): Bulk {
  if (bulk === undefined) throw new Error('an export without links')
  return bulk
}

/** A bulk file leaves line by line, each judged before it leaves. */
export async function* releaseLines(
  body: AsyncIterable<Buffer>,
  shape: LinesShape,
  permit: Permit,
  context: Context,
  tally: Tally,
): AsyncGenerator<Buffer> {
  let out: Buffer[] = []
  let length = 0
  let since = performance.now()
  try {
    for await (const line of splitLines(body, LARGEST_RESOURCE)) {
      const released = releaseLine(line, shape, permit, context, tally)
      if (released !== undefined) {
        out.push(released, NEWLINE)
        length += released.length + 1
      }
      if (length >= CHUNK) {
        yield Buffer.concat(out, length)
        out = []
        length = 0
      }
      if (performance.now() - since > STRETCH) {
        await setImmediate()
        since = performance.now()
      }
    }
  } catch (error) {
    throw unreadable('a bulk file that cannot be judged', error)
  }
  if (length > 0) yield Buffer.concat(out, length)
}

const NEWLINE = Buffer.from('\n')

function releaseLine(
  line: Buffer,
  shape: LinesShape,
  permit: Permit,
  context: Context,
  tally: Tally,
): Buffer | undefined {
  // Every line is read strictly, whatever becomes of it.
  const tape = context.scan(line)
  if (shape === 'resources') {
    const released = releaseResource(tape, 0, permit.terms, context, tally)
    return released === undefined ? undefined : bytesOf(tape, 0, released.edits)
  }
  tally.inspected += 1
  const bytes =
    shape === 'outcomes' ? releaseOutcome(line) : releaseDeletions(line, permit, context)
  tally[bytes === undefined ? 'withheld' : 'released'] += 1
  return bytes
}

const DELETED = /^([A-Z][A-Za-z]{1,63})\/[A-Za-z0-9.-]{1,64}$/

/**
 * A Bundle that names what was deleted since. Whose it was cannot be told any more, so it is told to
 * those only whose grant has no limit, and who know it by that name.
 */
function releaseDeletions(
  line: Buffer,
  { terms }: Permit,
  { maskingFor }: Context,
): Buffer | undefined {
  const { entry } = JSON.parse(line.toString('utf8')) as { entry?: unknown }
  if (!Array.isArray(entry)) return undefined
  const left = (entry as unknown[]).flatMap((one) => {
    const { method, url } = ((one as { request?: unknown } | null)?.request ?? {}) as Record<
      string,
      unknown
    >
    const type = typeof url === 'string' ? DELETED.exec(url)?.[1] : undefined
    if (method !== 'DELETE' || type === undefined) return []
    const { reach = [] } = terms.grantFor(type) ?? {}
    const isUnlimited = reach.some(
      ({ patient, criteria, masking }) =>
        patient === undefined && criteria === undefined && !maskingFor(masking).hidden(type).id,
    )
    return isUnlimited ? [{ request: { method, url } }] : []
  })
  if (left.length === 0) return undefined
  return Buffer.from(JSON.stringify({ resourceType: 'Bundle', type: 'transaction', entry: left }))
}
