import type { Principal } from '../../exchange.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import type { Seal } from '../../http/seal.ts'

/** What a page link holds: where upstream goes on, of which question, and until when. */
type Cursor = {
  /** Path and query below the upstream base, as upstream wrote them. */
  readonly target: string
  readonly asked: Interaction
  /** Seconds since the epoch. */
  readonly until: number
}

/** Makes the page links of one principal, and takes them back (REST-9). */
export type Cursors = {
  readonly close: (target: string, asked: Interaction) => string
  readonly open: (sealed: string) => Cursor | undefined
}

/**
 * Page links are sealed for whoever was shown them: issuer, subject, client and the policies in
 * force are part of the seal, so that another principal, or the same under other policies, holds
 * nothing. No state: every replica with the same key reads them.
 */
export function createCursors(
  seal: Seal,
  principal: Principal,
  policyHash: string,
  now: number,
  lifetimeSeconds: number,
): Cursors {
  const { key, issuer, clientId, patient } = principal
  const context = (): string => JSON.stringify(['page', key, issuer, clientId, patient, policyHash])
  return {
    close: (target, asked) =>
      seal.close(
        JSON.stringify({ target, asked, until: Math.floor(now / 1000) + lifetimeSeconds }),
        context(),
      ),
    open(sealed) {
      const text = seal.open(sealed, context())
      if (text === undefined) return undefined
      const cursor = JSON.parse(text) as Cursor
      return cursor.until > now / 1000 ? cursor : undefined
    },
  }
}
