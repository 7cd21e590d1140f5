import { createHmac, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { compileNames } from '../../src/json/names.ts'
import { createSimdScan } from '../../src/json/simd-scan.ts'
import { member } from '../../src/json/tape.ts'
import { createKeyedHash } from '../../src/stages/release/mask/keyed-hash.ts'
import { CONTAINED, pseudonym, pseudonymAt } from '../../src/stages/release/mask/pseudonyms.ts'
import { createKnown } from '../../src/stages/release/mask/method-context.ts'

/** What pseudonyms are made of: HMAC-SHA256, and that equal texts have equal ones wherever they stand. */

t.test(
  'a keyed hash is HMAC-SHA256 (RFC 2104), whatever the key and the text (MASK-12)',
  async (t) => {
    // RFC 4231 §4.2, §4.3 and §4.7: a key of 20 bytes, a short one, and one longer than a block.
    const vectors: [key: Buffer, text: string, sum: string][] = [
      [
        Buffer.alloc(20, 0x0b),
        'Hi There',
        'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
      ],
      [
        Buffer.from('Jefe'),
        'what do ya want for nothing?',
        '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
      ],
      [
        Buffer.alloc(131, 0xaa),
        'Test Using Larger Than Block-Size Key - Hash Key First',
        '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
      ],
    ]
    for (const [key, text, sum] of vectors) {
      t.equal(createKeyedHash(createSecretKey(key))(text), sum, text)
    }
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.array(fc.string({ unit: 'binary', maxLength: 900 }), { maxLength: 6 }),
        (key, texts) => {
          const keyed = createKeyedHash(createSecretKey(key))
          return texts.every(
            (text) => keyed(text) === createHmac('sha256', key).update(text).digest('hex'),
          )
        },
      ),
      { numRuns: 300 },
    )
  },
)

const keyedHash = createKeyedHash(createSecretKey(Buffer.alloc(32, 7)))
const contextOf = (recipient: string) => ({
  keyedHash,
  recipient,
  known: createKnown(Date.now(), () => true, ['http://up.example/fhir']),
})

t.test(
  'one id has one pseudonym in references, addresses and ids, another for others',
  async (t) => {
    const one = contextOf('one')
    const id = pseudonym('p1', 'id', one, 'Patient')
    t.match(id, /^[0-9a-f]{32}$/)
    t.equal(pseudonym('Patient/p1', 'string', one), `Patient/${id}`)
    t.equal(pseudonym('http://up.example/fhir/Patient/p1', 'uri', one), `Patient/${id}`)
    t.equal(pseudonym('Patient/p1/_history/3', 'string', one), `Patient/${id}`)
    const theirs = { ...one, home: 'http://else.example/' }
    t.not(pseudonym('p1', 'id', theirs, 'Patient'), id, 'elsewhere it is another')
    t.equal(
      pseudonym('Patient/p1', 'string', theirs),
      `Patient/${pseudonym('p1', 'id', theirs, 'Patient')}`,
    )
    t.equal(
      pseudonym('http://else.example/Patient/p1', 'string', one),
      pseudonym('Patient/p1', 'string', theirs),
    )
    t.equal(pseudonym('http://up.example/fhir/Patient/p1', 'uri', theirs), `Patient/${id}`)
    const contained = pseudonym('p1', 'id', one, CONTAINED)
    t.equal(pseudonym('#p1', 'string', one), `#${contained}`)
    const kinds = [undefined, 'Patient', 'Group', 'Meta', CONTAINED]
    const seen = new Set(kinds.map((kind) => pseudonym('p1', 'id', one, kind)))
    t.equal(seen.size, kinds.length, 'one for each that it is the id of')
    const uuid = pseudonym('urn:uuid:0B7C', 'string', one)
    t.match(uuid, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/)
    t.equal(uuid, pseudonym('URN:UUID:0b7c', 'uri', one))
    t.not(
      pseudonym('p1', 'id', contextOf('another'), 'Patient'),
      id,
      'no two recipients can compare theirs',
    )
    t.not(pseudonym('p1', 'uri', one), id, 'as a URI it is an address')
  },
)

t.test(
  'equal strings of a tape have it at once; other types, tapes and recipients their own',
  async (t) => {
    const names = compileNames(['a', 'b', 'c'])
    const scan = createSimdScan(names, 8)
    const context = contextOf('one')
    const at = (tape: ReturnType<typeof scan>, name: string, type = 'string'): string =>
      pseudonymAt(tape, member(tape, 0, names.id(name)), type, context)
    const first = scan(Buffer.from('{"a":"Patient/1","b":"Patient/1","c":"Patient/1"}'))
    t.equal(at(first, 'a'), at(first, 'b'))
    t.equal(at(first, 'b'), at(first, 'c'))
    const plain = scan(Buffer.from('{"a":"x","b":"x"}'))
    t.equal(at(plain, 'a'), pseudonym('x', 'string', contextOf('one')))
    t.equal(at(plain, 'b', 'uri'), pseudonym('x', 'uri', contextOf('one')), 'by type')
    const second = scan(Buffer.from('{"a":"Patient/2","b":"Patient/2"}'))
    t.equal(at(second, 'b'), pseudonym('Patient/2', 'string', contextOf('one')), 'of this tape')
  },
)
