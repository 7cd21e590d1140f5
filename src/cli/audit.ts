import { parseArgs } from 'node:util'
import { verifyAuditFile } from '../adapters/verify-audit-file.ts'
import type { AuditVerification } from '../adapters/verify-audit-file.ts'

const HELP = `Usage: fhirewall audit verify FILE… [--json]

Verifies that no record of an audit log was changed, added or removed. That its
end was not cut off is told by FILE.head beside it, or by the hash of a record
that was kept elsewhere.
Exit code: 0 whole, 1 broken or unreadable, 2 wrong usage.

  --last HASH   of a record that must be there, as an earlier run printed it
  --json        one JSON object a file: {"file", "records", "last", "hasHead",
                "firstBad": {"line", "why"}}
  --help        this text
`

/** `fhirewall audit verify FILE…` (AUD-9). Gives the exit code. */
export async function audit(args: string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        json: { type: 'boolean' },
        last: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`)
    return 2
  }
  if (parsed.values.help === true) {
    process.stdout.write(HELP)
    return 0
  }
  const [command, ...files] = parsed.positionals
  if (command !== 'verify' || files.length === 0) {
    process.stderr.write(HELP)
    return 2
  }
  let code = 0
  for (const file of files) {
    if (!(await report(file, parsed.values))) code = 1
  }
  return code
}

type Options = { readonly json?: boolean; readonly last?: string }

async function report(file: string, { json = false, last }: Options): Promise<boolean> {
  try {
    const found = await verifyAuditFile(file, last)
    const { firstBad } = found
    if (json) process.stdout.write(`${JSON.stringify({ file, ...found })}\n`)
    else if (firstBad === undefined) process.stdout.write(describe(file, found))
    else process.stdout.write(`${file}:${firstBad.line}: broken: ${firstBad.why}\n`)
    return firstBad === undefined
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    if (json) process.stdout.write(`${JSON.stringify({ file, error: why })}\n`)
    else process.stderr.write(`${file}: cannot be read: ${why}\n`)
    return false
  }
}

function describe(file: string, { records, last, hasHead }: AuditVerification): string {
  const end = last === undefined ? '' : `  last record: ${last}, to be kept elsewhere for --last\n`
  const unsure = hasHead
    ? ''
    : `  no ${file}.head: whether records are missing at the end cannot be told\n`
  return `${file}: ${records} records, whole\n${end}${unsure}`
}
