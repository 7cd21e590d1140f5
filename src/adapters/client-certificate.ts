import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { parseClientCertificate } from '../http/client-certificate.ts'
import type { CertificateHeader } from '../http/client-certificate.ts'

/**
 * Reads which certificate the client of a request has proved to hold (AUTHN-13), as DER: to us, when
 * TLS ends here and has verified it; or to the trusted proxy that the request came from directly. The
 * header of anybody else is not looked at, and the certificate of the proxy itself is not its
 * client's.
 */
export function createCertificateReader(
  header: CertificateHeader | 'none',
): (request: IncomingMessage, isFromProxy: boolean) => Buffer | undefined {
  const known = new WeakMap<Socket, Buffer | undefined>()
  return ({ socket, rawHeaders }, isFromProxy) => {
    if (isFromProxy && header !== 'none') return parseClientCertificate(rawHeaders, header)
    if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
    if (!known.has(socket)) known.set(socket, socket.getPeerX509Certificate()?.raw)
    return known.get(socket)
  }
}
