import type { Config } from '../../config/schema.ts'
import type { Principal } from '../../exchange.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import type { Seal } from '../../http/seal.ts'
import type { BulkKind, Place } from '../../permit.ts'

/** What a sealed address holds: what was asked, and until when it leads on. */
type Cursor = {
  readonly asked: Interaction
  /** Seconds since the epoch. */
  readonly until: number
}

/** A page link: where the page begins (addresses as upstream wrote them), and how many matches it holds. */
type PageCursor = Cursor & Place & { readonly size?: number }

/** What an address of a bulk export holds. */
type BulkCursor = Cursor & {
  /** Path and query below the upstream base, as upstream wrote them. */
  readonly target: string
  readonly kind: BulkKind
}

/** Makes the page links of one principal, and takes them back (REST-9); those of its exports too. */
export type Cursors = {
  /** `room`: what a place may take, so that the length of a link does not tell where it leads. */
  readonly close: (
    place: Place,
    size: number | undefined,
    asked: Interaction,
    room: number,
  ) => string
  readonly open: (sealed: string) => PageCursor | undefined
  readonly closeBulk: (kind: BulkKind, target: string, asked: Interaction) => string
  readonly openBulk: (sealed: string) => BulkCursor | undefined
}

/**
 * Page links are sealed for whoever was shown them: issuer, subject, client and the policies in
 * force are part of the seal, so that another principal, or the same under other policies, holds
 * nothing. No state: every replica with the same key reads them. A bulk export outlives a change of
 * policies: its links are decided again each time, and are bound to their owner only.
 */
export function createCursors(
  seal: Seal,
  principal: Principal,
  policyHash: string,
  now: number,
  { paging, bulk }: Config,
): Cursors {
  const { key, issuer, clientId, patient } = principal
  const page = (): string => JSON.stringify(['page', key, issuer, clientId, patient, policyHash])
  const owner = (): string => JSON.stringify(['bulk', key, issuer, clientId])
  const until = (lifetimeSeconds: number): number => Math.floor(now / 1000) + lifetimeSeconds

  function open(sealed: string, context: string): Cursor | undefined {
    const text = seal.open(sealed, context)
    if (text === undefined) return undefined
    const cursor = JSON.parse(text) as Cursor
    return cursor.until > now / 1000 ? cursor : undefined
  }

  return {
    close(place, size, asked, room) {
      const length = JSON.stringify(place).length
      const pad = ' '.repeat(STEP * Math.ceil(Math.max(room, length) / STEP) - length)
      const cursor = { ...place, pad, size, asked, until: until(paging.lifetimeSeconds) }
      return seal.close(JSON.stringify(cursor), page())
    },
    open: (sealed) => open(sealed, page()),
    closeBulk: (kind, target, asked) =>
      seal.close(
        JSON.stringify({ kind, target, asked, until: until(bulk.lifetimeSeconds) }),
        owner(),
      ),
    openBulk: (sealed) => open(sealed, owner()) as BulkCursor | undefined,
  }
}

/** Characters by which places grow that are longer than there is room for. */
const STEP = 512

/** An address of upstream's own, as the parts in which it is sent. */
export function splitTarget(target: string): { readonly path: string; readonly query: string } {
  const mark = target.indexOf('?')
  if (mark < 0) return { path: target, query: '' }
  return { path: target.slice(0, mark), query: target.slice(mark + 1) }
}
