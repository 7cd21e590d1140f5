import fc from 'fast-check'
import t from 'tap'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import {
  formatInteraction,
  InteractionError,
  parseInteraction,
  withForm,
} from '../../src/fhir/interaction.ts'
import type { Interaction } from '../../src/fhir/interaction.ts'
import { isReason, toRefusal } from '../../src/refusal.ts'
import { HOSTILE_TARGETS } from '../support/hostile-targets.ts'

const definitions = loadDefinitions('R4')
const limits = { targetBytes: 8192, parameters: 50, valuesPerParameter: 100 }

const parse = (method: string, target: string, headers: Record<string, string | string[]> = {}) =>
  parseInteraction({ method, target, headers }, definitions, limits)

function reasonOf(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (error instanceof InteractionError) return error.reason
    throw error
  }
  return 'accepted'
}

t.test('§8: OPTIONS of the base asks what the server is', async (t) => {
  t.match(parse('OPTIONS', ''), { code: 'capabilities', method: 'GET', parameters: [] })
  for (const target of ['/metadata', '/Patient', '/Patient/1'])
    t.equal(
      reasonOf(() => parse('OPTIONS', target)),
      'method-not-allowed',
      target,
    )
})

t.test('REST-1: every interaction there is', async (t) => {
  // prettier-ignore
  const table: readonly (readonly [string, string, string, string])[] = [
    ['GET',    '/metadata',                      'capabilities',       '/metadata'],
    ['GET',    '/metadata?mode=full',            'capabilities',       '/metadata?mode=full'],
    ['GET',    '/$versions',                     'versions',           '/$versions'],
    ['GET',    '/Patient/x',                     'read',               '/Patient/x'],
    ['HEAD',   '/Patient/x',                     'read',               '/Patient/x'],
    ['GET',    '/Patient/x?_summary=true',       'read',               '/Patient/x?_summary=true'],
    ['GET',    '/Patient/x/_history/2',          'vread',              '/Patient/x/_history/2'],
    ['PUT',    '/Patient/x',                     'update',             '/Patient/x'],
    ['PUT',    '/Patient?identifier=1',          'conditional-update', '/Patient?identifier=1'],
    ['PATCH',  '/Patient/x',                     'patch',              '/Patient/x'],
    ['PATCH',  '/Patient?identifier=1',          'conditional-patch',  '/Patient?identifier=1'],
    ['DELETE', '/Patient/x',                     'delete',             '/Patient/x'],
    ['DELETE', '/Patient?identifier=1',          'conditional-delete', '/Patient?identifier=1'],
    ['DELETE', '/Patient/x/_history',            'delete-history',     '/Patient/x/_history'],
    ['DELETE', '/Patient/x/_history/2',          'delete-history',     '/Patient/x/_history/2'],
    ['POST',   '/Patient',                       'create',             '/Patient'],
    ['GET',    '/Patient',                       'search-type',        '/Patient'],
    ['GET',    '/Patient?',                      'search-type',        '/Patient'],
    ['GET',    '/Patient?name=a%20b,c',          'search-type',        '/Patient?name=a%20b,c'],
    ['GET',    '/Patient?name=a+b',              'search-type',        '/Patient?name=a%20b'],
    ['GET',    '/Patient?identifier=s|v',        'search-type',        '/Patient?identifier=s%7Cv'],
    ['GET',    '/Patient?name%3Aexact=a',        'search-type',        '/Patient?name:exact=a'],
    ['GET',    '/Patient?name=a%5C,b',           'search-type',        '/Patient?name=a%5C%2Cb'],
    ['POST',   '/Patient/_search',               'search-type',        '/Patient/_search'],
    ['GET',    '',                               'search-system',      ''],
    ['GET',    '?_type=Patient&name=a',          'search-system',      '?_type=Patient&name=a'],
    ['POST',   '/_search',                       'search-system',      '/_search'],
    ['GET',    '/Patient/x/Observation?code=1',  'search-compartment', '/Patient/x/Observation?code=1'],
    ['GET',    '/Patient/x/*',                   'search-compartment', '/Patient/x/*'],
    ['GET',    '/Device/x/Observation',          'search-compartment', '/Device/x/Observation'],
    ['POST',   '/Patient/x/Observation/_search', 'search-compartment', '/Patient/x/Observation/_search'],
    ['GET',    '/Patient/x/_history?_count=5',   'history-instance',   '/Patient/x/_history?_count=5'],
    ['GET',    '/Patient/_history',              'history-type',       '/Patient/_history'],
    ['GET',    '/_history?_since=2020',          'history-system',     '/_history?_since=2020'],
    ['POST',   '',                               'batch',              ''],
    ['GET',    '/$export?_type=Patient',         'operation',          '/$export?_type=Patient'],
    ['POST',   '/Patient/$match',                'operation',          '/Patient/$match'],
    ['GET',    '/Patient/x/$everything',         'operation',          '/Patient/x/$everything'],
    ['GET',    '/Patient/x/_history/2/$meta',    'operation',          '/Patient/x/_history/2/$meta'],
    ['GET',    '/$graphql?query=a',              'operation',          '/$graphql?query=a'],
    ['GET',    '?_getpages=abc&_count=5',        'paging',             '?_getpages=abc&_count=5'],
  ]
  for (const [method, target, code, canonical] of table) {
    const interaction = parse(method, target)
    const { path, query } = formatInteraction(interaction)
    t.equal(interaction.code, code, `${method} ${target}`)
    t.equal(query === '' ? path : `${path}?${query}`, canonical, `${method} ${target}, canonical`)
    t.strictSame(parse(method, canonical), interaction, `${method} ${target}, parsed again`)
  }
})

