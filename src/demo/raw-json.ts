/**
 * Spans in JSON text that `JSON.parse` has already accepted. The demo's FHIR server keeps resources
 * as the text that came, so that `1.10` stays `1.10` and an escape stays an escape.
 */

/** One member of an object; `start` is at its key, the value is `text.slice(valueStart, end)`. */
export type Member = {
  readonly key: string
  readonly start: number
  readonly valueStart: number
  readonly end: number
}

const SPACE = /[ \t\n\r]*/y
const STRING = /"(?:[^"\\]|\\.)*"/y
const SCALAR = /[^,\]} \t\n\r]*/y

const after = (pattern: RegExp, text: string, at: number): number => {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

const skipSpace = (text: string, at: number): number => after(SPACE, text, at)

const skipValue = (text: string, at: number): number => {
  const first = text[at]
  if (first === '"') return after(STRING, text, at)
  if (first !== '{' && first !== '[') return after(SCALAR, text, at)
  let depth = 0
  for (let i = at; i < text.length;) {
    const c = text[i]
    if (c === '"') {
      i = after(STRING, text, i)
      continue
    }
    if (c === '{' || c === '[') depth++
    else if (c === '}' || c === ']') {
      depth--
      if (depth === 0) return i + 1
    }
    i++
  }
  throw new Error('JSON text ends inside a value')
}

/** The members of the object at `at` (white space before it is skipped). */
export const membersOf = (text: string, at = 0): readonly Member[] => {
  const members: Member[] = []
  let i = skipSpace(text, skipSpace(text, at) + 1)
  while (text[i] === '"') {
    const start = i
    const keyEnd = after(STRING, text, i)
    const key = JSON.parse(text.slice(start, keyEnd)) as string
    const valueStart = skipSpace(text, skipSpace(text, keyEnd) + 1)
    const end = skipValue(text, valueStart)
    members.push({ key, start, valueStart, end })
    i = skipSpace(text, end)
    if (text[i] !== ',') break
    i = skipSpace(text, i + 1)
  }
  return members
}

/** The texts of the elements of the array at `at`. */
export const elementsOf = (text: string, at = 0): readonly string[] => {
  const elements: string[] = []
  let i = skipSpace(text, skipSpace(text, at) + 1)
  while (i < text.length && text[i] !== ']') {
    const end = skipValue(text, i)
    elements.push(text.slice(i, end))
    i = skipSpace(text, end)
    if (text[i] !== ',') break
    i = skipSpace(text, i + 1)
  }
  return elements
}

/** The text of one member's value, or undefined. */
export const valueOf = (text: string, key: string): string | undefined => {
  const member = membersOf(text).find((candidate) => candidate.key === key)
  return member && text.slice(member.valueStart, member.end)
}

/** What the server itself decides about a resource. */
export type Stamp = {
  readonly id: string
  readonly versionId: number
  readonly lastUpdated: string
}

/** Writes id, meta.versionId and meta.lastUpdated into a resource; every other byte stays. */
export const stampResource = (text: string, stamp: Stamp): string => {
  const members = membersOf(text)
  const find = (key: string): Member | undefined => members.find((member) => member.key === key)
  const oldMeta = find('meta')
  const kept = oldMeta
    ? membersOf(text, oldMeta.valueStart)
        .filter(({ key }) => key !== 'versionId' && key !== 'lastUpdated')
        .map(({ start, end }) => text.slice(start, end))
    : []
  const own = [`"versionId":"${stamp.versionId}"`, `"lastUpdated":"${stamp.lastUpdated}"`]
  const meta = `{${[...own, ...kept].join(',')}}`
  const id = JSON.stringify(stamp.id)

  const edits: { start: number; end: number; text: string }[] = []
  const oldId = find('id')
  let added = ''
  if (!oldId) added += `,"id":${id}`
  else if (JSON.parse(text.slice(oldId.valueStart, oldId.end)) !== stamp.id)
    edits.push({ start: oldId.valueStart, end: oldId.end, text: id })
  if (oldMeta) edits.push({ start: oldMeta.valueStart, end: oldMeta.end, text: meta })
  else if (oldId) edits.push({ start: oldId.end, end: oldId.end, text: `,"meta":${meta}` })
  else added += `,"meta":${meta}`
  const place = find('resourceType')?.end
  if (place === undefined) throw new Error('resource without resourceType')
  if (added !== '') edits.push({ start: place, end: place, text: added })

  let result = ''
  let at = 0
  for (const edit of edits.sort((a, b) => a.start - b.start)) {
    result += text.slice(at, edit.start) + edit.text
    at = edit.end
  }
  return (result + text.slice(at)).trim()
}
