import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { configSchema } from '../../src/config/schema.ts'
import type { Tally } from '../../src/exchange.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { Permit } from '../../src/permit.ts'
import type { Reach } from '../../src/permit.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import type { Release } from '../../src/stages/release/release.ts'
import { grantOf } from './grants.ts'
import { shippedMasking } from './masking.ts'

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})

/** What came out: `text` is the body, or the reason of the refusal in angle brackets. */
export type Out = {
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
  readonly tally: Tally | undefined
}

/** Sends an answer of upstream through the release stage, masked by the profiles of each way. */
export type Mask = Release & {
  readonly send: (
    body: string,
    ways: readonly (readonly string[] | Partial<Reach>)[],
    more?: {
      readonly recipient?: string
      readonly headers?: Record<string, string>
      readonly code?: 'history-type'
    },
  ) => Promise<Out>
}

/** A release stage with the shipped profiles, and those of the YAML texts. */
export function maskWith(profiles: readonly string[] = [], version: FhirVersion = 'R4'): Mask {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-masking-'))
  profiles.forEach((text, n) => {
    writeFileSync(join(folder, `${n}.yaml`), text)
  })
  const masking = shippedMasking(folder, version)
  rmSync(folder, { recursive: true })
  const stage = createRelease(config, loadDefinitions(version), masking)
  return {
    ...stage,
    async send(body, ways, { recipient = 'client', headers = {}, code: asking } = {}) {
      const { resourceType: type } = JSON.parse(body) as { resourceType: string }
      const reach = ways.map((way): Reach => {
        const [one] = grantOf(
          'length' in way ? { masking: new Set(['baseline', ...way]) } : way,
        ).reach
        if (one === undefined) throw new Error('no reach')
        return one
      })
      const grant = { ...grantOf(), reach, recipient }
      const code = asking ?? (type === 'Bundle' ? 'search-type' : 'read')
      const asked = type === 'Bundle' ? 'Patient' : type
      const interaction = { code, method: 'GET', type: asked, parameters: [] } as const
      const permit = Permit.issue({
        ...{ interaction, requested: interaction, body: undefined, rules: [] },
        terms: { grantFor: () => grant, mayReadBack: true },
      })
      try {
        const fit = { status: 200, headers, body: Buffer.from(body) }
        const { answer, tally } = await stage.release(permit, fit)
        return { text: (answer.body as Buffer).toString(), headers: answer.headers, tally }
      } catch (error) {
        return { text: `<${toRefusal(error).reason}>`, headers: {}, tally: undefined }
      }
    },
  }
}