t.test('chains, modifiers and includes keep their structure', async (t) => {
  const one = (target: string) => parse('GET', target).parameters[0]
  t.strictSame(one('/Observation?subject:Patient.name:exact=a,b'), {
    name: 'subject',
    modifier: 'Patient',
    chain: { name: 'name', modifier: 'exact', values: ['a', 'b'] },
    values: ['a', 'b'],
  })
  t.match(one('/Observation?subject.name=a'), { name: 'subject', chain: { name: 'name' } })
  t.match(one('/Patient?_has:Observation:patient:code=1'), {
    name: '_has',
    modifier: 'Observation:patient:code',
  })
  t.match(one('/Patient?_has:Observation:patient:_has:Provenance:target:when=2020'), {
    name: '_has',
  })
  t.match(one('/Patient?_revinclude:iterate=Observation:subject'), { modifier: 'iterate' })
  t.match(one('/Patient?birthdate:missing=true'), { modifier: 'missing' })
})

t.test(
  'REST-2, REST-3, REST-5, AUTHN-3: hostile targets are refused, each with a reason',
  async (t) => {
    t.ok(HOSTILE_TARGETS.length >= 80)
    for (const { name, method, target } of HOSTILE_TARGETS) {
      const reason = reasonOf(() => parse(method, target))
      t.ok(isReason(reason), `${name}: ${reason}`)
    }
    t.equal(
      reasonOf(() => parse('GET', '/Patient?access_token=a')),
      'credentials-malformed',
    )
    t.equal(
      reasonOf(() => parse('GET', '/patient/1')),
      'interaction-unknown',
    )
    t.equal(
      reasonOf(() => parse('GET', '/Patient/%2e%2e')),
      'target-malformed',
    )
    t.equal(
      reasonOf(() => parse('GET', '/Patient?ssn=1')),
      'parameter-unknown',
    )
    t.equal(
      reasonOf(() => parse('GET', '/Patient?name:regex=a')),
      'parameter-malformed',
    )
  },
)

t.test('INPUT-1: limits of the target', async (t) => {
  const many = Array.from({ length: 51 }, () => 'name=a').join('&')
  t.equal(
    reasonOf(() => parse('GET', `/Patient?${many}`)),
    'parameter-malformed',
  )
  t.equal(
    reasonOf(() => parse('GET', `/Patient?name=a${',a'.repeat(100)}`)),
    'parameter-malformed',
  )
  t.equal(
    reasonOf(() => parse('GET', `/Patient?name=${'a'.repeat(8192)}`)),
    'target-too-long',
  )
})

t.test('HTTP-4, ERR-6: a refused method names those allowed', async (t) => {
  const table = [
    ['POST', '/Patient/1', 'GET, HEAD, PUT, PATCH, DELETE'],
    ['DELETE', '/Patient', 'GET, HEAD, POST'],
    ['TRACE', '/Patient/_search', 'POST'],
  ] as const
  for (const [method, target, allow] of table) {
    try {
      parse(method, target)
      t.fail(`${method} ${target} was accepted`)
    } catch (error) {
      t.match(toRefusal(error), { reason: 'method-not-allowed', headers: { allow } })
    }
  }
})

t.test('REST-4: GET [type]/_search is a search in DSTU2, and nowhere else', async (t) => {
  const dstu2 = loadDefinitions('DSTU2')
  const request = (method: string, target: string) => ({ method, target, headers: {} })
  for (const method of ['GET', 'HEAD']) {
    const found = parseInteraction(request(method, '/Patient/_search?name=a'), dstu2, limits)
    t.match(found, { code: 'search-type', method, type: 'Patient' })
    t.equal(found.byPost, undefined)
    t.match(formatInteraction(found), { path: '/Patient', query: 'name=a' })
    for (const version of ['STU3', 'R4', 'R4B', 'R5'] as const) {
      const act = () =>
        parseInteraction(request(method, '/Patient/_search'), loadDefinitions(version), limits)
      t.equal(reasonOf(act), 'method-not-allowed', `${version} ${method}`)
    }
  }
  const posted = parseInteraction(request('POST', '/Patient/_search'), dstu2, limits)
  t.equal(posted.byPost, true)
})

