import { loadElements } from '../../src/fhir/elements.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import type { DetectorName } from '../../src/policy/masking-schema.ts'
import { findSecrets } from '../../src/stages/release/mask/detect/secrets.ts'
import { createFinder } from '../../src/stages/release/mask/detect/finder.ts'
import type { Reach } from '../../src/permit.ts'
import { findFaults } from './generate-resource.ts'
import type { Node } from './generate-resource.ts'
import { readTree, textIn } from './json-tree.ts'
import type { Tree } from './json-tree.ts'
import { maskWith } from './mask.ts'
import { createNodes, isApart, isLost, isMasked, mayBeMasked, remembered } from './plain-masking.ts'
import { canariesIn, seedResource } from './seed-resource.ts'
import { untouched } from './untouched.ts'
import { shippedMasking } from './masking.ts'

export const PROFILES = [
  'safe-harbor',
  'limited-data-set',
  'minimum-necessary',
  'payment-card',
] as const
/** Rules that no resource of a corpus meets. */
const NOTHING = `masking: nothing
description: d
rules: [{ id: r, select: ["Identifier.where(system = 'http://nowhere.example').value"], method: remove }]
`
/** Never released by themselves. */
const UNJUDGED = new Set(['Bundle', 'Parameters', 'Binary', 'OperationOutcome'])

/** Who may see whatever labels say, masked by the profiles. */
function cleared(text: string, ...names: readonly string[]): Partial<Reach> {
  const sensitivities = new Set(
    Array.from(text.matchAll(/"code"\s*:\s*"(\w+)"/g), ([, code]) => code ?? ''),
  )
  return {
    masking: new Set(['baseline', ...names]),
    clearance: { confidentiality: 'V', sensitivities },
  }
}

/** Every resource of a document that may leave by itself, in the bytes it stands in. */
export function* resourcesIn(text: string): Generator<string> {
  const { resourceType, ...rest } = JSON.parse(text) as Record<string, unknown>
  if (resourceType !== 'Bundle' && resourceType !== 'Parameters') {
    if (!UNJUDGED.has(String(resourceType))) yield text
    return
  }
  const parts = (rest['entry'] ?? rest['parameter'] ?? []) as { resource?: object }[]
  for (const { resource } of parts) {
    if (resource !== undefined) yield* resourcesIn(JSON.stringify(resource, null, 1))
  }
}

