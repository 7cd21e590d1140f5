import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { shippedPolicies } from '../../src/config/shipped.ts'
import type { Principal } from '../../src/exchange.ts'
import { loadPolicies, PolicyError } from '../../src/policy/load.ts'
import type { Decision, PolicyRequest, PolicySet } from '../../src/policy/evaluate.ts'

const principalOf = (change: Partial<Principal> = {}): Principal => ({
  issuer: 'https://issuer.example',
  subject: 's1',
  clientId: 'app',
  kind: 'user',
  key: 'k',
  scopes: [],
  patient: undefined,
  fhirUser: undefined,
  roles: [],
  purposes: [],
  organization: undefined,
  tokenId: undefined,
  issuedAt: 0,
  expiresAt: 2_000_000_000,
  ...change,
})
const CLINICIAN = principalOf({ fhirUser: { type: 'Practitioner', id: 'd1' } })
const ask = (change: Partial<PolicyRequest> = {}): PolicyRequest => ({
  interaction: 'read',
  type: 'Observation',
  level: 'user',
  id: 'o1',
  method: 'GET',
  // Sunday 2026-11-22, 13:05 UTC.
  time: Date.UTC(2026, 10, 22, 13, 5),
  ...change,
})

/** Loads files as a folder of their own. */
function load(files: Record<string, string>): PolicySet {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-policy-'))
  try {
    mkdirSync(join(folder, 'masking'))
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), text)
    }
    return loadPolicies(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
const problemsOf = (files: Record<string, string>): string[] => {
  try {
    load(files)
    return []
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    return error.problems.map(
      ({ file, line, column, message }) => `${basename(file)}:${line}:${column} ${message}`,
    )
  }
}
const rule = (lines: string, id = 'one', effect = 'permit'): string =>
  `policy: p-${id}\ndescription: d\nrules:\n  - id: ${id}\n    effect: ${effect}\n    interactions: [read]\n    types: [Observation]\n    levels: [user]\n${lines
    .split('\n')
    .map((line) => `    ${line}\n`)
    .join('')}`
const when = (condition: string, effect = 'permit'): PolicySet =>
  load({ 'a.yaml': rule(`when: ${JSON.stringify(condition)}`, 'one', effect) })

// ---------------------------------------------------------------------------------------------
// What a file may not be: every problem at once, where it stands.
const GOOD = rule('')
/** Ten to the ninth, if it were written out. */
const BOMB = Array.from({ length: 9 }, (_, n) => {
  const ten = Array<string>(10).fill(n === 0 ? 'x' : `*a${n - 1}`)
  return `a${n}: &a${n} [${ten.join()}]\n`
}).join('')
// prettier-ignore
const BAD: [what: string, files: Record<string, string>, problems: RegExp[]][] = [
  ['nothing at all', {}, [/no policy in this folder/]],
  ['an empty file', { 'a.yaml': '' }, [/^a\.yaml:1:1 /]],
  ['a list', { 'a.yaml': '- a' }, [/^a\.yaml:1:1 /]],
  ['broken YAML', { 'a.yaml': 'policy: [' }, [/^a\.yaml:1:\d+ /]],
  ['a tab', { 'a.yaml': 'policy: p\nrules:\n\t- id: a' }, [/^a\.yaml:3:1 /]],
  ['a key twice', { 'a.yaml': GOOD.replace('policy: p-one', 'policy: p-one\npolicy: p-two') }, [/^a\.yaml:2:1 .*unique/i]],
  ['an unknown key', { 'a.yaml': rule('whenn: "true"') }, [/^a\.yaml:9:5 .*whenn/]],
  ['no rules', { 'a.yaml': 'policy: p\ndescription: d\nrules: []' }, [/^a\.yaml:3:1 rules/]],
  ['no id', { 'a.yaml': GOOD.replace('id: one', 'id: One!') }, [/^a\.yaml:4:5 .*lower-case/]],
  ['an effect that is none', { 'a.yaml': rule('', 'one', 'allow') }, [/^a\.yaml:5:5 .*effect/]],
  ['an interaction that is none', { 'a.yaml': GOOD.replace('[read]', '[reed]') }, [/^a\.yaml:6:20 /]],
  ['no interaction', { 'a.yaml': GOOD.replace('[read]', '[]') }, [/^a\.yaml:6:5 /]],
  ['a type that is none', { 'a.yaml': GOOD.replace('[Observation]', '[observation]') }, [/^a\.yaml:7:13 .*resource type/]],
  ['a level that is none', { 'a.yaml': GOOD.replace('[user]', '[admin]') }, [/^a\.yaml:8:14 /]],
  ['an operation without $', { 'a.yaml': rule('operations: [everything]') }, [/^a\.yaml:9:18 .*\$everything/, /^a\.yaml:9:5 .*take the interaction/]],
  ['a clearance that is none', { 'a.yaml': rule('obligations: { clearance: { confidentiality: X } }') }, [/^a\.yaml:9:\d+ .*confidentiality/]],
  ['a masking that is none', { 'a.yaml': rule('obligations: { masking: none }') }, [/^a\.yaml:9:\d+ .*masking/]],
  ['a condition that does not parse', { 'a.yaml': rule('when: "1 +"') }, [/^a\.yaml:9:5 when: /]],
  ['a condition that is no bool', { 'a.yaml': rule('when: principal.kind') }, [/^a\.yaml:9:5 when: .*bool/]],
  ['a fact that is none', { 'a.yaml': rule('when: principal.email == "a"') }, [/^a\.yaml:9:5 when: .*email/]],
  ['a variable that is none', { 'a.yaml': rule('when: token.sub == "a"') }, [/^a\.yaml:9:5 when: .*token/]],
  ['types that do not fit', { 'a.yaml': rule('when: principal.roles == "a"') }, [/^a\.yaml:9:5 when: /]],
  ['matches()', { 'a.yaml': rule(`when: principal.kind.matches("(a+)+$")`) }, [/^a\.yaml:9:5 when: matches\(\) is not offered/]],
  ['map()', { 'a.yaml': rule('when: principal.roles.map(r, r).size() > 0') }, [/^a\.yaml:9:5 when: map\(\) is not offered/]],
  ['one comprehension in another', { 'a.yaml': rule('when: principal.roles.exists(r, principal.purposes.exists(p, p == r))') }, [/^a\.yaml:9:5 when: one comprehension/]],
  ['the same policy twice', { 'a.yaml': GOOD, 'b.yaml': GOOD }, [/^b\.yaml:1:1 policy "p-one" is there twice/]],
  ['the same rule twice', { 'a.yaml': GOOD + GOOD.slice(GOOD.indexOf('  - id')) }, [/^a\.yaml:\d+:5 rule "one" is there twice/]],
  ['an emergency for whomever', { 'a.yaml': rule('obligations: { breakGlass: { minutes: 5 } }') }, [/^a\.yaml:9:5 .*who is entitled/]],
  ['an example of terms that do not hold', { 'a.yaml': `${GOOD}examples:\n  - mask: &q { level: user, interaction: read, type: Observation }\n  - { allow: *q, results: 9 }\n  - { allow: *q, confidentiality: R }\n  - { allow: *q, confidentiality: N, masking: baseline }\n` },
    [/^a\.yaml:11:5 .*masked beyond the baseline, and is masked "baseline"/, /^a\.yaml:12:5 .*pages of 9, and has any size/, /^a\.yaml:13:5 .*up to R, and sees up to N/]],
  ['an emergency that writes', { 'a.yaml': rule('when: "true"\nobligations: { breakGlass: { minutes: 5 } }').replace('[read]', '[read, update]') }, [/^a\.yaml:10:5 .*breakGlass permits reading/]],
  ['an example that does not hold', { 'a.yaml': `${GOOD}examples:\n  - deny: { level: user, interaction: read, type: Observation }\n` }, [/^a\.yaml:11:5 example: user user\/ read Observation: should be denied, and is allowed by p-one\/one/]],
  ['an example of nothing', { 'a.yaml': `${GOOD}examples:\n  - because: x\n` }, [/^a\.yaml:11:5 .*exactly one/]],
  ['an alias of nothing', { 'a.yaml': GOOD.replace('[user]', '*nobody') }, [/^a\.yaml:8:13 there is no anchor &nobody/]],
  ['aliases of aliases', { 'a.yaml': BOMB + GOOD }, [/^a\.yaml:1:1 Excessive alias count/]],
  ['a list within itself', { 'a.yaml': rule('except: &e [*e]') }, [/^a\.yaml:9:\d+ rules\.0\.except\.0: .*expected string/]],
  ['two documents', { 'a.yaml': `${GOOD}---\n${GOOD}` }, [/^a\.yaml:\d+:1 .*multiple documents/]],
  ['a merge', { 'a.yaml': rule('<<: { when: "true" }') }, [/^a\.yaml:9:5 .*"<<"/]],
  ['a tag', { 'a.yaml': rule('when: !js "true"') }, [/^a\.yaml:9:11 .*!js/]],
  ['__proto__', { 'a.yaml': rule('__proto__: { effect: permit }') }, [/^a\.yaml:9:5 .*"__proto__"/]],
  ['constructor', { 'a.yaml': rule('constructor: x') }, [/^a\.yaml:9:5 .*"constructor"/]],
  ['two unknown keys', { 'a.yaml': rule('whenn: a\ntyypes: b') }, [/^a\.yaml:9:5 .*"whenn"$/, /^a\.yaml:10:5 .*"tyypes"$/]],
  ['a condition that is no text', { 'a.yaml': rule('when: true') }, [/^a\.yaml:9:5 .*expected string/]],
  ['a type that no FHIR has', { 'a.yaml': rule('except: [AuditEvnt]', 'one', 'deny').replace('[Observation]', '[Observaton, Media]') },
    [/^a\.yaml:7:13 "Observaton" is no resource type/, /^a\.yaml:9:\d+ "AuditEvnt" is no resource type/, /^a\.yaml:9:5 .*except is of/]],
  ['a misspelt fact in has()', { 'a.yaml': rule('when: has(principal.organisation)', 'one', 'deny') }, [/^a\.yaml:9:5 when: .*organisation/]],
  ['a name of every object in has()', { 'a.yaml': rule('when: has(principal.__proto__)') }, [/^a\.yaml:9:5 when: .*__proto__/]],
  ['a name of every object', { 'a.yaml': rule('when: principal.constructor == "x"') }, [/^a\.yaml:9:5 when: .*constructor/]],
  ['filter()', { 'a.yaml': rule('when: principal.roles.filter(r, true).size() > 0') }, [/^a\.yaml:9:5 when: filter\(\) is not offered/]],
  ['bind(), which doubles', { 'a.yaml': rule('when: cel.bind(a, [1] + [1], cel.bind(b, a + a, (b + b).size() > 0))') }, [/^a\.yaml:9:5 when: bind\(\) is not offered/]],
  ['a number for a text', { 'a.yaml': rule('when: principal.kind == 1') }, [/^a\.yaml:9:5 when: .*string == int/]],
  ['a text for a number', { 'a.yaml': rule('when: now.hour == "8"') }, [/^a\.yaml:9:5 when: .*double == string/]],
  ['a number among texts', { 'a.yaml': rule('when: 1 in principal.roles') }, [/^a\.yaml:9:5 when: .*int in list<string>/]],
  ['a condition nested too deep', { 'a.yaml': rule(`when: ${'('.repeat(900)}true${')'.repeat(900)}`) }, [/^a\.yaml:9:5 when: .*maxDepth/]],
  ['examples that say nothing', { 'a.yaml': `${GOOD}examples:\n  - deny: { level: user, interaction: raed, type: Observaton }\n` },
    [/^a\.yaml:11:26 examples\.0\.deny\.interaction/, /^a\.yaml:11:45 "Observaton"/]],
  ['one problem does not hide another', { 'a.yaml': rule('whenn: x\nwhen: "1 +"').replace('[Observation]', '[Observaton]') },
    [/^a\.yaml:7:13 /, /^a\.yaml:9:5 .*whenn/, /^a\.yaml:10:5 when: /]],
  ['a file in capitals', { 'a.yaml': GOOD, 'DENY.YAML': 'policy: [' }, [/^DENY\.YAML:1:\d+ /]],
  ['a policy in a folder of its own', { 'a.yaml': GOOD, 'more/deny.yml': rule('', 'two', 'deny') }, [/^deny\.yml:1:1 .*is not read/]],
  ['a profile in a folder of another name', { 'a.yaml': GOOD, 'Masking/house.yaml': 'masking: house\ndescription: d\n' }, [/^house\.yaml:1:1 .*is not read/]],
  ['all types but all', { 'a.yaml': rule("except: ['*']").replace('[Observation]', "['*']") }, [/^a\.yaml:9:\d+ .*a resource type$/]],
  ['a type that is named and excepted', { 'a.yaml': rule('except: [Observation]').replace('[Observation]', '[Observation, "*"]') }, [/^a\.yaml:9:5 .*"Observation" is among the types/]],
  ['exceptions of types by name', { 'a.yaml': rule('except: [Patient]') }, [/^a\.yaml:9:5 .*except is of "\*"/]],
  ['operations of no operation', { 'a.yaml': rule('operations: [$everything]', 'one', 'deny') }, [/^a\.yaml:9:5 .*operations take the interaction "operation"/]],
  ['an operation that there is not', { 'a.yaml': rule('operations: [$everythin]', 'one', 'deny').replace('[read]', '[operation]') }, [/^a\.yaml:9:18 there is no operation \$everythin; did you mean "\$everything"\?/]],
  ['a deny on terms', { 'a.yaml': rule('obligations: { compartment: patient }', 'one', 'deny') }, [/^a\.yaml:9:5 .*a rule that denies has no obligations/]],
  ['a login of no strength', { 'a.yaml': rule('obligations: { strength: {} }') }, [/^a\.yaml:9:20 .*one of acr, amr and within/]],
  ['parameters of no limit', { 'a.yaml': rule('obligations: { parameters: {} }') }, [/^a\.yaml:9:20 .*only or forbid/]],
  ['a parameter that there is not', { 'a.yaml': rule('obligations: { parameters: { forbid: [adress, _id, date], only: [codee] } }') },
    [/^a\.yaml:9:\d+ "adress" is no search parameter; did you mean "address"/, /^a\.yaml:9:\d+ "codee" is no search parameter; did you mean "code"/]],
  ['a kind that nobody is', { 'a.yaml': rule(`when: principal.kind == "client"`, 'one', 'deny') }, [/^a\.yaml:9:5 when: principal\.kind is never "client": user, system/]],
  ['an interaction that policies do not know', { 'a.yaml': rule(`when: '!("patch" == request.interaction)'`) }, [/^a\.yaml:9:5 when: request\.interaction is never "patch"/]],
  ['a type in a condition that there is not', { 'a.yaml': rule(`when: request.type in ['Observaton', 'Patient']`, 'one', 'deny') }, [/^a\.yaml:9:5 when: request\.type is never "Observaton"/]],
  ['a method in small letters', { 'a.yaml': rule(`when: request['method'] != 'get'`) }, [/^a\.yaml:9:5 when: request\.method is never "get"/]],
  ['a person that there is not', { 'a.yaml': rule(`when: principal.fhirUserType == 'Doctor'`, 'one', 'deny') }, [/^a\.yaml:9:5 when: principal\.fhirUserType is never "Doctor"/]],
  ['a category without a code', { 'a.yaml': rule('obligations: { masking: m }'), 'masking/m.yaml': 'masking: m\ndescription: d\ncategories:\n  - label: ETH\n    description: d\n    codes: { snomed: [] }\n' },
    [/^m\.yaml:4:5 .*a category has codes/, /^a\.yaml:9:\d+ there is no masking "m"/]],
  ['several problems, in several files', { 'a.yaml': rule('whenn: x').replace('[read]', '[reed]'), 'b.yaml': rule('when: "1 +"', 'two') },
    [/^a\.yaml:6:20 /, /^a\.yaml:9:5 /, /^b\.yaml:9:5 when/]],
]

t.test('a bad file: all its problems, with file, line and column', async (t) => {
  for (const [what, files, expected] of BAD) {
    const found = problemsOf(files)
    t.equal(found.length, expected.length, `${what}: ${found.join(' | ')}`)
    for (const problem of expected) {
      t.ok(
        found.some((one) => problem.test(one)),
        `${what}: ${String(problem)} in ${found.join(' | ')}`,
      )
    }
  }
  t.throws(() => loadPolicies('/nowhere/at/all'), { name: 'PolicyError' })
  // How deep is too deep depends on the stack; it is a problem of the file all the same.
  const deep = problemsOf({ 'a.yaml': rule(`except: ${'['.repeat(20_000)}${']'.repeat(20_000)}`) })
  t.ok(deep.length > 0 && deep.every((one) => one.startsWith('a.yaml:9:')))
  const beside = {
    'notes.txt': '{',
    'a.test.yaml': '{',
    '..data/a.yaml': '{',
    'cases/a.test.yaml': '{',
  }
  t.strictSame(problemsOf({ 'a.yaml': GOOD, ...beside }), [])
})

// ---------------------------------------------------------------------------------------------
// Conditions: who, asked what, when → whether a rule that permits permits.
const nurse = principalOf({
  roles: ['nurse', 'ward-3'],
  purposes: ['TREAT'],
  organization: 'org-1',
  identity: {
    ...{ subjectName: 'Dora', homeCommunity: 'urn:oid:1.2.9', nationalProvider: undefined },
    ...{ person: 'doc-1', consentPolicies: ['urn:oid:1.2.7'], consentReferences: [] },
    consentPatient: undefined,
  },
})
// prettier-ignore
const CONDITIONS: [condition: string, principal: Principal, request: Partial<PolicyRequest>, holds: boolean][] = [
  ['true',                                                   nurse, {}, true],
  [`'nurse' in principal.roles`,                             nurse, {}, true],
  [`'doctor' in principal.roles`,                            nurse, {}, false],
  [`principal.roles.exists(r, r.startsWith('ward-'))`,       nurse, {}, true],
  [`principal.roles.all(r, r == 'nurse')`,                   nurse, {}, false],
  [`principal.organization == 'org-1'`,                      nurse, {}, true],
  [`principal.homeCommunity == 'urn:oid:1.2.9'`,             nurse, {}, true],
  [`principal.person == 'doc-1'`,                            nurse, {}, true],
  [`'urn:oid:1.2.7' in principal.consentPolicies`,           nurse, {}, true],
  [`'urn:oid:1.2.7' in principal.consentPolicies`,           CLINICIAN, {}, false],
  [`principal.nationalProvider != 'x'`,                      nurse, {}, false],
  // A fact the token does not hold is no fact: the rule permits nothing.
  [`principal.organization != 'org-1'`,                      CLINICIAN, {}, false],
  [`principal.patient == ''`,                                nurse, {}, false],
  [`principal.patient != 'p1'`,                              nurse, {}, false],
  [`principal.fhirUserType == 'Practitioner'`,               CLINICIAN, {}, true],
  [`principal.fhirUserType == 'Practitioner'`,               nurse, {}, false],
  [`has(principal.organization)`,                            CLINICIAN, {}, false],
  [`has(principal.organization)`,                            nurse, {}, true],
  [`!has(request.id)`,                                       nurse, { id: undefined }, true],
  // CEL decides what can be decided; "not" of what is not known is not known either.
  [`principal.patient == 'p1' || true`,                      nurse, {}, true],
  [`!(principal.patient == 'p1')`,                           nurse, {}, false],
  [`principal.patient == 'p1' ? true : true`,                nurse, {}, false],
  [`principal.roles.all(r, principal.patient == r)`,         nurse, {}, false],
  [`principal.roles[9] == 'nurse'`,                          nurse, {}, false],
  [`now.hour >= 13 && int(now.hour) == 13`,                  nurse, {}, true],
  [`principal.kind == 'system'`,                             nurse, {}, false],
  [`request.type == 'Observation' && request.id == 'o1'`,    nurse, {}, true],
  [`request.id == 'o2'`,                                     nurse, { id: undefined }, false],
  [`request.method == 'GET'`,                                nurse, { method: 'HEAD' }, false],
  [`now.hour >= 8.0 && now.hour < 18.0`,                     nurse, {}, true],
  [`now.hour >= 8.0 && now.hour < 18.0`,                     nurse, { time: Date.UTC(2026, 0, 1, 3) }, false],
  [`now.weekday == 0.0`,                                     nurse, {}, true],
  // Names every object has are no claims.
  [`'constructor' in principal.roles`,                       nurse, {}, false],
  [`'__proto__' in principal.purposes`,                      nurse, {}, false],
  [`'TREAT' in principal.purposes || principal.organization == 'x'`, nurse, {}, true],
]

t.test('conditions; a fact that is missing permits nothing, and denies', async (t) => {
  for (const [condition, principal, request, holds] of CONDITIONS) {
    t.equal(when(condition).evaluate(principal, ask(request)).permitted, holds, condition)
  }
  const both = load({
    'a.yaml': rule(''),
    'b.yaml': rule(`when: principal.organization == 'closed'`, 'two', 'deny'),
  })
  t.equal(both.evaluate(nurse, ask()).permitted, true)
  t.equal(both.evaluate(principalOf({ organization: 'closed' }), ask()).permitted, false)
  t.equal(both.evaluate(CLINICIAN, ask()).permitted, false, 'nobody knows: denied')
})

t.test('a lasting answer is of one principal alone, and what passes is asked again', async (t) => {
  const set = when(`'nurse' in principal.roles && now.hour < 18.0`)
  const night = { time: Date.UTC(2026, 0, 1, 22) }
  for (let again = 0; again < 3; again++) {
    t.equal(set.evaluate(nurse, ask()).permitted, true)
    t.equal(set.evaluate(nurse, ask(night)).permitted, false)
    t.equal(set.evaluate(CLINICIAN, ask()).permitted, false)
    t.equal(set.evaluate(principalOf({ roles: ['nurse'] }), ask()).permitted, true)
  }
  const lasting = when(`'nurse' in principal.roles`)
  t.equal(lasting.evaluate(nurse, ask()).permitted, true)
  t.equal(
    lasting.evaluate({ ...nurse, roles: [] }, ask()).permitted,
    false,
    'a new token, a new answer',
  )
})

t.test('claims as long and odd as a token can hold them', async (t) => {
  const roles = Array.from({ length: 20_000 }, (_, n) => `role-${n}`)
  const set = when(`principal.roles.exists(r, r == 'role-19999')`)
  t.equal(set.evaluate(principalOf({ roles }), ask()).permitted, true)
  for (const role of ['__proto__', 'constructor', '', '\u0000', '"', "'", 'é'.repeat(10_000)]) {
    t.equal(set.evaluate(principalOf({ roles: [role] }), ask()).permitted, false)
  }
})

// ---------------------------------------------------------------------------------------------
// How rules combine.
type Part = {
  effect: 'permit' | 'deny'
  interactions: string[]
  types: string[]
  condition: string
  compartment: boolean
  confidentiality: string
  sensitivities: string[]
  masking: string
}
const part: fc.Arbitrary<Part> = fc.record({
  effect: fc.constantFrom('permit' as const, 'permit' as const, 'permit' as const, 'deny' as const),
  interactions: fc.subarray(['read', 'search-type', 'update'], { minLength: 1 }),
  types: fc.subarray(['Observation', 'Patient', '*'], { minLength: 1 }),
  condition: fc.constantFrom(
    'true',
    'false',
    `'a' in principal.roles`,
    `principal.organization == 'o'`,
  ),
  compartment: fc.boolean(),
  confidentiality: fc.constantFrom('U', 'N', 'R', 'V'),
  sensitivities: fc.subarray(['HIV', 'ETH', 'PSY']),
  masking: fc.constantFrom('baseline', 'names', 'days'),
})
const fileOf = (one: Part, n: number): string =>
  JSON.stringify({
    policy: `p${n}`,
    description: 'd',
    rules: [
      {
        id: 'r',
        effect: one.effect,
        when: one.condition,
        interactions: one.interactions,
        types: one.types,
        levels: ['user'],
        ...(one.effect === 'deny'
          ? {}
          : {
              obligations: {
                ...(one.compartment ? { compartment: 'patient' } : {}),
                clearance: {
                  confidentiality: one.confidentiality,
                  sensitivities: one.sensitivities,
                },
                masking: one.masking,
              },
            }),
      },
    ],
  })
/** Profiles of their own: reading the shipped ones takes longer than all the rest. */
const OWN = {
  'masking/a.yaml': 'masking: names\ndescription: d',
  'masking/b.yaml': 'masking: days\ndescription: d',
}
const setOf = (parts: readonly Part[]): PolicySet | undefined =>
  parts.length === 0
    ? undefined
    : load({
        ...Object.fromEntries(parts.map((one, n) => [`f${n}.yaml`, fileOf(one, n)])),
        ...OWN,
      })
const who = fc.constantFrom(
  principalOf(),
  principalOf({ roles: ['a'] }),
  principalOf({ organization: 'o' }),
)
const question = fc.record({
  interaction: fc.constantFrom('read', 'search-type', 'update', 'delete'),
  type: fc.constantFrom('Observation', 'Patient', 'Condition'),
})
const ORDER = ['U', 'L', 'M', 'N', 'R', 'V']

/** Whether `a` lets nothing through that `b` does not. */
function isWithin(a: Decision, b: Decision): boolean {
  if (!a.permitted) return true
  return (
    b.permitted &&
    [...b.compartments].every((one) => a.compartments.has(one)) &&
    ORDER.indexOf(a.clearance.confidentiality) <= ORDER.indexOf(b.clearance.confidentiality) &&
    [...a.clearance.sensitivities].every((code) => b.clearance.sensitivities.has(code)) &&
    [...b.masking].every((name) => a.masking.has(name))
  )
}
const plain = ({ clearance, masking, ...rest }: Decision) => ({
  ...rest,
  masking: [...masking].sort(),
  rules: [],
  confidentiality: clearance.confidentiality,
  sensitivities: [...clearance.sensitivities].sort(),
})

t.test('properties: default deny, deny wins, the strictest holds, order is nothing', async (t) => {
  fc.assert(
    fc.property(
      fc.array(part, { minLength: 1, maxLength: 5 }),
      part,
      who,
      question,
      (parts, more, principal, q) => {
        const request = ask(q)
        const before = setOf(parts)!.evaluate(principal, request)
        const after = setOf([...parts, more])!.evaluate(principal, request)
        const reversed = setOf([...parts].reverse())!.evaluate(principal, request)
        if (JSON.stringify(plain(before)) !== JSON.stringify(plain(reversed))) return false
        // Adding a deny never adds; adding a permit never lifts an obligation that is there already.
        if (more.effect === 'deny' && !isWithin(after, before)) return false
        if (
          more.effect === 'permit' &&
          before.permitted &&
          !(after.permitted && isWithin(after, before))
        )
          return false
        // Nobody is permitted but by a rule that permits and matches; one that denies and matches denies.
        const matches = (one: Part): boolean | undefined =>
          !one.interactions.includes(q.interaction) ||
          !(one.types.includes(q.type) || one.types.includes('*'))
            ? false
            : one.condition === 'true'
              ? true
              : one.condition === 'false'
                ? false
                : one.condition.startsWith(`'a'`)
                  ? principal.roles.includes('a')
                  : principal.organization === undefined
                    ? undefined
                    : principal.organization === 'o'
        const isPermitted = parts.some((one) => one.effect === 'permit' && matches(one) === true)
        const isDenied = parts.some((one) => one.effect === 'deny' && matches(one) !== false)
        return before.permitted === (isPermitted && !isDenied)
      },
    ),
    { numRuns: 60 },
  )
  t.pass('properties hold')
})

t.test(
  'properties: the order of rules in a file is nothing; a rule of its own file is the same',
  async (t) => {
    const decide = (text: Record<string, string>, principal: Principal, q: object) =>
      JSON.stringify(plain(load({ ...text, ...OWN }).evaluate(principal, ask(q))))
    const oneFile = (parts: readonly Part[]): string => {
      const rules = parts.map((one, n) => {
        const { rules } = JSON.parse(fileOf(one, n)) as { rules: object[] }
        return { ...rules[0], id: `r${n}` }
      })
      return JSON.stringify({ policy: 'p', description: 'd', rules })
    }
    fc.assert(
      fc.property(
        fc
          .array(part, { minLength: 1, maxLength: 5 })
          .chain((parts) =>
            fc.tuple(
              fc.constant(parts),
              fc.shuffledSubarray(parts, { minLength: parts.length, maxLength: parts.length }),
            ),
          ),
        who,
        question,
        ([parts, shuffled], principal, q) => {
          const apart = Object.fromEntries(parts.map((one, n) => [`f${n}.yaml`, fileOf(one, n)]))
          const expected = decide(apart, principal, q)
          return (
            decide({ 'a.yaml': oneFile(parts) }, principal, q) === expected &&
            decide({ 'a.yaml': oneFile(shuffled) }, principal, q) === expected
          )
        },
      ),
      { numRuns: 40 },
    )
    t.pass('properties hold')
  },
)

t.test('operations: each by name; a rule that denies and names none denies all', async (t) => {
  const operation = (effect: string, names: string): string =>
    rule(names, effect, effect)
      .replace('[read]', '[operation]')
      .replace('[Observation]', '[Patient]')
  const request = (name: string) =>
    ask({ interaction: 'operation', type: 'Patient', operation: name })
  const some = load({ 'a.yaml': operation('permit', 'operations: [$everything]') })
  t.equal(some.evaluate(nurse, request('everything')).permitted, true)
  t.equal(some.evaluate(nurse, request('summary')).permitted, false)
  t.match(
    problemsOf({ 'a.yaml': operation('permit', 'operations: []') }),
    [/^a\.yaml:6:5 .*takes "operations"/],
    'a permit that could never match',
  )
  const denied = load({
    'a.yaml': operation('permit', 'operations: [$everything]'),
    'b.yaml': operation('deny', 'operations: []'),
  })
  t.equal(denied.evaluate(nurse, request('everything')).permitted, false)
})

t.test('the shipped policies: who gets what', async (t) => {
  const shipped = loadPolicies(shippedPolicies())
  const patient = principalOf({ patient: 'p1', fhirUser: { type: 'Patient', id: 'p1' } })
  const researcher = principalOf({
    fhirUser: { type: 'Practitioner', id: 'd2' },
    roles: ['researcher'],
  })
  const inLaunch = { ...researcher, patient: 'p1' }
  const backend = principalOf({ kind: 'system', subject: undefined })
  const study = { ...backend, purposes: ['HRESCH'] }
  const cleared = { ...CLINICIAN, roles: ['restricted-records'], purposes: ['TREAT'] }
  // prettier-ignore
  const rows: [who: Principal, level: PolicyRequest['level'], interaction: string, type: string, expected: string][] = [
    [patient,    'patient', 'read',        'Observation',  'compartment N baseline'],
    [patient,    'patient', 'update',      'Observation',  'compartment N baseline'],
    [patient,    'patient', 'read',        'Practitioner', 'all N baseline'],
    [patient,    'patient', 'search-type', 'Practitioner', '-'],
    [patient,    'patient', 'read',        'Group',        '-'],
    [patient,    'patient', 'read',        'AuditEvent',   '-'],
    [patient,    'user',    'read',        'Observation',  'compartment N baseline'],
    [CLINICIAN,  'user',    'read',        'Observation',  'all N baseline'],
    [CLINICIAN,  'user',    'delete',      'Observation',  'all N baseline'],
    [CLINICIAN,  'system',  'read',        'Observation',  '-'],
    [cleared,    'user',    'read',        'Observation',  'all R baseline'],
    [researcher, 'user',    'read',        'Observation',  'all N safe-harbor'],
    [researcher, 'user',    'update',      'Observation',  '-'],
    [inLaunch,   'patient', 'read',        'Observation',  'compartment N safe-harbor'],
    [inLaunch,   'patient', 'create',      'Observation',  '-'],
    [inLaunch,   'patient', 'read',        'DocumentReference', '-'],
    [study,      'system',  'search-type', 'Patient',      'all N safe-harbor'],
    [study,      'system',  'update',      'Patient',      '-'],
    [researcher, 'user',    'read',        'RelatedPerson', '-'],
    [backend,    'system',  'create',      'Observation',  'all N baseline'],
    [backend,    'user',    'read',        'Observation',  '-'],
    [backend,    'system',  'read',        'Binary',       '-'],
    [nurse,      'user',    'read',        'Observation',  '-'],
  ]
  for (const [one, level, interaction, type, expected] of rows) {
    const { permitted, compartments, clearance, masking } = shipped.evaluate(
      one,
      ask({ level, interaction, type }),
    )
    const found = permitted
      ? `${compartments.has('patient') ? 'compartment' : 'all'} ${clearance.confidentiality} ${[...masking].at(-1) ?? ''}`
      : '-'
    t.equal(
      found,
      expected,
      `${one.fhirUser?.type ?? one.kind} ${one.roles.join()} ${level} ${interaction} ${type}`,
    )
  }
})

t.test('pages and parameters: the smallest, every ban, what all lists share', async (t) => {
  const set = load({
    'a.yaml': rule(
      'obligations: { results: 50, parameters: { only: [code, date, patient] } }',
      'a',
    ),
    'b.yaml': rule(
      'obligations: { results: 20, parameters: { only: [code, patient], forbid: [date] } }',
      'b',
    ),
    'c.yaml': rule('obligations: {}', 'c'),
  })
  const { results, parameters } = set.evaluate(nurse, ask())
  t.equal(results, 20)
  t.strictSame([...(parameters?.only ?? [])], ['code', 'patient'])
  t.strictSame([...(parameters?.forbid ?? [])], ['date'])
  const none = load({ 'a.yaml': GOOD }).evaluate(nurse, ask())
  t.notOk('results' in none || 'parameters' in none)
})

t.test(
  'an emergency is one by the purpose BTG only, whatever a condition says (BTG-1, BTG-4)',
  async (t) => {
    const set = load({
      'a.yaml': rule('obligations: { clearance: { confidentiality: N } }'),
      'b.yaml': rule(
        `when: "true"\nobligations: { breakGlass: { minutes: 30 }, clearance: { confidentiality: V } }`,
        'glass',
      ),
      'c.yaml': rule(`when: "'denied' in principal.roles"`, 'no', 'deny'),
    })
    const btg = principalOf({ purposes: ['BTG'] })
    // prettier-ignore
    const rows: [who: Principal, declared: boolean, confidentiality: string | undefined, minutes: number | undefined][] = [
    [btg,                                     true,  'V', 30],
    [btg,                                     false, 'N', undefined],
    [principalOf(),                           true,  'N', undefined],
    [principalOf({ purposes: ['ETREAT'] }),   true,  'N', undefined],
    [principalOf({ purposes: ['btg'] }),      true,  'N', undefined],
    [{ ...btg, roles: ['denied'] },           true,  undefined, undefined],
  ]
    for (const [who, breakGlass, confidentiality, minutes] of rows) {
      const decision = set.evaluate(who, ask({ breakGlass }))
      const found = decision.permitted ? decision.clearance.confidentiality : undefined
      t.equal(found, confidentiality, `${who.purposes.join()} ${breakGlass}`)
      t.equal(decision.breakGlass, minutes)
    }
    const verdicts = (breakGlass: boolean) =>
      set.trace(btg, ask({ breakGlass })).map(({ verdict }) => verdict)
    t.strictSame(verdicts(true), ['matches', 'matches', 'condition is false'])
    t.strictSame(verdicts(false), ['matches', 'no emergency', 'condition is false'])
  },
)

t.test('the trace: every rule, why, and which fact is missing', async (t) => {
  const undecided = (condition: string, request: Partial<PolicyRequest> = {}) =>
    when(condition).trace(CLINICIAN, ask(request))[0]
  // prettier-ignore
  const rows: [condition: string, missing: string[]][] = [
    [`principal.organization == 'a'`,                                   ['principal.organization']],
    [`principal['organization'] == 'a'`,                                ['principal.organization']],
    [`principal.patient == 'a' && principal.organization == 'b'`,       ['principal.patient', 'principal.organization']],
    [`principal.roles.exists(r, r == principal.patient) || principal.patient == ''`, ['principal.patient']],
    [`!has(principal.organization) && principal.patient == ''`,         ['principal.patient']],
  ]
  for (const [condition, missing] of rows) {
    t.match(undecided(condition), { verdict: 'condition is undecided', missing }, condition)
  }
  t.match(undecided(`request.id == 'a'`, { id: undefined }), { missing: ['request.id'] })
  t.strictSame(when('false').trace(nurse, ask()), [
    { rule: 'p-one/one', effect: 'permit', verdict: 'condition is false' },
  ])
  const one = load({ 'a.yaml': GOOD })
  const verdict = (change: Partial<PolicyRequest>) => one.trace(nurse, ask(change))[0]?.verdict
  t.equal(verdict({}), 'matches')
  t.equal(verdict({ interaction: 'delete' }), 'not about this interaction')
  t.equal(verdict({ type: 'Patient' }), 'not about this type')
  t.equal(verdict({ level: 'system' }), 'not at this level')
})

t.test('the language on one page: what it shows is what loads', async (t) => {
  const page = readFileSync(join(shippedPolicies(), 'README.md'), 'utf8')
  const blocks = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
  const whole = blocks.filter((text) => text.startsWith('policy:'))
  t.equal(whole.length, 3)
  for (const text of whole) t.strictSame(problemsOf({ 'a.yaml': text }), [])
  const [examples = '', ...others] = blocks.filter((text) => /^(?!policy:|masking:)/.test(text))
  t.match(examples, /^examples:/)
  t.strictSame(others, [])
  // They speak of the shipped policies, so beside those they must hold.
  const shipped = Object.fromEntries(
    readdirSync(shippedPolicies())
      .filter((name) => name.endsWith('.yaml'))
      .map((name) => [name, readFileSync(join(shippedPolicies(), name), 'utf8')]),
  )
  t.strictSame(
    problemsOf({ ...shipped, 'z.yaml': GOOD.replace('[Observation]', '[Basic]') + examples }),
    [],
  )
})
