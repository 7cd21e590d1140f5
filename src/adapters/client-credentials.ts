import { importPKCS8 } from 'jose'
import {
  allowInsecureRequests,
  ClientSecretBasic,
  ClientSecretPost,
  clientCredentialsGrant,
  Configuration,
  discovery,
  PrivateKeyJwt,
} from 'openid-client'
import type { ClientAuth, ServerMetadata } from 'openid-client'
import type { Config } from '../config/schema.ts'
import type { Log } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { watchSigningKey } from './signing-key.ts'
import { parseSecret, watchFiles } from './watched-files.ts'

const TIMEOUT_SECONDS = 3
const LONGEST_PAUSE_MS = 30_000
/** For a token that does not say how long it lasts (RFC 6749 §5.1 only recommends it). */
const ASSUMED_SECONDS = 300
/** A token is not sent so shortly before its end that it could end on the way. */
const MARGIN_MS = 2_000
const MARGIN_SHARE = 0.1
/** Between two fetches that upstream's 401 caused. */
const COOLDOWN_MS = 10_000
const B64TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/

/** What {@link createClientCredentials} needs from outside. */
export type CredentialPorts = {
  readonly log: Log
  readonly now: () => number
  readonly reloaded?: (setting: string, result: 'reloaded' | 'failed') => void
  readonly fetched?: (result: 'fetched' | 'failed') => void
}

/** The Authorization header of the gateway itself, for upstream (AUTHN-19). */
export type UpstreamCredentials = {
  /** Undefined: none is configured. Rejects with {@link Refusal} `upstream-credentials`. */
  readonly authorization: () => string | undefined | Promise<string>
  /** Upstream answered 401. */
  readonly rejected: () => void
  readonly isReady: () => boolean
  readonly start: () => Promise<void>
  readonly close: () => void
}

type Token = { readonly value: string; readonly fetchedAt: number; readonly usableUntil: number }

/**
 * A token by the client credentials grant (RFC 6749 §4.4), fetched in the background well ahead of
 * its end, once for everybody who waits. A provider that is down is asked again ever more slowly, and
 * the last token serves until its end; then requests are refused.
 */
export function createClientCredentials(
  settings: Config['upstream']['credentials'],
  ports: CredentialPorts,
): UpstreamCredentials {
  const { log, now, fetched } = ports
  const authenticate = watchAuthentication(settings, ports)
  let server: ServerMetadata | undefined
  let token: Token | undefined
  let pending: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let failures = 0
  let isClosed = false

  const valid = (): Token | undefined =>
    token !== undefined && now() < token.usableUntil ? token : undefined

  async function refresh(): Promise<void> {
    pending ??= fetchToken().finally(() => {
      pending = undefined
    })
    return pending
  }

  async function fetchToken(): Promise<void> {
    clearTimeout(timer)
    let wait: number
    try {
      server ??= await findServer(settings)
      const client = new Configuration(
        server,
        settings.clientId ?? '',
        undefined,
        await authenticate.by(server),
      )
      client.timeout = TIMEOUT_SECONDS
      allowPlain(client, server.token_endpoint ?? '')
      const { scope, resource } = settings
      const answer = await clientCredentialsGrant(client, {
        ...(scope === undefined ? {} : { scope }),
        ...(resource === undefined ? {} : { resource }),
      })
      if (answer.token_type !== 'bearer' || !B64TOKEN.test(answer.access_token)) {
        throw new Error('the answer holds no bearer token')
      }
      const fetchedAt = now()
      const lasts = Math.max(1, answer.expires_in ?? ASSUMED_SECONDS) * 1000
      const usableUntil = fetchedAt + lasts - Math.min(MARGIN_MS, lasts * MARGIN_SHARE)
      token = { value: `Bearer ${answer.access_token}`, fetchedAt, usableUntil }
      failures = 0
      wait = Math.min(lasts * 0.75, 2 ** 31 - 1)
      fetched?.('fetched')
    } catch (error) {
      // It may have moved since it was found.
      server = undefined
      failures += 1
      wait = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures) * (0.5 + Math.random() / 2)
      fetched?.('failed')
      const { code, name } = error as NodeJS.ErrnoException
      const fields = { setting: 'upstream.credentials', problem: code ?? name, attempt: failures }
      log.error(fields, 'no token of our own for upstream could be got')
    }
    if (isClosed) return
    timer = setTimeout(() => void refresh(), wait)
    timer.unref()
  }

  return {
    authorization() {
      const known = valid()
      if (known !== undefined) return known.value
      return (async () => {
        // While the provider is known to be down nobody waits for the next attempt.
        if (pending !== undefined || failures === 0) await refresh()
        const value = valid()?.value
        if (value === undefined) throw new Refusal('upstream-credentials')
        return value
      })()
    },
    rejected() {
      if (token !== undefined && now() - token.fetchedAt > COOLDOWN_MS) void refresh()
    },
    isReady: () => valid() !== undefined,
    start: refresh,
    close() {
      isClosed = true
      clearTimeout(timer)
      authenticate.close()
    },
  }
}

async function findServer({
  issuer,
  tokenUrl,
  clientId,
}: Config['upstream']['credentials']): Promise<ServerMetadata> {
  if (issuer === undefined) {
    return { issuer: new URL(tokenUrl ?? '').origin, token_endpoint: tokenUrl ?? '' }
  }
  const url = new URL(issuer)
  const found = await discovery(url, clientId ?? '', undefined, undefined, {
    timeout: TIMEOUT_SECONDS,
    // Whether plain http: is acceptable was decided when configuration was loaded.
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to stand out
    execute: url.protocol === 'http:' ? [allowInsecureRequests] : [],
  })
  const metadata = found.serverMetadata()
  const endpoint = new URL(metadata.token_endpoint ?? '')
  if (endpoint.protocol !== 'https:' && endpoint.protocol !== url.protocol) {
    throw new Error('the token endpoint is less protected than its issuer')
  }
  return metadata
}

function allowPlain(client: Configuration, endpoint: string): void {
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to stand out
  if (endpoint.startsWith('http:')) allowInsecureRequests(client)
}

/** How the client proves itself: by a signature (SMART Backend Services), or by its secret. */
function watchAuthentication(
  settings: Config['upstream']['credentials'],
  { log, reloaded }: CredentialPorts,
): { by: (server: ServerMetadata) => Promise<ClientAuth>; close: () => void } {
  const { keyFile, keyId, secretFile = '', algorithm } = settings
  const options = { log, ...(reloaded === undefined ? {} : { reloaded }) }
  if (keyFile !== undefined) {
    const setting = 'upstream.credentials.keyFile'
    const watched = watchSigningKey({ keyFile, algorithm }, { ...options, setting })
    return {
      async by() {
        const pem = watched.current().export({ type: 'pkcs8', format: 'pem' }).toString()
        const key = await importPKCS8(pem, algorithm)
        return PrivateKeyJwt(keyId === undefined ? key : { key, kid: keyId })
      },
      close: watched.close,
    }
  }
  const setting = 'upstream.credentials.secretFile'
  const watched = watchFiles([secretFile], ([content]) => parseSecret(content), {
    ...options,
    setting,
  })
  return {
    async by({ token_endpoint_auth_methods_supported: methods }) {
      // RFC 8414 §2: "If omitted, the default is client_secret_basic".
      const isBasic = methods === undefined || methods.includes('client_secret_basic')
      return (isBasic ? ClientSecretBasic : ClientSecretPost)(watched.current())
    },
    close: watched.close,
  }
}