/** Checks that hold for any resource; each throws with the resource when it does not. */
export function createProof(version: FhirVersion) {
  const elements = loadElements(version)
  const nodes = createNodes(elements)
  const { send } = maskWith([NOTHING], version)
  const profiles = shippedMasking(undefined, version).profiles()
  const plain = PROFILES.map((name) => {
    const profile = profiles.get(name)
    if (profile === undefined) throw new Error(name)
    const detectors = new Set<DetectorName>(['us-ssn', 'payment-card'])
    for (const { detect = [] } of profile.rules) for (const one of detect) detectors.add(one)
    const find = createFinder(detectors)
    return {
      name,
      isFound: (text: string) => find(text).length > 0,
      masks: remembered((way) => isMasked(profile, way)),
      mayMask: remembered((way) => mayBeMasked(profile, way)),
    }
  })
  const apart = remembered(isApart)
  const lost = remembered(isLost)
  /** What identifiers say, numbers in texts, and what an object says of itself when it was emptied. */
  const elsewhere = remembered((way) => {
    const of = way.findLastIndex(({ type }) => type === 'Identifier')
    return of >= 0 && ['value', 'extension'].includes(way[of + 1]?.name ?? '')
  })

  return {
    /** Byte for byte the same when no rule matches; whether the baseline had nothing to do. */
    async leavesAlone(text: string): Promise<boolean> {
      const bare = await send(text, [cleared(text)])
      const none = await send(text, [cleared(text, 'nothing')])
      const type = String((JSON.parse(text) as Record<string, unknown>)['resourceType'])
      // What is not as its version has it may be anything, and goes where masking is on.
      const isSound = findFaults(elements, JSON.parse(text), type, type).length === 0
      if (bare.text.startsWith('<') || (isSound && none.text !== bare.text))
        throw new Error(`not the same: ${text}\n${bare.text}\n${none.text}`)
      const isMasked = (bare.tally?.masked.size ?? 0) > 0
      if (!isMasked && bare.text !== text) throw new Error(`changed: ${text}\n${bare.text}`)
      if (isMasked) {
        const isFound = (part: string): boolean => findSecrets(part).length > 0
        sameBut(text, bare.text, { name: 'baseline', isFound, masks: () => false })
      }
      return !isMasked
    },

    /** Nothing is edited but what a profile is about. */
    async editsWhatIsPlanned(text: string): Promise<void> {
      for (const { name, mayMask, isFound } of plain) {
        const out = (await send(text, [cleared(text, name)])).text
        if (out.startsWith('<')) {
          if (name !== 'safe-harbor') throw new Error(`${name} refuses ${text}`)
        } else sameBut(text, out, { name, isFound, masks: mayMask })
      }
    },

    /** No canary of what is masked comes out, all others do, and what comes out is sound. */
    async hides(resource: object): Promise<number> {
      const { text, seeded } = seedResource(elements, nodes, resource)
      const type = String((resource as Record<string, unknown>)['resourceType'])
      const before = new Set(findFaults(elements, JSON.parse(text), type, type))
      for (const { name, masks, mayMask } of plain) {
        const out = (await send(text, [[name]])).text
        const fail = (what: string): never => {
          throw new Error(`${name} ${what}\n${text.slice(0, 4000)}\n${out.slice(0, 4000)}`)
        }
        const left = canariesIn(out)
        if (out.startsWith('<')) {
          const isWhole = masks([nodes.root(type)])
          if (!isWhole) fail('refuses')
          continue
        }
        const tree = readTree(out)
        const faults = findFaults(elements, JSON.parse(out), type, type)
        const [fault] = faults.filter((one) => !before.has(one))
        if (fault !== undefined) fail(`is not valid: ${fault}`)
        let masked = 0
        for (const { canary, way, type: own } of seeded) {
          const place = (): string => way.map((node) => `${node.name}:${node.type}`).join('.')
          if (masks(way)) {
            if (apart(way) && isLabelOrAddress(way)) continue
            masked += 1
            if (left.has(canary)) fail(`leaks ${place()}`)
          } else if (own === 'base64Binary' && way.at(-1)?.name !== 'hash') {
            if (left.has(canary)) fail(`leaks ${place()}`)
          } else if (!mayMask(way) && !apart(way) && !lost(way) && !left.has(canary))
            fail(`loses ${place()}`)
        }
        if (masked > 0 && !isMarked(tree)) fail('does not say so')
        if (name === 'safe-harbor' && /-11-23/.test(out)) fail('shows a day')
      }
      return seeded.length
    },
  }

  function sameBut(
    text: string,
    out: string,
    {
      name,
      masks,
      isFound,
    }: {
      readonly name: string
      readonly masks: (way: readonly Node[]) => boolean
      readonly isFound: (text: string) => boolean
    },
  ): void {
    const isTouched = (way: readonly Node[]): boolean =>
      masks(way) || elsewhere(way) || apart(way) || lost(way)
    const found = (raw: string): boolean =>
      raw.startsWith('"') && (raw.includes('[masked]') || raw.includes('*') || isFound(raw))
    const [before, after] = [text, out].map((one) =>
      untouched(elements, nodes, readTree(one), isTouched, found),
    )
    if (before === after) return
    let at = 0
    while (before?.[at] === after?.[at]) at++
    const part = (all = ''): string => all.slice(Math.max(0, at - 200), at + 100)
    throw new Error(`${name} edits more than is planned:\n${part(before)}\n${part(after)}`)
  }
}

const isLabelOrAddress = (way: readonly Node[]): boolean =>
  way.some(({ name, type }) => name === 'url' && type === 'uri') ||
  way.some(({ name }) => name === 'security' || name === 'tag')

/** Whether labels say that something was done. */
function isMarked(resource: Tree): boolean {
  if (resource.kind !== 'object') return false
  const meta = resource.members.find(({ name }) => name === 'meta')?.value
  if (meta?.kind !== 'object') return false
  return meta.members.some(
    ({ name, value }) =>
      (name === 'security' || name === 'tag') &&
      value.kind === 'list' &&
      value.items.some((coding) => ALTERED.has(String(textIn(coding, 'code')))),
  )
}
const ALTERED = new Set(['MASKED', 'REDACTED', 'ABSTRED', 'PSEUDED', 'SUBSETTED'])
