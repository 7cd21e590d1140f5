import { constants, generateKeyPairSync, sign, verify } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { decodeBase64Url } from '../../src/oauth/jwt-object.ts'
import { isKeyFor, isSignedBy, isSignedByLater } from '../../src/oauth/signature.ts'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const INPUT = 'aGVhZA.Ym9keQ'
const bytes = Buffer.from(INPUT)
const text = (signature: Uint8Array): string => Buffer.from(signature).toString('base64url')

t.test('ECDSA: what Node says of R and S, whatever they are (RFC 7518 §3.4)', async (t) => {
  const curves = [
    { alg: 'ES256', namedCurve: 'P-256', octets: 32, hash: 'sha256' },
    { alg: 'ES384', namedCurve: 'P-384', octets: 48, hash: 'sha384' },
    { alg: 'ES512', namedCurve: 'P-521', octets: 66, hash: 'sha512' },
  ] as const
  for (const { alg, namedCurve, octets, hash } of curves) {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve })
    const dsaEncoding = 'ieee-p1363'
    const make = (): Buffer => sign(hash, bytes, { key: privateKey, dsaEncoding })
    const nodeSays = (signature: Uint8Array): boolean => {
      try {
        return verify(hash, bytes, { key: publicKey, dsaEncoding }, signature)
      } catch {
        return false
      }
    }
    t.ok(isKeyFor(publicKey, alg))
    // Enough for numbers that begin with zeros, and with a one where a sign would be.
    for (let n = 0; n < 150; n++) {
      const signature = make()
      t.ok(isSignedBy(publicKey, alg, INPUT, text(signature)) || !nodeSays(signature), alg)
    }
    const good = make()
    const number = fc.oneof(
      fc.constant(new Uint8Array(octets)),
      fc.constant(new Uint8Array(octets).fill(255)),
      fc.constant(good.subarray(0, octets)),
      fc.constant(good.subarray(octets)),
      fc.uint8Array({ minLength: octets, maxLength: octets }),
      fc
        .tuple(fc.nat({ max: octets }), fc.uint8Array({ minLength: octets, maxLength: octets }))
        .map(([zeros, tail]) => tail.fill(0, 0, zeros)),
    )
    const any = fc.oneof(
      fc.tuple(number, number).map(([r, s]) => Buffer.concat([r, s])),
      fc.uint8Array({ maxLength: 2 * octets + 10 }),
    )
    await fc.assert(
      fc.asyncProperty(any, async (signature) => {
        const expected = nodeSays(signature)
        const later = await isSignedByLater(publicKey, alg, INPUT, text(signature))
        return isSignedBy(publicKey, alg, INPUT, text(signature)) === expected && later === expected
      }),
      { numRuns: 150 },
    )
    for (const signature of [
      good.subarray(1),
      Buffer.concat([good, Buffer.of(0)]),
      Buffer.concat([Buffer.of(0), good]),
      Buffer.alloc(2 * octets),
      sign(hash, bytes, privateKey),
    ]) {
      t.notOk(isSignedBy(publicKey, alg, INPUT, text(signature)), `${signature.length} octets`)
    }
    t.notOk(isSignedBy(publicKey, alg, `${INPUT}x`, text(good)), 'another input')
  }
})

t.test('one RSA key, each algorithm by itself (RFC 7518 §3.3, §3.5)', async (t) => {
  const { publicKey, privateKey } = rsa
  const padding = constants.RSA_PKCS1_PSS_PADDING
  const made = {
    RS256: sign('sha256', bytes, privateKey),
    RS512: sign('sha512', bytes, privateKey),
    PS256: sign('sha256', bytes, { key: privateKey, padding, saltLength: 32 }),
    PS512: sign('sha512', bytes, { key: privateKey, padding, saltLength: 64 }),
    'PS256 of no salt': sign('sha256', bytes, { key: privateKey, padding, saltLength: 0 }),
    'PS256 of much salt': sign('sha256', bytes, { key: privateKey, padding, saltLength: 100 }),
  }
  // Twice: the second time by what is kept of the key.
  for (let round = 0; round < 2; round++) {
    for (const alg of ['RS256', 'PS256', 'RS512', 'PS512', 'RS384', 'PS384'] as const) {
      for (const [name, signature] of Object.entries(made)) {
        const of = [publicKey, alg, INPUT, text(signature)] as const
        t.equal(isSignedBy(...of), name === alg, `${name} as ${alg}`)
        t.equal(await isSignedByLater(...of), name === alg, `${name} as ${alg}, later`)
      }
    }
  }
  t.equal(publicKey.asymmetricKeyType, 'rsa')
  t.notOk('padding' in publicKey, 'the key itself is left as it was')
})

t.test('base64url as RFC 7515 §2 has it, and nothing like it', (t) => {
  const alphabet = fc.constantFrom(...Array.from('ABCxyz019-_+/=~. \n\u0000é€'))
  fc.assert(
    fc.property(fc.string({ unit: alphabet, maxLength: 12 }), (given) => {
      const isStrict = /^[\w-]+$/.test(given) && given.length % 4 !== 1
      return (decodeBase64Url(given) !== undefined) === isStrict
    }),
    { numRuns: 20_000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1 }), (octets) =>
      decodeBase64Url(text(octets))?.equals(octets),
    ),
  )
  t.end()
})
