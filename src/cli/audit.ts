import { parseArgs } from 'node:util'
import { verifyAuditFile } from '../adapters/file-audit-sink.ts'

const HELP = `Usage: fhirewall audit verify FILE… [--json]

Verifies that no record of an audit log was changed, added or removed.
Exit code: 0 whole, 1 broken or unreadable, 2 wrong usage.

  --json   one JSON object a file: {"file", "records", "firstBad": {"line", "why"}}
  --help   this text
`

/** `fhirewall audit verify FILE…` (AUD-9). Gives the exit code. */
export async function audit(args: string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
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
    if (!(await report(file, parsed.values.json === true))) code = 1
  }
  return code
}

async function report(file: string, json: boolean): Promise<boolean> {
  try {
    const found = await verifyAuditFile(file)
    const { records, firstBad } = found
    if (json) process.stdout.write(`${JSON.stringify({ file, ...found })}\n`)
    else if (firstBad === undefined) process.stdout.write(`${file}: ${records} records, whole\n`)
    else process.stdout.write(`${file}:${firstBad.line}: broken: ${firstBad.why}\n`)
    return firstBad === undefined
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    if (json) process.stdout.write(`${JSON.stringify({ file, error: why })}\n`)
    else process.stderr.write(`${file}: cannot be read: ${why}\n`)
    return false
  }
}
