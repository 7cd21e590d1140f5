import { accessSync, constants } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Config } from '../config/schema.ts'
import { createDenylist } from './denylist.ts'
import { createIntrospection } from './introspection.ts'
import { watchListenerCertificate } from './listener-certificate.ts'
import { readAuthorities } from './redis-connection.ts'
import { watchAssertionKey } from './signing-key.ts'
import { createUpstreamCredentials } from './upstream-credentials.ts'
import { watchUpstreamTls } from './upstream-tls.ts'
import { parseSecret, watchFiles } from './watched-files.ts'

const quiet = () => undefined
const LOG = { debug: quiet, info: quiet, warn: quiet, error: quiet }

/**
 * Reads every certificate, key, secret and list that a start would read, and says what is of no use,
 * one message a setting. Asks nobody on the network.
 */
export function findFileProblems(config: Config): string[] {
  const { passwordFile, caFile } = config.redis
  const ports = { log: LOG, now: () => Date.now(), keys: { metadata: () => undefined } }
  const attempts: readonly (() => { readonly close: () => void } | undefined)[] = [
    () => watchListenerCertificate(config.tls, ports),
    () => createUpstreamCredentials(config, ports),
    () => watchUpstreamTls(config.upstream, { ...ports, changed: quiet }),
    () => watchAssertionKey(config, ports),
    () => createDenylist(config, ports),
    () => {
      if (caFile !== undefined) readAuthorities(caFile)
      return undefined
    },
    ...config.issuers.map((issuer) => () => createIntrospection({ issuers: [issuer] }, ports)),
    () =>
      passwordFile === undefined
        ? undefined
        : watchFiles([passwordFile], ([content]) => parseSecret(content), {
            ...{ setting: 'redis.passwordFile', log: LOG },
          }),
  ]
  return attempts.flatMap((attempt) => {
    try {
      attempt()?.close()
      return []
    } catch (error) {
      return [(error as Error).message]
    }
  })
}

/** Why a start on this machine could not open the audit log; undefined = it could. Makes nothing. */
export function findAuditProblem({ audit }: Config): string | undefined {
  const folder = dirname(resolve(audit.file))
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    return `audit.file: the folder ${folder} ${isMissing ? 'is not there' : 'may not be written to'}, so a start here would fail`
  }
}
