import type { IdentifierName } from '../../policy/masking-schema.ts'
import { systemOf } from './vocabulary.ts'

/**
 * Identifiers known by name (requirements §9.2): the addresses and OIDs of their systems, as
 * `systemOf` spells them, and their types of HL7 v2-0203. A system that ends with a star stands for
 * all that begin so. `words` are what people call it, in a system of their own or where a type has
 * nothing but words.
 */
const REGISTRY: Readonly<
  Record<
    IdentifierName,
    { readonly systems?: readonly string[]; readonly types?: string; readonly words?: RegExp }
  >
> = {
  'us-ssn': {
    systems: ['http://hl7.org/fhir/sid/us-ssn', 'urn:oid:2.16.840.1.113883.4.1'],
    types: 'SS',
  },
  'payment-card': { types: 'BC AM DI DS MS VS' },
  'us-mbi': {
    systems: ['http://hl7.org/fhir/sid/us-mbi', 'http://hl7.org/fhir/sid/us-medicare'],
    types: 'MC',
  },
  'us-dea': { systems: ['urn:oid:2.16.840.1.113883.4.814'], types: 'DEA' },
  'us-npi': {
    systems: ['http://hl7.org/fhir/sid/us-npi', 'urn:oid:2.16.840.1.113883.4.6'],
    types: 'NPI',
  },
  'uk-nhs': {
    systems: ['http://fhir.nhs.uk/id/nhs-number', 'urn:oid:2.16.840.1.113883.2.1.4.1'],
    types: 'NH NHS',
  },
  'ca-hcn': {
    systems: ['http://fhir.infoway-inforoute.ca/namingsystem/ca-*', 'http://ehealthontario.ca/*'],
    types: 'JHN HC',
  },
  'de-kvnr': {
    systems: [
      'http://fhir.de/sid/gkv/*',
      'http://fhir.de/sid/pkv/*',
      'http://fhir.de/namingsystem/gkv/*',
    ],
    types: 'GKV PKV KVZ10',
  },
  'fr-nir': {
    systems: ['8', '9', '10', '11', '2'].map((arc) => `urn:oid:1.2.250.1.213.1.4.${arc}`),
    types: 'INS-NIR INS-NIA INS-C',
  },
  'nl-bsn': {
    systems: ['http://fhir.nl/fhir/namingsystem/bsn', 'urn:oid:2.16.840.1.113883.2.4.6.3'],
    types: 'NNNLD',
  },
  'au-ihi': { systems: ['http://ns.electronichealth.net.au/id/hi/ihi/1.0'], types: 'NI' },
  'au-medicare': { systems: ['http://ns.electronichealth.net.au/id/medicare-number'], types: 'MC' },
  'br-cpf': {
    systems: [
      'http://rnds.saude.gov.br/fhir/r4/namingsystem/cpf',
      'http://rnds-fhir.saude.gov.br/namingsystem/cpf',
      'urn:oid:2.16.840.1.113883.13.237',
    ],
    types: 'NNBRA TAX',
  },
  'it-cf': {
    systems: ['http://hl7.it/sid/codicefiscale', 'urn:oid:2.16.840.1.113883.2.9.4.3.2'],
    types: 'NNITA',
  },
  passport: {
    systems: ['http://hl7.org/fhir/sid/passport-*'],
    types: 'PPN',
    words: /pass-?port|reisepass|pasaporte|passaporto|paspoort/i,
  },
  'driver-licence': {
    systems: ['urn:oid:2.16.840.1.113883.4.3.*'],
    types: 'DL',
    words: /driv(?:er'?s?|ing)[ _-]?licen[cs]e|führerschein/i,
  },
  'medical-record': { types: 'MR MRT PI PT PRN ANON' },
  'health-plan': { types: 'MB SN MC MA NH GKV PKV HC' },
  account: { types: 'AN ANC AND ANT BA BC AM DI DS MS VS' },
  national: {
    systems: [
      // Norway (fødselsnummer, D-nummer), Sweden (personnummer, samordningsnummer), Denmark (CPR).
      ...['2.16.578.1.12.4.1.4.1', '2.16.578.1.12.4.1.4.2', 'http://hl7.no/fhir/namingsystem/fnr'],
      ...['1.2.752.129.2.1.3.1', '1.2.752.129.2.1.3.3'],
      'http://electronichealth.se/identifier/*',
      '1.2.208.176.1.2',
      // Finland (henkilötunnus), Switzerland (AHVN13), Belgium (SSIN), Poland (PESEL).
      '1.2.246.21',
      '2.16.756.5.32',
      'http://www.ehealth.fgov.be/standards/fhir/core/namingsystem/ssin',
      'http://www.ehealth.fgov.be/standards/fhir/namingsystem/ssin',
      '1.3.6.1.4.1.21297.100.1.1',
      '2.16.840.1.113883.3.4424.1.1.616',
      // New Zealand (NHI), Brazil (CNS).
      'http://standards.digital.health.nz/ns/nhi-id',
      'http://rnds.saude.gov.br/fhir/r4/namingsystem/cns',
      '2.16.840.1.113883.13.236',
    ],
    types: 'NI NIIP NNxxx TAX PEN SS',
  },
}

/** HL7 v2-0203 as code systems name it, and what countries add to it. */
export const IDENTIFIER_TYPE_SYSTEMS = new Set([
  'http://fhir.de/codesystem/identifier-type-de-basis',
  'http://hl7.fr/ig/fhir/core/codesystem/fr-core-cs-v2-0203',
  'http://interopsante.org/fhir/codesystem/fr-v2-0203',
  'http://terminology.hl7.org/codesystem/v2-0203',
  'http://hl7.org/fhir/v2/0203',
  'http://hl7.org/fhir/identifier-type',
  'urn:oid:2.16.840.1.113883.18.108',
  '2.16.840.1.113883.18.108',
])

/** What a rule of a profile may name. */
export type IdentifierChoice =
  IdentifierName | { readonly system: string } | { readonly type: string }

/** Whether an identifier with this system, or a type with this code or these words, is one of the choices. */
export type IdentifierMatch = {
  readonly system: (text: string) => boolean
  readonly type: (code: string) => boolean
  readonly words: (text: string) => boolean
}

/** Compiles choices; an OID counts with and without `urn:oid:`. */
export function matchIdentifiers(choices: readonly IdentifierChoice[]): IdentifierMatch {
  const systems = new Set<string>()
  const prefixes: string[] = []
  const types = new Set<string>()
  const named: RegExp[] = []
  const addSystem = (text: string): void => {
    const system = systemOf(text).replace(/^(?=\d+(?:\.\d+){2})/, 'urn:oid:')
    if (system.endsWith('*')) prefixes.push(system.slice(0, -1))
    else systems.add(system)
  }
  for (const choice of choices) {
    if (typeof choice === 'string') {
      const { systems: own = [], types: codes = '', words } = REGISTRY[choice]
      if (words !== undefined) named.push(words)
      own.forEach(addSystem)
      codes.split(' ').forEach((code) => code !== '' && types.add(code))
    } else if ('system' in choice) addSystem(choice.system)
    else types.add(choice.type)
  }
  const hasNational = types.has('NNxxx')
  const isNamed = (text: string): boolean => named.some((words) => words.test(text))
  return {
    system: (text) => {
      const system = systemOf(text).replace(/^(?=\d+(?:\.\d+){2})/, 'urn:oid:')
      return (
        systems.has(system) ||
        prefixes.some((prefix) => system.startsWith(prefix)) ||
        isNamed(system)
      )
    },
    words: isNamed,
    type: (code) => types.has(code) || (hasNational && /^NN[A-Z]{3}$/.test(code)),
  }
}
