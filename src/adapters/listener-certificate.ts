import { constants, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { SecureContextOptions, Server, TlsOptions } from 'node:tls'
import type { Config } from '../config/schema.ts'
import { checkAuthorities } from './authorities.ts'
import { watchFiles } from './watched-files.ts'
import type { WatchOptions } from './watched-files.ts'

/** RFC 9325 §4.2: with TLS 1.2 only forward secrecy and authenticated encryption. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  ...['ECDSA', 'RSA'].flatMap((kind) =>
    ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'].map(
      (cipher) => `ECDHE-${kind}-${cipher}`,
    ),
  ),
].join(':')

/** The certificate of the FHIR listener, which follows its files. */
export type ListenerCertificate = {
  readonly options: () => TlsOptions
  /** From now on this server follows; connections under way go on as they began. */
  readonly attach: (server: Server) => void
  /** Milliseconds since the epoch. */
  readonly expiresAt: () => number
  readonly close: () => void
}

/**
 * Reads certificate, key and client authorities, and again when they change. A new certificate that
 * does not fit its key, cannot be read or has expired never takes the place of one that works. Throws
 * when the first pair cannot be used.
 */
export function watchListenerCertificate(
  tls: Config['tls'],
  ports: Pick<WatchOptions<unknown>, 'log' | 'reloaded'>,
): ListenerCertificate | undefined {
  const { certificateFile, keyFile, clientCaFile, clientCertificates } = tls
  if (certificateFile === undefined || keyFile === undefined) return undefined
  let server: Server | undefined
  let isFirst = true

  function load([cert, key, ca]: readonly Buffer[]) {
    if (cert === undefined || key === undefined) throw new Error('a file is missing')
    const expiresAt = new X509Certificate(cert).validToDate.getTime()
    if (!isFirst && expiresAt <= Date.now()) throw new Error('the certificate has expired')
    const context: SecureContextOptions = {
      ...{ cert, key, ciphers: CIPHERS, honorCipherOrder: true },
      ...(ca === undefined ? {} : { ca }),
      minVersion: tls.minimumVersion === 1.3 ? 'TLSv1.3' : 'TLSv1.2',
      maxVersion: 'TLSv1.3',
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    }
    createSecureContext(context)
    if (ca !== undefined) checkAuthorities(ca)
    isFirst = false
    return { context, expiresAt }
  }

  const files = [certificateFile, keyFile, ...(clientCaFile === undefined ? [] : [clientCaFile])]
  const watched = watchFiles(files, load, {
    ...ports,
    setting: 'tls',
    changed: ({ context }) => server?.setSecureContext(context),
  })
  return {
    options: () => ({
      ...watched.current().context,
      handshakeTimeout: 10_000,
      requestCert: clientCertificates !== 'none',
      rejectUnauthorized: clientCertificates === 'require',
      ALPNProtocols: ['http/1.1'],
    }),
    attach(attached) {
      server = attached
    },
    expiresAt: () => watched.current().expiresAt,
    close: watched.close,
  }
}
