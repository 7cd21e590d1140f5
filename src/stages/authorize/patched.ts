import { applyPatch, PatchError } from '../../fhir/patch.ts'
import type { FhirPatch } from '../../fhir/patch.ts'
import { giveTurn } from './turn.ts'

/** A resource and what a patch makes of it, both as JSON.stringify writes them. */
export type Made = { readonly before: Buffer; readonly after: Buffer }

/** The same where nothing is deleted that is not there; and what its conditions were held against. */
export type Asking = Made & { readonly asked: string }

/** A patch, made once of each resource, however often it is asked what it makes of it. */
export type Patched = {
  /** Throws PatchError. */
  readonly of: (resource: Buffer) => Promise<Made>
  /** Throws PatchError. */
  readonly asking: (resource: Buffer) => Promise<Asking>
  readonly isApplicable: (resource: Buffer) => Promise<boolean>
}

type Outcomes = { readonly of: Made | PatchError; readonly asking: Asking | PatchError }

export function createPatched(patch: FhirPatch): Patched {
  const known = new WeakMap<Buffer, Outcomes>()

  async function outcomesOf(resource: Buffer): Promise<Outcomes> {
    const found = known.get(resource) ?? (await make(patch, resource))
    known.set(resource, found)
    return found
  }

  const orThrow = <T extends object>(outcome: T | PatchError): T => {
    if (outcome instanceof PatchError) throw outcome
    return outcome
  }

  return {
    of: async (resource) => orThrow((await outcomesOf(resource)).of),
    asking: async (resource) => orThrow((await outcomesOf(resource)).asking),
    isApplicable: async (resource) => !((await outcomesOf(resource)).of instanceof PatchError),
  }
}

async function make(patch: FhirPatch, resource: Buffer): Promise<Outcomes> {
  await giveTurn(resource)
  const parsed: unknown = JSON.parse(resource.toString('utf8'))
  await giveTurn(resource)
  const before = Buffer.from(JSON.stringify(parsed))
  const attempt = async (asked?: string[]): Promise<Made | PatchError> => {
    await giveTurn(resource)
    try {
      return { before, after: Buffer.from(JSON.stringify(applyPatch(parsed, patch, asked))) }
    } catch (error) {
      if (error instanceof PatchError) return error
      throw error
    }
  }
  const asked: string[] = []
  const strict = await attempt(asked)
  // Taking down what it asks only refuses more.
  if (strict instanceof PatchError) return { of: await attempt(), asking: strict }
  return { of: strict, asking: { ...strict, asked: asked.join('\n') } }
}
