import { hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { chainOf, LINE_END, NOTHING_BEFORE, readHead } from './audit-chain.ts'

/** What a verification found. `firstBad.line` counts from 1. */
export type AuditVerification = {
  readonly records: number
  /** SHA-256 of the last line, hexadecimal; undefined for none. */
  readonly last?: string | undefined
  /** Whether `<file>.head` was there, without which nobody can tell that lines are missing at the end. */
  readonly hasHead?: boolean
  readonly firstBad?: { readonly line: number; readonly why: string }
}

/**
 * Verifies the chain of an audit file, line by line in bounded memory, and its end against
 * `<file>.head` when that is there (AUD-9). A record whose hash is `kept` must be among them. Rejects when
 * the file cannot be read.
 */
export async function verifyAuditFile(path: string, kept?: string): Promise<AuditVerification> {
  const known = await readHead(path)
  if (known === 'unreadable') {
    return { records: 0, firstBad: { line: 0, why: 'the .head file beside it cannot be read' } }
  }
  let records = 0
  let digest = NOTHING_BEFORE
  let sequence = 0
  let isMissing = kept !== undefined
  for await (const { line, ended } of linesOf(path)) {
    const bad = (why: string) => ({ records, firstBad: { line: records + 1, why } })
    if (!ended) return bad('the line is torn: it has no end')
    const chain = chainOf(line)
    if (chain === undefined) return bad('not an AuditEvent with chain data')
    if (chain.sequence !== sequence + 1) {
      return bad(`sequence ${chain.sequence} where ${sequence + 1} was due`)
    }
    if (chain.previous !== digest) return bad('the line before it is not the one it was chained to')
    sequence = chain.sequence
    digest = hash('sha256', line)
    if (digest === kept?.toLowerCase()) isMissing = false
    if (known?.sequence === sequence && known.digest !== digest) {
      return bad('the line is not the one that .head was written for')
    }
    records++
  }
  if (known !== undefined && known.sequence > sequence) {
    const why = `lines are missing at the end: .head was written for record ${known.sequence}`
    return { records, firstBad: { line: records + 1, why } }
  }
  if (isMissing) {
    const why = 'the record that was kept elsewhere is not in it'
    return { records, firstBad: { line: records + 1, why } }
  }
  const hasHead = known !== undefined
  return { records, hasHead, last: records === 0 ? undefined : digest }
}

async function* linesOf(path: string): AsyncGenerator<{ line: Buffer; ended: boolean }> {
  const handle = await open(path, 'r')
  try {
    let pieces: Buffer[] = []
    for await (const chunk of handle.createReadStream({ autoClose: false })) {
      let rest = chunk as Buffer
      for (let at = rest.indexOf(LINE_END); at >= 0; at = rest.indexOf(LINE_END)) {
        yield { line: Buffer.concat([...pieces, rest.subarray(0, at)]), ended: true }
        pieces = []
        rest = rest.subarray(at + 1)
      }
      if (rest.length > 0) pieces.push(rest)
    }
    if (pieces.length > 0) yield { line: Buffer.concat(pieces), ended: false }
  } finally {
    await handle.close()
  }
}
