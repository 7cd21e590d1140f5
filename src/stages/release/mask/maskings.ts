import type { Elements } from '../../../fhir/elements.ts'
import type { MaskingNames } from '../../../permit.ts'
import { BASELINE } from '../../../policy/load-masking.ts'
import type { MaskingProfiles } from '../../../policy/load-masking.ts'
import { compileMasking } from './compile-masking.ts'
import type { Masking } from './compile-masking.ts'
import type { Vocabulary } from '../vocabulary.ts'

/**
 * Profiles by their names, each set of them compiled when first asked for. What was permitted by
 * policies of before is masked as they say to the end, though others are in force by then. A name that
 * stands for nothing shows nothing: the request fails.
 */
export function createMaskings(
  profilesOf: (names: MaskingNames) => MaskingProfiles,
  elements: Elements,
  words: Vocabulary,
): (names: MaskingNames) => Masking {
  let serial = 0
  const compiled = new WeakMap<MaskingProfiles, Map<string, Masking>>()
  /** The same by the set itself: a grant is asked once for each resource. */
  const known = new WeakMap<MaskingNames, Masking>()
  return (names) => {
    let masking = known.get(names)
    if (masking === undefined) {
      masking = find(names, profilesOf(names))
      known.set(names, masking)
    }
    return masking
  }

  function find(names: MaskingNames, profiles: MaskingProfiles): Masking {
    const byNames = compiled.get(profiles) ?? new Map<string, Masking>()
    compiled.set(profiles, byNames)
    // In one order, so that nothing hangs on how the first who asked for them spelt it.
    const sorted = [...names].sort()
    const key = sorted.join()
    const same = byNames.get(key)
    if (same !== undefined) return same
    const found = sorted.map((name) => {
      const profile = profiles.get(name)
      if (profile === undefined && name !== BASELINE)
        throw new Error(`no masking profile "${name}"`)
      return profile ?? { name, rules: [], categories: [] }
    })
    const made = compileMasking(found, elements, words, ++serial)
    byNames.set(key, made)
    return made
  }
}
