import type { Config } from '../config/schema.ts'
import { watchListenerCertificate } from './listener-certificate.ts'
import { watchAssertionKey } from './signing-key.ts'
import { createUpstreamCredentials } from './upstream-credentials.ts'
import { watchUpstreamTls } from './upstream-tls.ts'
import { parseSecret, watchFiles } from './watched-files.ts'

const quiet = () => undefined
const LOG = { debug: quiet, info: quiet, warn: quiet, error: quiet }

/**
 * Reads every certificate, key and secret file that a start would read, and says what is of no use,
 * one message a setting. Asks nobody on the network.
 */
export function findFileProblems(config: Config): string[] {
  const { passwordFile } = config.redis
  const ports = { log: LOG, now: () => Date.now() }
  const attempts: readonly (() => { readonly close: () => void } | undefined)[] = [
    () => watchListenerCertificate(config.tls, ports),
    () => createUpstreamCredentials(config, ports),
    () => watchUpstreamTls(config.upstream, { ...ports, changed: quiet }),
    () => watchAssertionKey(config, ports),
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
