import { createPrivateKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { SignJWT } from 'jose'
import type { Config } from '../config/schema.ts'
import { fits, isSignatureAlgorithm } from '../oauth/signature.ts'
import type { Signer } from '../ports.ts'
import { watchFiles } from './watched-files.ts'
import type { WatchedFiles, WatchOptions } from './watched-files.ts'

/** A private key in a file. */
export type SigningKey = { readonly keyFile: string; readonly algorithm: string }

/** Reads the key, and again when it changes. Throws when the first is none for the algorithm. */
export function watchSigningKey(
  { keyFile, algorithm }: SigningKey,
  options: WatchOptions<KeyObject>,
): WatchedFiles<KeyObject> {
  return watchFiles([keyFile], ([pem]) => parseKey(pem, algorithm), options)
}

function parseKey(pem: Buffer | undefined, algorithm: string): KeyObject {
  const key = createPrivateKey(pem ?? '')
  const isFit = isSignatureAlgorithm(algorithm) && fits(key, algorithm)
  if (!isFit) throw new Error(`the key is none for ${algorithm}`)
  return key
}

/** What signs the assertions for upstream; undefined when none are configured. */
export function watchAssertionKey(
  { upstream }: Config,
  ports: Pick<WatchOptions<unknown>, 'log' | 'reloaded'>,
): { readonly signer: Signer; readonly close: () => void } | undefined {
  const { keyFile, keyId, algorithm } = upstream.assertion
  if (keyFile === undefined) return undefined
  const setting = 'upstream.assertion.keyFile'
  const { current, close } = watchSigningKey({ keyFile, algorithm }, { ...ports, setting })
  const header = { alg: algorithm, typ: 'JWT', ...(keyId === undefined ? {} : { kid: keyId }) }
  const sign: Signer['sign'] = async (claims) =>
    new SignJWT(claims).setProtectedHeader(header).sign(current())
  return { signer: { sign }, close }
}
