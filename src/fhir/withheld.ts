/** What stands where a narrative was that must not be seen; valid XHTML (narrative.html#Narrative). */

export const WITHHELD = 'Narrative withheld: parts of this resource are masked.'
export const WITHHELD_DIV = `<div xmlns="http://www.w3.org/1999/xhtml">${WITHHELD}</div>`
/** A whole Narrative. */
export const WITHHELD_NARRATIVE = `{"status":"empty","div":${JSON.stringify(WITHHELD_DIV)}}`
