import { X509Certificate } from 'node:crypto'

/**
 * Throws unless a file holds whole certificates, PEM, and nothing else. OpenSSL trusts whom it can read and
 * says nothing of the rest: half a file would be trust in half of them, and one of no use in nobody.
 */
export function checkAuthorities(file: Buffer): void {
  const text = file.toString('latin1')
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  if (found.length === 0 || found.length !== text.match(/-----BEGIN /g)?.length) {
    throw new Error('the authorities must be whole certificates, PEM, and nothing else')
  }
  for (const certificate of found) new X509Certificate(certificate)
}
