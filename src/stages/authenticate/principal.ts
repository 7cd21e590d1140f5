import type { Config, IssuerConfig } from '../../config/schema.ts'
import type { Principal } from '../../exchange.ts'
import {
  compilePath,
  isExcessive,
  parseCodes,
  parseFhirContext,
  parseFhirUser,
  parsePatient,
  parseText,
  parseTime,
} from '../../oauth/claims.ts'
import type { ClaimReader, Claims } from '../../oauth/claims.ts'
import { parseExtensions } from '../../oauth/extensions.ts'
import { parseScopes } from '../../oauth/smart-scope.ts'
import type { SmartScope } from '../../oauth/smart-scope.ts'
import { Refusal } from '../../refusal.ts'
import { recall } from '../../recall.ts'

/** Reads the principal that claims speak of. Throws Refusal. */
export type ReadPrincipal = (claims: Claims) => Principal

type ClaimName = keyof IssuerConfig['claims']

/** Compiles the claim paths of an issuer. */
export function createReadPrincipal(
  issuer: IssuerConfig,
  { public: { url: publicUrl }, access }: Pick<Config, 'public' | 'access'>,
): ReadPrincipal {
  const readers = Object.fromEntries(
    Object.entries(issuer.claims).map(([name, path]) => [name, compilePath(path)]),
  ) as Readonly<Record<ClaimName, ClaimReader>>
  const isMarked = createIsMarked(issuer)
  const separator = issuer.scopeSeparator === 'comma' ? ',' : ' '
  const readScopes = createReadScopes(separator, access.smartV1)

  return function readPrincipal(claims) {
    const at = (name: ClaimName): unknown => readers[name](claims)
    const subject = parseText(at('subject')) ?? parseText(claims['sub'])
    // Only an absent `sub` says that there is no end-user; one that cannot be read says nothing.
    if (subject === undefined && claims['sub'] !== undefined) throw invalid('sub cannot be read')
    const clientId =
      parseText(at('client')) ?? parseText(claims['client_id']) ?? parseText(claims['azp'])
    if (subject === undefined && clientId === undefined) throw invalid('neither sub nor client_id')
    // contract: `system/` only for client credentials (`sub` absent or equal to the client id)
    const isClient =
      subject === clientId || subject === parseText(claims['azp']) || isMarked(claims, clientId)
    // RFC 7662 names the member of an answer; wherever the tokens of its issuer have it.
    const scopes = readScopes(at('scope') ?? claims['scope'])
    const asserted = parseExtensions(claims)
    const roles = unite(parseCodes(at('roles')), asserted.roles)
    const purposes = unite(parseCodes(at('purposes')), asserted.purposes)
    const { identity } = asserted
    const consents = [...(identity?.consentPolicies ?? []), ...(identity?.consentReferences ?? [])]
    if ([roles, purposes, consents].some(isExcessive)) {
      throw invalid('more is said than can be weighed')
    }
    // Introspection may leave `sub` out; a token with scopes of a person is no client's own.
    const isPersonal = scopes.some(({ level }) => level !== 'system')
    const kind =
      subject === undefined ? (isPersonal ? 'user' : 'system') : isClient ? 'system' : 'user'
    return {
      issuer: issuer.url,
      subject,
      clientId,
      kind,
      key: JSON.stringify([issuer.url, subject ?? '', subject === undefined ? clientId : '']),
      scopes,
      patient: parsePatient(at('patient')),
      encounter: parsePatient(at('encounter')),
      context: parseFhirContext(at('fhirContext'), publicUrl),
      fhirUser: parseFhirUser(at('fhirUser'), publicUrl),
      roles,
      purposes,
      organization: parseText(at('organization')) ?? asserted.organization,
      ...(identity === undefined ? {} : { identity }),
      audiences: parseAudiences(claims['aud']),
      acr: parseText(at('acr')),
      amr: parseCodes(at('amr')),
      authTime: parseTime(at('authTime')),
      sessionId: parseText(at('session')),
      tokenId: parseText(at('token')) ?? parseText(claims['jti']),
      issuedAt: typeof claims['iat'] === 'number' ? claims['iat'] : 0,
      expiresAt: typeof claims['exp'] === 'number' ? claims['exp'] : 0,
    }
  }
}

/** Whether the issuer marks a token as that of a client itself. */
function createIsMarked({
  clientMark,
}: IssuerConfig): (claims: Claims, clientId: string | undefined) => boolean {
  if (clientMark === undefined) return () => false
  const read = compilePath(clientMark.claim)
  return (claims, clientId) =>
    clientId !== undefined &&
    read(claims) === clientMark.value.replaceAll('{client}', () => clientId)
}

const SCOPES = { most: 256, longest: 2048 }

/** An app asks for the same scopes again and again: what was read is shared, and not made anew. */
function createReadScopes(
  separator: ',' | ' ',
  takesV1: boolean,
): (claim: unknown) => readonly SmartScope[] {
  const parse = (claim: unknown): readonly SmartScope[] => parseScopes(claim, separator, takesV1)
  const parseText = recall(parse, SCOPES)
  return (claim) => (typeof claim === 'string' ? parseText(claim) : parse(claim))
}

/** Each once. */
function unite(some: readonly string[], others: readonly string[]): readonly string[] {
  const isPlain = others.length === 0 && some.length < 2
  return isPlain ? some : [...new Set([...some, ...others])]
}

/** RFC 7519 §4.1.3: "an array of case-sensitive strings", or one. */
function parseAudiences(aud: unknown): readonly string[] {
  if (typeof aud === 'string') return [aud]
  return Array.isArray(aud) ? aud.filter((each) => typeof each === 'string') : []
}

function invalid(detail: string): Refusal {
  return new Refusal('token-invalid', { detail })
}
