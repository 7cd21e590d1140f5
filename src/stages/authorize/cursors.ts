import type { Config } from '../../config/schema.ts'
import type { Principal } from '../../exchange.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import type { Seal } from '../../http/seal.ts'
import type { BulkKind } from '../../permit.ts'

/** What a page link holds: where upstream goes on, of which question, and until when. */
type Cursor = {
  /** Path and query below the upstream base, as upstream wrote them. */
  readonly target: string
  readonly asked: Interaction
  /** Seconds since the epoch. */
  readonly until: number
}

/** What an address of a bulk export holds. */
type BulkCursor = Cursor & { readonly kind: BulkKind }

/** Makes the page links of one principal, and takes them back (REST-9); those of its exports too. */
export type Cursors = {
  readonly close: (target: string, asked: Interaction) => string
  readonly open: (sealed: string) => Cursor | undefined
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
    close: (target, asked) =>
      seal.close(JSON.stringify({ target, asked, until: until(paging.lifetimeSeconds) }), page()),
    open: (sealed) => open(sealed, page()),
    closeBulk: (kind, target, asked) =>
      seal.close(
        JSON.stringify({ kind, target, asked, until: until(bulk.lifetimeSeconds) }),
        owner(),
      ),
    openBulk: (sealed) => open(sealed, owner()) as BulkCursor | undefined,
  }
}

/** An address of upstream's own, as the parts in which it is sent. */
export function splitTarget(target: string): { readonly path: string; readonly query: string } {
  const mark = target.indexOf('?')
  if (mark < 0) return { path: target, query: '' }
  return { path: target.slice(0, mark), query: target.slice(mark + 1) }
}
