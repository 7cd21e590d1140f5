/**
 * The client certificate that a TLS-terminating proxy vouches for. Whether the proxy may be believed
 * is decided elsewhere. What cannot be read is no certificate: whoever needs one is refused.
 */

/** Headers a proxy can be set to pass the certificate in. */
export const CERTIFICATE_HEADERS = [
  'client-cert',
  'x-ssl-client-cert',
  'x-forwarded-client-cert',
] as const
export type CertificateHeader = (typeof CERTIFICATE_HEADERS)[number]

const PARSERS: Readonly<Record<CertificateHeader, (value: string) => Buffer | undefined>> = {
  // RFC 9440 §2.1: a Byte Sequence of RFC 8941, the DER in base64 between colons.
  'client-cert': (value) => decodeBase64(/^:([^:]+):$/.exec(value)?.[1]),
  // nginx, `$ssl_client_escaped_cert`.
  'x-ssl-client-cert': parseEscapedPem,
  // Envoy, `forward_client_cert_details: SANITIZE_SET` with `cert: true`.
  'x-forwarded-client-cert': (value) => {
    const cert = parseForwarded(value)
    return cert === undefined ? undefined : parseEscapedPem(cert)
  },
}

/**
 * The certificate, DER; undefined when the header is not there, is there twice or cannot be read.
 *
 * @param rawHeaders - names and values alternating, as received
 */
export function parseClientCertificate(
  rawHeaders: readonly string[],
  header: CertificateHeader,
): Buffer | undefined {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== header) continue
    if (found !== undefined) return undefined
    found = rawHeaders[i + 1] ?? ''
  }
  return found === undefined ? undefined : PARSERS[header](found.trim())
}

function decodeBase64(text: string | undefined): Buffer | undefined {
  const isBase64 =
    text !== undefined && text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text)
  return isBase64 ? Buffer.from(text, 'base64') : undefined
}

const PEM = /^-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*$/

/** Exactly one certificate in PEM, percent-encoded. */
function parseEscapedPem(text: string): Buffer | undefined {
  let pem: string
  try {
    pem = decodeURIComponent(text)
  } catch {
    return undefined
  }
  return decodeBase64(PEM.exec(pem)?.[1]?.replace(/\s/g, ''))
}

/**
 * `Cert` of the one element of Envoy's header: `Hash=…;Cert="…";Subject="…"`. A second element was
 * put there by whoever sent the request to the proxy, so none is believed then.
 */
function parseForwarded(value: string): string | undefined {
  const pair = /([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)(;|$)/y
  let cert: string | undefined
  while (pair.lastIndex < value.length) {
    const [, name = '', given = ''] = pair.exec(value) ?? []
    if (name === '') return undefined
    if (name.toLowerCase() !== 'cert') continue
    if (cert !== undefined) return undefined
    cert = given.replace(/^"|"$/g, '')
  }
  return cert
}
