import type { Elements } from '../../../fhir/elements.ts'
import type { MaskingNames } from '../../../permit.ts'
import { BASELINE } from '../../../policy/load-masking.ts'
import type { MaskingProfiles } from '../../../policy/load-masking.ts'
import { compileMasking } from './compile-masking.ts'
import type { Masking } from './compile-masking.ts'
import type { Vocabulary } from '../vocabulary.ts'

/**
 * The profiles in force by their names, each set of them compiled when first asked for. A set that
 * was permitted by policies of before lasts as long as there are profiles of its names; without one
 * of them nothing can be shown, and the request fails.
 */
export function createMaskings(
  profiles: () => MaskingProfiles,
  elements: Elements,
  words: Vocabulary,
): (names: MaskingNames) => Masking {
  let compiledOf: MaskingProfiles | undefined
  let serial = 0
  let compiled = new Map<string, Masking>()
  /** The same by the set itself: a grant is asked once for each resource. */
  let known = new WeakMap<MaskingNames, Masking>()
  return (names) => {
    const current = profiles()
    if (current !== compiledOf) {
      compiledOf = current
      compiled = new Map()
      known = new WeakMap()
    }
    const masking = known.get(names) ?? find(names, current)
    known.set(names, masking)
    return masking
  }

  function find(names: MaskingNames, current: MaskingProfiles): Masking {
    // In one order, so that nothing hangs on how the first who asked for them spelt it.
    const sorted = [...names].sort()
    const key = sorted.join()
    const same = compiled.get(key)
    if (same !== undefined) return same
    const found = sorted.map((name) => {
      const profile = current.get(name)
      if (profile === undefined && name !== BASELINE)
        throw new Error(`no masking profile "${name}"`)
      return profile ?? { name, rules: [], categories: [] }
    })
    const made = compileMasking(found, elements, words, ++serial)
    compiled.set(key, made)
    return made
  }
}
