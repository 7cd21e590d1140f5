/** HL7 v3-ObservationValue codes that say what was done (LABEL-6): bits. */
export const CODE = { MASKED: 1, REDACTED: 2, ABSTRED: 4, PSEUDED: 8, SUBSETTED: 16 } as const