t.test('REST-4: URL and form of a search are one parameter set', async (t) => {
  const search = parse('POST', '/Patient/_search?gender=male')
  const merged = withForm(search, Buffer.from('name=a%2Cb&_count=5'), limits, definitions)
  t.strictSame(
    merged.parameters.map(({ name }) => name),
    ['gender', 'name', '_count'],
  )
  t.strictSame(formatInteraction(merged), {
    path: '/Patient/_search',
    query: '',
    form: 'gender=male&name=a,b&_count=5',
  })
  const refuse = (form: string, target = '/Patient/_search?_count=1') =>
    reasonOf(() => withForm(parse('POST', target), Buffer.from(form), limits, definitions))
  t.equal(refuse('access_token=a'), 'credentials-malformed')
  t.equal(refuse('_count=1000'), 'parameter-malformed', 'twice, over both places')
  t.equal(refuse('_method=DELETE'), 'parameter-unknown')
  t.equal(refuse('name=é'), 'parameter-malformed')
  t.equal(refuse('name=a', '/Patient'), 'parameter-malformed', 'no form at a create')
})

t.test('REST-6: the criteria of a conditional create', async (t) => {
  const create = parse('POST', '/Patient?_pretty=true', { 'if-none-exist': 'identifier=s|1' })
  t.equal(create.code, 'conditional-create')
  t.strictSame(formatInteraction(create), {
    path: '/Patient',
    query: '_pretty=true',
    ifNoneExist: 'identifier=s%7C1',
  })
  const refuse = (value: string | string[], method = 'POST', target = '/Patient') =>
    reasonOf(() => parse(method, target, { 'if-none-exist': value }))
  t.equal(refuse(''), 'header-malformed')
  t.equal(refuse(['identifier=1', 'identifier=2']), 'header-malformed')
  t.equal(refuse('_count=1'), 'header-malformed')
  t.equal(refuse('Patient?identifier=1'), 'header-malformed')
  t.equal(refuse('identifier=1', 'GET'), 'header-malformed')
  t.equal(refuse('ssn=1'), 'parameter-unknown')
})

t.test('formatting a parsed interaction and parsing it again changes nothing', async () => {
  const id = fc.stringMatching(/^[A-Za-z0-9-]{1,64}$/)
  const value = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
    .filter((text) => !/[\\,\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/.test(text))
  const parameter = fc.tuple(
    fc.constantFrom(
      'code',
      'subject:Patient.name',
      'value-string:contains',
      '_id',
      'date',
      '_tag:not',
    ),
    fc.array(value, { minLength: 1, maxLength: 4 }),
  )
  fc.assert(
    fc.property(
      fc.array(parameter, { minLength: 1, maxLength: 6 }),
      fc.option(id),
      fc.boolean(),
      (parameters, patient, byPost) => {
        const query = parameters
          .map(
            ([name, values]) => `${encodeURIComponent(name)}=${encodeURIComponent(values.join())}`,
          )
          .join('&')
        const path = patient === null ? '/Observation' : `/Patient/${patient}/Observation`
        const again = (interaction: Interaction) => {
          const text = formatInteraction(interaction)
          if (text.form === undefined) return parse('GET', `${text.path}?${text.query}`)
          return withForm(parse('POST', text.path), Buffer.from(text.form), limits, definitions)
        }
        const first = byPost
          ? withForm(parse('POST', `${path}/_search`), Buffer.from(query), limits, definitions)
          : parse('GET', `${path}?${query}`)
        const second = again(first)
        return JSON.stringify(second) === JSON.stringify(first)
      },
    ),
    { numRuns: 300 },
  )
})

t.test('whatever the text, an interaction or a reason; never another error', async () => {
  const piece = fc.constantFrom(
    '/',
    'Patient',
    '_history',
    '_search',
    '$x',
    '1',
    '..',
    '%2e',
    '?',
    '&',
    '=',
    ':',
    '.',
    'name',
    '_has:',
    'Observation:',
    'subject',
    ',',
    '%5C',
    '*',
    ';',
    '_count',
    '_type',
  )
  const target = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 12 }).map((all) => `/${all.join('')}`),
  )
  fc.assert(
    fc.property(fc.constantFrom('GET', 'POST', 'PUT', 'DELETE'), target, (method, text) => {
      const reason = reasonOf(() => parse(method, text))
      return reason === 'accepted' || isReason(reason)
    }),
    { numRuns: 1000 },
  )
})
