import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { checkSelector, elementsOf, parseSelector, PathError } from '../fhir/element-path.ts'
import type { ElementSelector } from '../fhir/element-path.ts'
import { loadElements } from '../fhir/elements.ts'
import type { Elements } from '../fhir/elements.ts'
import { VERSIONS } from '../fhir/definitions.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import type { MaskingNames } from '../permit.ts'
import { maskingSchema } from './masking-schema.ts'
import type { Category, MaskingFile, Method } from './masking-schema.ts'
import { readYaml, reportIssues } from './yaml-file.ts'
import type { PolicyProblem, YamlFile } from './yaml-file.ts'

/** A rule of a profile, its paths parsed and known to this version of FHIR. */
export type MaskingRule = Omit<MaskingFile['rules'][number], 'select'> & {
  readonly select?: readonly ElementSelector[]
}

/** What is masked and how, by name. */
export type MaskingProfile = {
  readonly name: string
  readonly rules: readonly MaskingRule[]
  readonly categories: readonly Category[]
}

export type MaskingProfiles = ReadonlyMap<string, MaskingProfile>

/**
 * Names of profiles, with what they stood for when something was permitted: the files may say another
 * thing by the time that it is shown, and what neither they nor those of before permit would come out.
 */
export class BoundMasking extends Set<string> {
  readonly profiles: MaskingProfiles

  constructor(names: Iterable<string>, profiles: MaskingProfiles) {
    super(names)
    this.profiles = profiles
  }
}

/** What names stand for; those that no policies gave stand for nothing. */
export const profilesOf = (names: MaskingNames): MaskingProfiles =>
  names instanceof BoundMasking ? names.profiles : NO_PROFILES
const NO_PROFILES: MaskingProfiles = new Map()

/** Always in force: what no policy can switch off. */
export const BASELINE = 'baseline'

/**
 * Reads the profiles of folders, `*.yaml` each; a folder that is not there has none. What is wrong
 * is added to the problems.
 */
export function loadMasking(
  folders: readonly string[],
  version: FhirVersion,
  problems: PolicyProblem[],
): MaskingProfiles {
  const profiles = new Map<string, MaskingProfile>()
  const check = createPathCheck(version)
  for (const file of folders.flatMap(listFiles)) {
    const yaml = readYaml(file, problems)
    if (yaml === undefined) continue
    const parsed = maskingSchema.safeParse(yaml.content)
    if (!parsed.success) {
      reportIssues(yaml, parsed.error.issues)
      continue
    }
    const { masking: name, rules, categories } = parsed.data
    if (profiles.has(name)) yaml.report(['masking'], `masking "${name}" is there twice`)
    const ids = new Set<string>()
    const compiled = rules.map((rule, at) => {
      if (ids.has(rule.id)) yaml.report(['rules', at, 'id'], `rule "${rule.id}" is there twice`)
      ids.add(rule.id)
      const { select, ...rest } = rule
      if (select === undefined) return rest
      return {
        ...rest,
        select: select.flatMap((text, n) =>
          parse(text, rule.method, ['rules', at, 'select', n], yaml),
        ),
      }
    })
    profiles.set(name, { name, rules: compiled, categories })
  }
  return profiles

  function parse(
    text: string,
    method: Method,
    place: readonly PropertyKey[],
    yaml: YamlFile,
  ): ElementSelector[] {
    try {
      const selector = parseSelector(text)
      const wrong = check(selector, method) ?? checkKept(selector)
      if (wrong !== undefined) yaml.report(place, wrong)
      return wrong === undefined ? [selector] : []
    } catch (error) {
      if (!(error instanceof PathError)) throw error
      yaml.report(place, error.message)
      return []
    }
  }
}

/** Files that are read; a name in capitals is one as well. */
const YAML = /\.ya?ml$/i

/** Names of the YAML files of a folder, sorted; [] when there is no such folder. */
export function listFiles(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => YAML.test(name))
      .sort()
      .map((name) => join(folder, name))
  } catch {
    return []
  }
}

/**
 * Says what is wrong with a path and its method. One that another version of FHIR knows is right and
 * selects nothing: a shipped profile is one file for all of them.
 */
function createPathCheck(
  version: FhirVersion,
): (selector: ElementSelector, method: Method) => string | undefined {
  const checkIn = (one: FhirVersion, selector: ElementSelector, method: Method) =>
    checkSelector(selector, loadElements(one)) ?? checkMethod(selector, method, loadElements(one))
  return (selector, method) => {
    const wrong = checkIn(version, selector, method)
    if (wrong === undefined) return undefined
    // What this version knows must fit here, whatever another one says of it.
    const isHere = checkSelector(selector, loadElements(version)) === undefined
    const isElsewhere = VERSIONS.some((one) => checkIn(one, selector, method) === undefined)
    return isElsewhere && !isHere ? undefined : wrong
  }
}

/** LABEL-6: labels stay; and without its address an extension means nothing. */
function checkKept({ root, steps }: ElementSelector): string | undefined {
  const names = steps.map(({ name }) => name)
  const isLabel =
    (root === 'Meta' && (names.length === 0 || names[0] === 'security' || names[0] === 'tag')) ||
    (names[0] === 'meta' && (names.length === 1 || names[1] === 'security' || names[1] === 'tag'))
  if (isLabel) return 'labels (meta.security, meta.tag) are never masked'
  if (names.at(-1) === 'url' && (root === 'Extension' || names.at(-2) === 'extension'))
    return 'the address of an extension is never masked: remove the extension'
  return undefined
}

/** Why a method does not fit what a path selects, or undefined: it does. */
function checkMethod(
  { root, steps }: ElementSelector,
  method: Method,
  elements: Elements,
): string | undefined {
  let types = [root]
  for (const { name, as } of steps) {
    const found = elementsOf(types, name, elements).map(({ type }) => type)
    types = as === undefined ? found : [as]
  }
  const all = (fits: (type: string) => boolean): boolean => types.every(fits)
  const isQuantity = (type: string): boolean =>
    elements.structure(type)?.kinds.includes('Quantity') === true
  if (method.kind === 'keep' || method.kind === 'remove' || method.kind === 'redact')
    return undefined
  if (method.kind === 'generalise' && method.to === 'age-90')
    return all(isQuantity) ? undefined : 'age-90 is for ages and quantities'
  if (method.kind === 'generalise' && method.to === 'span-90')
    return all((type) => isQuantity(type) || type === 'Range')
      ? undefined
      : 'span-90 is for quantities and ranges'
  if (!all((type) => elements.isPrimitive(type))) return 'this method is for simple values'
  return undefined
}
