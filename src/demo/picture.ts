import type { FhirServer } from './fhir-server.ts'
import type { Persona } from './identity-provider.ts'

/** What the demo tells about itself. */
export type Picture = {
  readonly url: string
  readonly adminUrl: string
  readonly issuer: string
  readonly upstream: FhirServer
  readonly files: number
  readonly auditFile: string
  readonly own: string
  readonly other: string | undefined
}

const curl = (picture: Picture, persona: Persona, path: string): string =>
  [
    '    curl -s -H "Authorization: Bearer $(',
    `      curl -s ${picture.issuer}/demo/token/${persona})" \\`,
    `      '${picture.url}/${path}'`,
  ].join('\n')

/** What is where and what to try, in lines of at most 80 columns. */
export const describeDemo = (picture: Picture): string => {
  const { url, adminUrl, issuer, upstream, files, auditFile, own, other } = picture
  const loaded = files === 0 ? '' : `, ${files} file${files === 1 ? '' : 's'} loaded`
  return [
    '',
    'FHIRewall demo. Nobody in it exists.',
    '',
    '    you ──token──► FHIRewall ──one checked request──► FHIR server',
    '                       │                                  │',
    '                 policies, audit              whole, unmasked records',
    '',
    `  FHIRewall        ${url}`,
    `  admin            ${adminUrl}  (/livez /readyz /metrics)`,
    `  OpenID provider  ${issuer}`,
    `  FHIR server      ${upstream.url}  (behind; only here to compare)`,
    `                   ${upstream.count()} resources, ${upstream.count('Patient')} patients${loaded}`,
    '  audit log',
    `    ${auditFile}`,
    '',
    '1 patient: reads the own record. Of the SSN the last four digits are left,',
    '  the narrative that repeats it is withheld, and meta.security says so; every',
    '  other byte is as the FHIR server holds it.',
    curl(picture, 'patient', `Patient/${own}`),
    ...(other === undefined
      ? []
      : [
          '',
          '  The record of somebody else: 404, as if there were none.',
          curl(picture, 'patient', `Patient/${other}`),
        ]),
    '',
    '2 clinician: reads and writes for treatment. Decimals keep the precision they',
    '  were measured with: 1.10 stays 1.10.',
    curl(picture, 'clinician', `Observation?patient=${own}&code=2160-0`),
    '',
    '  A note: the card number and the SSN in its text are masked.',
    curl(picture, 'clinician', `DocumentReference?patient=${own}`),
    '',
    '3 researcher: the same kind of data, de-identified.',
    curl(picture, 'researcher', 'Patient?_count=2'),
    '',
    '4 backend: a program without a person (client credentials). What is labelled',
    '  restricted stays withheld.',
    curl(picture, 'backend', `Condition?patient=${own}`),
    '',
    'Without a token: 401 with a challenge.',
    `    curl -si '${url}/Patient/${own}'`,
    '',
    'The same record unprotected, to compare:',
    `    curl -s '${upstream.url}/Patient/${own}'`,
    '',
    'Ctrl-C ends the demo.',
  ].join('\n')
}
