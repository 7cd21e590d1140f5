/** HL7 v3-ObservationValue codes that say what was done (LABEL-6): bits. */
export const CODE = { MASKED: 1, REDACTED: 2, ABSTRED: 4, PSEUDED: 8, SUBSETTED: 16 } as const

const NAMES = Object.entries(CODE)
const ALL = Object.values(CODE).reduce((sum, bit) => sum | bit, 0)

/** Codings of a code system, as a list has them, by the bits of their codes. */
export function buildCodings(system: string): readonly string[] {
  return Array.from({ length: ALL + 1 }, (_, codes) =>
    NAMES.filter(([, bit]) => (codes & bit) !== 0)
      .map(([code]) => `{"system":"${system}","code":"${code}"}`)
      .join(),
  )
}
