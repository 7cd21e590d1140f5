import { readFile, rename, writeFile } from 'node:fs/promises'

/** What makes a chain of the lines of an audit file (AUD-9), and the file beside it that holds its end. */

const CHAIN_URL = 'https://fhirewall.dev/StructureDefinition/audit-chain'
/** `previous` of the first record. */
export const NOTHING_BEFORE = '0'.repeat(64)
export const LINE_END = 0x0a

/** Where the chain stands: the sequence and sha256 (hex) of the last line. */
export type Head = { readonly sequence: number; readonly digest: string }

/** The extension that chains a record to the line before it, as the end of a JSON object without its brace. */
export function formatChain(sequence: number, previous: string): string {
  return (
    `,"extension":[{"url":"${CHAIN_URL}","extension":[` +
    `{"url":"sequence","valueUnsignedInt":${sequence}},{"url":"previous","valueString":"${previous}"}]}]`
  )
}

/** The chain data of a line, or undefined when it has none. */
export function chainOf(line: Buffer): { sequence: number; previous: string } | undefined {
  try {
    const record = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line)) as {
      resourceType?: unknown
      extension?: {
        url?: unknown
        extension?: { url?: unknown; valueUnsignedInt?: unknown; valueString?: unknown }[]
      }[]
    }
    if (record.resourceType !== 'AuditEvent') return undefined
    const chain = record.extension?.find(({ url }) => url === CHAIN_URL)?.extension
    const sequence = chain?.find(({ url }) => url === 'sequence')?.valueUnsignedInt
    const previous = chain?.find(({ url }) => url === 'previous')?.valueString
    if (typeof sequence !== 'number' || typeof previous !== 'string') return undefined
    return { sequence, previous }
  } catch {
    return undefined
  }
}

/** Writes `<file>.head`. Written aside and renamed, so that a crash leaves the old one or the new one. */
export async function writeHead(file: string, head: Head): Promise<void> {
  const aside = `${file}.head.new`
  await writeFile(aside, `${JSON.stringify(head)}\n`, { mode: 0o600 })
  await rename(aside, `${file}.head`)
}

/** Reads `<file>.head`; undefined = there is none. */
export async function readHead(path: string): Promise<Head | undefined | 'unreadable'> {
  let written: string
  try {
    written = await readFile(`${path}.head`, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    return 'unreadable'
  }
  try {
    const { sequence, digest } = JSON.parse(written) as Partial<Head>
    if (typeof sequence !== 'number' || typeof digest !== 'string') return 'unreadable'
    // One that no record can have would be held against none.
    const isFit = Number.isSafeInteger(sequence) && sequence >= 0 && /^[0-9a-f]{64}$/.test(digest)
    const isOfNone = sequence === 0
    return isFit && isOfNone === (digest === NOTHING_BEFORE) ? { sequence, digest } : 'unreadable'
  } catch {
    return 'unreadable'
  }
}
