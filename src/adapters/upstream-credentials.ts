import type { Config } from '../config/schema.ts'
import { createClientCredentials } from './client-credentials.ts'
import type { CredentialPorts, UpstreamCredentials } from './client-credentials.ts'
import { parseSecret, watchFiles } from './watched-files.ts'

/** What the gateway shows upstream as its own. Throws when a secret file is of no use. */
export function createUpstreamCredentials(
  { upstream }: Config,
  ports: CredentialPorts,
): UpstreamCredentials {
  const { kind, secretFile = '' } = upstream.credentials
  const { log, reloaded } = ports
  if (kind === 'client-credentials') return createClientCredentials(upstream.credentials, ports)
  if (kind === 'none') return show(() => upstream.authorization)
  const format = kind === 'basic' ? formatBasic : formatBearer
  const watched = watchFiles([secretFile], ([content]) => format(parseSecret(content)), {
    ...{ setting: 'upstream.credentials.secretFile', log },
    ...(reloaded === undefined ? {} : { reloaded }),
  })
  return { ...show(watched.current), close: watched.close }
}

function show(authorization: () => string | undefined): UpstreamCredentials {
  return {
    authorization,
    rejected: () => undefined,
    isReady: () => true,
    start: async () => undefined,
    close: () => undefined,
  }
}

/** RFC 7617 §2: user-id, a colon, and the password, as base64. */
function formatBasic(pair: string): string {
  if (!/^[^:]+:./.test(pair)) throw new Error('the file must hold user:password')
  return `Basic ${Buffer.from(pair).toString('base64')}`
}

function formatBearer(token: string): string {
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(token)) throw new Error('the file holds no bearer token')
  return `Bearer ${token}`
}
