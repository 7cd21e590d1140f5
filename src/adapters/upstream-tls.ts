import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { Config } from '../config/schema.ts'
import { checkAuthorities } from './authorities.ts'
import { watchFiles } from './watched-files.ts'
import type { WatchOptions } from './watched-files.ts'

type Context = { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer }

/** Whom we trust on the way to upstream, and who we are there. */
export type UpstreamTls = {
  readonly context: () => Context
  readonly expiresAt: (() => number) | undefined
  readonly close: () => void
}

/**
 * Reads authorities, certificate and key, and again when they change; a pair that does not fit or has
 * expired never takes the place of one that works. Throws when the first cannot be used.
 */
export function watchUpstreamTls(
  { caFile, certificateFile, keyFile }: Config['upstream'],
  options: Pick<WatchOptions<unknown>, 'log' | 'reloaded'> & { readonly changed: () => void },
): UpstreamTls {
  const files = Object.entries({ ca: caFile, cert: certificateFile, key: keyFile }).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  )
  let isFirst = true

  function load(contents: readonly Buffer[]): { context: Context; expiresAt: number } {
    const context: Context = Object.fromEntries(files.map(([name], at) => [name, contents[at]]))
    createSecureContext(context)
    if (context.ca !== undefined) checkAuthorities(context.ca)
    const { cert } = context
    const expiresAt = cert === undefined ? NaN : new X509Certificate(cert).validToDate.getTime()
    if (!isFirst && expiresAt <= Date.now()) throw new Error('the certificate has expired')
    isFirst = false
    return { context, expiresAt }
  }

  if (files.length === 0) {
    return { context: () => ({}), expiresAt: undefined, close: () => undefined }
  }
  const names = files.map(([, file]) => file)
  const watched = watchFiles(names, load, { ...options, setting: 'upstream' })
  return {
    context: () => watched.current().context,
    expiresAt: certificateFile === undefined ? undefined : () => watched.current().expiresAt,
    close: watched.close,
  }
}
