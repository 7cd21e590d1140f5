/**
 * A synthetic population: nobody in it exists. The same seed gives the same texts on every machine.
 * Resources are JSON text, so that a decimal like `1.10` is written with the precision it was
 * measured with.
 */

/** Ids of the resources that the demo's personas stand for. */
export const DEMO_PATIENT_ID = 'patient-1'
export const DEMO_PRACTITIONER_ID = 'practitioner-1'
export const DEMO_RESEARCHER_ID = 'practitioner-9'

/** Numbers in [0, 1) by mulberry32; good enough for a population, not for secrets. */
const createRandom = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

class Random {
  readonly #next: () => number
  constructor(seed: number) {
    this.#next = createRandom(seed)
  }
  /** Whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.#next() * (high - low + 1))
  }
  pick<T>(values: readonly T[]): T {
    const value = values[this.whole(0, values.length - 1)]
    if (value === undefined) throw new Error('nothing to pick from')
    return value
  }
  chance(probability: number): boolean {
    return this.#next() < probability
  }
  digits(count: number): string {
    return Array.from({ length: count }, () => this.whole(0, 9)).join('')
  }
  date(fromYear: number, toYear: number): string {
    const two = (n: number): string => String(n).padStart(2, '0')
    return `${this.whole(fromYear, toYear)}-${two(this.whole(1, 12))}-${two(this.whole(1, 28))}`
  }
  instant(fromYear: number, toYear: number): string {
    const two = (n: number): string => String(n).padStart(2, '0')
    const clock = `${two(this.whole(7, 18))}:${two(this.whole(0, 59))}:${two(this.whole(0, 59))}`
    return `${this.date(fromYear, toYear)}T${clock}-05:00`
  }
  /** A decimal as text, with exactly `places` places: trailing zeros stay. */
  decimal(low: number, high: number, places: number): string {
    return (low + this.#next() * (high - low)).toFixed(places)
  }
}

/** A number as its text; {@link format} writes it as it stands. */
class Decimal {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

type Value =
  | string
  | number
  | boolean
  | undefined
  | Decimal
  | readonly Value[]
  | { readonly [key: string]: Value }
type Resource = {
  readonly resourceType: string
  readonly id: string
  readonly [key: string]: Value
}

const format = (value: Value): string => {
  if (value instanceof Decimal) return value.text
  if (Array.isArray(value)) return `[${(value as readonly Value[]).map(format).join(',')}]`
  if (typeof value !== 'object') return JSON.stringify(value)
  return `{${Object.entries(value as Readonly<Record<string, Value>>)
    .filter(([, inner]) => inner !== undefined)
    .map(([key, inner]) => `${JSON.stringify(key)}:${format(inner)}`)
    .join(',')}}`
}

/** The same JSON, written with escapes that other servers use: `\/` and `\u00XX` for digits. */
const escapeSome = (text: string): string =>
  text
    .replaceAll('http://hl7.org/fhir/sid/us-ssn', 'http:\\/\\/hl7.org\\/fhir\\/sid\\/us-ssn')
    .replace(/"(\d)(\d\d-\d\d-\d{4})"/g, (_all, first: string, rest: string) => {
      const code = first.charCodeAt(0).toString(16).padStart(4, '0')
      return `"\\u${code}${rest}"`
    })

const SYSTEM = {
  ssn: 'http://hl7.org/fhir/sid/us-ssn',
  mrn: 'urn:oid:1.3.6.1.4.1.21367.13.20.1000',
  npi: 'http://hl7.org/fhir/sid/us-npi',
  identifierType: 'http://terminology.hl7.org/CodeSystem/v2-0203',
  loinc: 'http://loinc.org',
  snomed: 'http://snomed.info/sct',
  rxnorm: 'http://www.nlm.nih.gov/research/umls/rxnorm',
  icd: 'http://hl7.org/fhir/sid/icd-10-cm',
  cvx: 'http://hl7.org/fhir/sid/cvx',
  ucum: 'http://unitsofmeasure.org',
  confidentiality: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality',
  sensitivity: 'http://terminology.hl7.org/CodeSystem/v3-ActCode',
} as const

const GIVEN = ['Ada', 'Amara', 'Björn', 'Carlos', 'Chloé', 'Dmitri', 'Elif', 'Fatima', 'Grace']
  .concat(['Hana', 'Ibrahim', 'José', 'Keiko', 'Liam', 'Mei', 'Noor', 'Olga', 'Priya', 'Quentin'])
  .concat(['Rosa', 'Søren', 'Tariq', 'Uma', 'Viktor', 'Wanda', 'Ximena', 'Yusuf', 'Zoë'])
const FAMILY = ['Abbott', 'Baker', 'Castillo', 'Dvořák', 'Eriksen', 'Fischer', 'García', 'Haddad']
  .concat(['Ivanova', 'Jensen', 'Kowalski', 'Lindqvist', 'Müller', 'Nakamura', 'O’Brien', 'Okafor'])
  .concat(['Petrov', 'Quiñones', 'Rossi', 'Schmidt', 'Tanaka', 'Usman', 'Vega', 'Wójcik', 'Young'])
const STREETS = ['Maple Street', 'Oak Avenue', 'River Road', 'Hill Lane', 'Station Street']
const CITIES = [
  { city: 'Springfield', state: 'MA', postalCode: '01103' },
  { city: 'Worcester', state: 'MA', postalCode: '01608' },
  { city: 'Lowell', state: 'MA', postalCode: '01852' },
  { city: 'Quincy', state: 'MA', postalCode: '02169' },
]
/** Card numbers that issuers publish for tests; they pass every check and pay nothing. */
const CARDS = ['4111 1111 1111 1111', '5555-5555-5555-4444', '378282246310005', '6011111111111117']

type Label = 'R' | 'V'
type Problem = readonly [
  snomed: string,
  icd: string,
  display: string,
  label?: Label,
  sensitivity?: string,
]
const PROBLEMS: readonly Problem[] = [
  ['38341003', 'I10', 'Hypertensive disorder'],
  ['44054006', 'E11.9', 'Diabetes mellitus type 2'],
  ['195967001', 'J45.909', 'Asthma'],
  ['55822004', 'E78.5', 'Hyperlipidemia'],
  ['396275006', 'M19.90', 'Osteoarthritis'],
  ['73211009', 'E13.9', 'Diabetes mellitus'],
  ['35489007', 'F32.9', 'Depressive disorder', 'R', 'PSY'],
  ['7200002', 'F10.20', 'Alcoholism', 'R', 'ETH'],
  ['75544000', 'F11.20', 'Opioid dependence', 'R', 'OPIOIDUD'],
  ['86406008', 'B20', 'Human immunodeficiency virus infection', 'V', 'HIV'],
  ['397940009', 'T74.11XA', 'Victim of physical abuse', 'V', 'SDV'],
]
type Measure = readonly [
  category: 'vital-signs' | 'laboratory',
  loinc: string,
  display: string,
  unit: string,
  low: number,
  high: number,
  places: number,
]
const MEASURES: readonly Measure[] = [
  ['vital-signs', '8302-2', 'Body height', 'cm', 150, 195, 1],
  ['vital-signs', '29463-7', 'Body weight', 'kg', 48, 120, 2],
  ['vital-signs', '8310-5', 'Body temperature', 'Cel', 36, 39, 1],
  ['vital-signs', '8867-4', 'Heart rate', '/min', 52, 110, 0],
  ['vital-signs', '2708-6', 'Oxygen saturation', '%', 92, 100, 0],
  ['laboratory', '2339-0', 'Glucose', 'mg/dL', 70, 220, 1],
  ['laboratory', '4548-4', 'Hemoglobin A1c', '%', 4, 11, 2],
  ['laboratory', '2160-0', 'Creatinine', 'mg/dL', 0.5, 2.2, 2],
  ['laboratory', '2823-3', 'Potassium', 'mmol/L', 3, 6, 2],
  ['laboratory', '718-7', 'Hemoglobin', 'g/dL', 9, 18, 1],
]
const MEDICATIONS = [
  ['314076', 'lisinopril 10 MG Oral Tablet'],
  ['860975', 'metformin hydrochloride 500 MG Oral Tablet'],
  ['617312', 'atorvastatin 20 MG Oral Tablet'],
  ['745679', 'albuterol 0.09 MG/ACTUAT Inhaler'],
] as const
const ALLERGIES = [
  ['91936005', 'Allergy to penicillin'],
  ['91935009', 'Allergy to peanut'],
  ['300916003', 'Latex allergy'],
] as const
const VACCINES = [
  ['140', 'Influenza, seasonal, injectable, preservative free'],
  ['208', 'COVID-19, mRNA, 30 mcg/0.3 mL dose'],
  ['113', 'Td (adult)'],
] as const

const coding = (system: string, code: string, display?: string): Value => ({
  system,
  code,
  display,
})
const concept = (system: string, code: string, display: string): Value => ({
  coding: [coding(system, code, display)],
  text: display,
})
const hl7 = (name: string, code: string): Value => ({
  coding: [coding(`http://terminology.hl7.org/CodeSystem/${name}`, code)],
})
const labelled = (label?: Label, sensitivity?: string): Value =>
  label === undefined
    ? undefined
    : {
        security: [
          coding(SYSTEM.confidentiality, label, label === 'R' ? 'restricted' : 'very restricted'),
          ...(sensitivity === undefined ? [] : [coding(SYSTEM.sensitivity, sensitivity)]),
        ],
      }
const narrative = (html: string): Value => ({
  status: 'generated',
  div: `<div xmlns="http://www.w3.org/1999/xhtml">${html}</div>`,
})

/** Never an area the SSN rules exclude, so that a detector which knows them must still find it. */
const newSsn = (random: Random): string => {
  const area = random.chance(0.9) ? random.whole(100, 665) : random.whole(667, 899)
  return `${area}-${String(random.whole(1, 99)).padStart(2, '0')}-${String(random.whole(1, 9999)).padStart(4, '0')}`
}

const staff = (random: Random): readonly Resource[] => [
  {
    resourceType: 'Organization',
    id: 'organization-1',
    name: 'Maple Valley Hospital',
    telecom: [{ system: 'phone', value: '+1-413-555-0100' }],
  },
  {
    resourceType: 'Location',
    id: 'location-1',
    status: 'active',
    name: 'Maple Valley Hospital, Ward 3',
    position: { longitude: new Decimal('-72.5890'), latitude: new Decimal('42.1010') },
    managingOrganization: { reference: 'Organization/organization-1' },
  },
  ...Array.from({ length: 9 }, (_unused, index) => ({
    resourceType: 'Practitioner',
    id: `practitioner-${index + 1}`,
    identifier: [{ system: SYSTEM.npi, value: `1${random.digits(9)}` }],
    active: true,
    name: [{ family: random.pick(FAMILY), given: [random.pick(GIVEN)], prefix: ['Dr.'] }],
  })),
]

/** All about one person; `ssn` also stands in the narrative and in a note, as it does in life. */
const recordOf = (random: Random, number: number): readonly Resource[] => {
  const id = `patient-${number}`
  const isDemo = id === DEMO_PATIENT_ID
  const given = random.pick(GIVEN)
  const family = random.pick(FAMILY)
  const ssn = newSsn(random)
  const subject: Value = { reference: `Patient/${id}`, display: `${given} ${family}` }
  const practitioner: Value = { reference: `Practitioner/practitioner-${random.whole(1, 8)}` }
  const birthDate = random.date(1935, 2015)
  const isVip = !isDemo && random.chance(0.03)

  const patient: Resource = {
    resourceType: 'Patient',
    id,
    meta: labelled(isVip ? 'V' : undefined),
    text: narrative(`<p>${given} ${family}, born ${birthDate}, SSN ${ssn}</p>`),
    identifier: [
      {
        use: 'usual',
        type: { coding: [coding(SYSTEM.identifierType, 'MR')] },
        system: SYSTEM.mrn,
        value: `MRN${String(number).padStart(6, '0')}`,
      },
      {
        use: 'official',
        type: { coding: [coding(SYSTEM.identifierType, 'SS')] },
        system: SYSTEM.ssn,
        value: random.chance(0.8) ? ssn : ssn.replaceAll('-', ''),
      },
    ],
    active: true,
    name: [{ use: 'official', family, given: [given] }],
    telecom: [
      { system: 'phone', value: `+1-413-555-${random.digits(4)}`, use: 'home' },
      { system: 'email', value: `person${number}@example.org` },
    ],
    gender: random.pick(['female', 'male', 'other', 'unknown']),
    birthDate,
    address: [
      {
        use: 'home',
        line: [`${random.whole(1, 400)} ${random.pick(STREETS)}`],
        ...random.pick(CITIES),
        country: 'US',
      },
    ],
    maritalStatus: hl7('v3-MaritalStatus', random.pick(['M', 'S', 'D', 'W'])),
    generalPractitioner: [practitioner],
    managingOrganization: { reference: 'Organization/organization-1' },
  }

  const encounters: readonly Resource[] = Array.from({ length: random.whole(2, 4) }, (_u, n) => {
    const day = random.date(2019, 2025)
    return {
      resourceType: 'Encounter',
      id: `encounter-${number}-${n + 1}`,
      status: 'finished',
      class: coding('http://terminology.hl7.org/CodeSystem/v3-ActCode', 'AMB', 'ambulatory'),
      type: [concept(SYSTEM.snomed, '185349003', 'Encounter for check up')],
      subject,
      participant: [{ individual: practitioner }],
      period: { start: `${day}T09:00:00-05:00`, end: `${day}T09:25:00-05:00` },
      location: [{ location: { reference: 'Location/location-1' } }],
      serviceProvider: { reference: 'Organization/organization-1' },
    }
  })
  const encounter: Value = { reference: `Encounter/encounter-${number}-1` }

  // The demo's patient has one of each, so that every curl shows something.
  const problems = isDemo
    ? [PROBLEMS[0], PROBLEMS[6], PROBLEMS[9]]
    : Array.from({ length: random.whole(1, 3) }, () => random.pick(PROBLEMS))
  const conditions = problems
    .filter((problem) => problem !== undefined)
    .map(([snomed, icd, display, label, sensitivity], n): Resource => ({
      resourceType: 'Condition',
      id: `condition-${number}-${n + 1}`,
      meta: labelled(label, sensitivity),
      clinicalStatus: hl7('condition-clinical', 'active'),
      verificationStatus: hl7('condition-ver-status', 'confirmed'),
      category: [hl7('condition-category', 'problem-list-item')],
      code: {
        coding: [coding(SYSTEM.snomed, snomed, display), coding(SYSTEM.icd, icd, display)],
        text: display,
      },
      subject,
      encounter,
      onsetDateTime: random.date(2005, 2024),
    }))

  const observations = Array.from({ length: random.whole(12, 20) }, (_u, n): Resource => {
    const measure = random.pick(MEASURES)
    const [category, loinc, display, unit, low, high, places] = measure
    // 1.10 is not 1.1: the demo's patient has a value that shows it.
    const shown = isDemo && n === 0
    const value = shown ? '1.10' : random.decimal(low, high, places)
    return {
      resourceType: 'Observation',
      id: `observation-${number}-${n + 1}`,
      status: 'final',
      category: [hl7('observation-category', shown ? 'laboratory' : category)],
      code: shown
        ? concept(SYSTEM.loinc, '2160-0', 'Creatinine')
        : concept(SYSTEM.loinc, loinc, display),
      subject,
      encounter,
      effectiveDateTime: random.instant(2019, 2025),
      performer: [practitioner],
      valueQuantity: {
        value: new Decimal(value),
        unit: shown ? 'mg/dL' : unit,
        system: SYSTEM.ucum,
        code: shown ? 'mg/dL' : unit,
      },
    }
  })
  const pressure: Resource = {
    resourceType: 'Observation',
    id: `observation-${number}-bp`,
    status: 'final',
    category: [hl7('observation-category', 'vital-signs')],
    code: concept(SYSTEM.loinc, '85354-9', 'Blood pressure panel'),
    subject,
    encounter,
    effectiveDateTime: random.instant(2019, 2025),
    component: [
      ['8480-6', 'Systolic blood pressure', random.decimal(95, 170, 1)] as const,
      ['8462-4', 'Diastolic blood pressure', random.decimal(55, 105, 1)] as const,
    ].map(([loinc, display, value]) => ({
      code: concept(SYSTEM.loinc, loinc, display),
      valueQuantity: {
        value: new Decimal(value),
        unit: 'mm[Hg]',
        system: SYSTEM.ucum,
        code: 'mm[Hg]',
      },
    })),
  }

  const [rxnorm, medicine] = random.pick(MEDICATIONS)
  const medication: Resource = {
    resourceType: 'MedicationRequest',
    id: `medication-request-${number}`,
    contained: [
      {
        resourceType: 'Medication',
        id: 'medication',
        code: concept(SYSTEM.rxnorm, rxnorm, medicine),
      },
    ],
    status: 'active',
    intent: 'order',
    medicationReference: { reference: '#medication' },
    subject,
    encounter,
    authoredOn: random.date(2021, 2025),
    requester: practitioner,
    dosageInstruction: [
      {
        text: 'One tablet a day',
        doseAndRate: [
          { doseQuantity: { value: new Decimal('1.0'), unit: 'tablet', system: SYSTEM.ucum } },
        ],
      },
    ],
  }

  const [allergyCode, allergy] = random.pick(ALLERGIES)
  const allergies: readonly Resource[] =
    isDemo || random.chance(0.5)
      ? [
          {
            resourceType: 'AllergyIntolerance',
            id: `allergy-${number}`,
            clinicalStatus: hl7('allergyintolerance-clinical', 'active'),
            criticality: random.pick(['low', 'high']),
            code: concept(SYSTEM.snomed, allergyCode, allergy),
            patient: subject,
            recordedDate: random.date(2010, 2024),
          },
        ]
      : []

  const [cvx, vaccine] = random.pick(VACCINES)
  const immunization: Resource = {
    resourceType: 'Immunization',
    id: `immunization-${number}`,
    status: 'completed',
    vaccineCode: concept(SYSTEM.cvx, cvx, vaccine),
    patient: subject,
    encounter,
    occurrenceDateTime: random.instant(2020, 2025),
    doseQuantity: { value: new Decimal('0.50'), unit: 'mL', system: SYSTEM.ucum, code: 'mL' },
  }

  const hasCard = isDemo || random.chance(0.3)
  const isSensitive = !isDemo && random.chance(0.08)
  const note: Resource = {
    resourceType: 'DocumentReference',
    id: `note-${number}`,
    meta: isSensitive ? labelled('R', random.pick(['ETH', 'PSY', 'HIV'])) : undefined,
    status: 'current',
    type: concept(SYSTEM.loinc, '34133-9', 'Summary of episode note'),
    subject,
    date: random.instant(2021, 2025),
    author: [practitioner],
    description:
      `${given} asked for a copy of the bill.\n"Please call after 5 pm."` +
      (hasCard ? ` Co-payment by card ${random.pick(CARDS)}, exp 04/29.` : '') +
      (isDemo || random.chance(0.3) ? ` Front desk noted SSN ${ssn}.` : ''),
    content: [
      {
        attachment: {
          contentType: 'text/plain',
          title: 'Visit summary',
          data: Buffer.from(`Visit of ${given} ${family}: no acute distress.`).toString('base64'),
        },
      },
    ],
    context: { encounter: [encounter] },
  }

  return [
    patient,
    ...encounters,
    ...conditions,
    ...observations,
    pressure,
    medication,
    ...allergies,
    immunization,
    note,
  ]
}

/**
 * The JSON texts of a population, each one resource with its id, in an order in which everything
 * referred to comes first. Every eleventh person's are written with escapes.
 */
export const generatePopulation = (seed: number, patients = 200): readonly string[] => {
  const texts = staff(new Random(seed)).map(format)
  for (let number = 1; number <= patients; number++) {
    // A seed of one's own: a larger population only adds people.
    const record = recordOf(new Random(seed + number * 7919), number).map(format)
    texts.push(...(number % 11 === 0 ? record.map(escapeSome) : record))
  }
  return texts
}
