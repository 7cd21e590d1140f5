import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'

/**
 * Texts that leave the gateway and come back unread and unchanged: authenticated encryption
 * (AES-256-GCM, NIST SP 800-38D), in characters that need no escaping in an address.
 *
 *   1 byte version · 4 bytes of the key's own hash · 12 bytes nonce · text · 16 bytes tag
 */
export type Seal = {
  /** Binds `text` to `context`: it opens with the same context only. */
  readonly close: (text: string, context: string) => string
  /** The text, or undefined: not ours, changed, for another context, or by a key no longer held. */
  readonly open: (sealed: string, context: string) => string | undefined
}

const VERSION = 1
const HEAD = 5
const NONCE = 12
const TAG = 16

/**
 * Keys of 32 bytes each: the first seals, all of them open, so that a key can be replaced while what
 * it has sealed is still about. Throws RangeError on a key of another length, or none.
 */
export function createSeal(keys: readonly Buffer[]): Seal {
  const known = keys.map((key) => {
    if (key.length !== 32) throw new RangeError('a sealing key must be 32 bytes')
    return {
      key,
      id: createHash('sha256')
        .update(key)
        .digest()
        .subarray(0, HEAD - 1),
    }
  })
  const [current] = known
  if (current === undefined) throw new RangeError('a seal needs a key')
  return {
    close(text, context) {
      const head = Buffer.concat([Buffer.of(VERSION), current.id])
      const nonce = randomBytes(NONCE)
      const cipher = createCipheriv('aes-256-gcm', current.key, nonce)
      cipher.setAAD(Buffer.concat([head, Buffer.from(context)]))
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([head, nonce, body, cipher.getAuthTag()]).toString('base64url')
    },
    open(sealed, context) {
      if (!/^[A-Za-z0-9_-]+$/.test(sealed)) return undefined
      const bytes = Buffer.from(sealed, 'base64url')
      // One spelling only: trailing bits that mean nothing would make a second one.
      if (bytes.length < HEAD + NONCE + TAG || bytes.toString('base64url') !== sealed)
        return undefined
      const head = bytes.subarray(0, HEAD)
      const match = known.find(({ id }) => head[0] === VERSION && head.subarray(1).equals(id))
      if (match === undefined) return undefined
      const nonce = bytes.subarray(HEAD, HEAD + NONCE)
      const decipher = createDecipheriv('aes-256-gcm', match.key, nonce)
      decipher.setAAD(Buffer.concat([head, Buffer.from(context)]))
      decipher.setAuthTag(bytes.subarray(bytes.length - TAG))
      try {
        const body = decipher.update(bytes.subarray(HEAD + NONCE, bytes.length - TAG))
        return Buffer.concat([body, decipher.final()]).toString('utf8')
      } catch {
        return undefined
      }
    },
  }
}
