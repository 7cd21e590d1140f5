import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { ConfigError, formatProblem, loadConfig } from '../config/load.ts'

/** One subcommand: takes its own arguments, prints, and gives the exit code of the process. */
export type Command = (args: string[]) => Promise<number>

export const EXIT = { ok: 0, failed: 1, usage: 2 } as const

/** The command line was wrong: printed with a hint, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

type Options = NonNullable<ParseArgsConfig['options']>

/** The options every command takes. */
export const HELP = { help: { type: 'boolean', short: 'h' } } as const satisfies Options

/** Reads options strictly. Throws {@link UsageError} for an unknown option or a stray argument. */
export function parseOptions<T extends Options>(args: string[], options: T) {
  try {
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}

/** Writes a line for people to read. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Writes a line about trouble. */
export function warn(line: string): void {
  process.stderr.write(`${line}\n`)
}

/**
 * Loads the configuration for a command that cannot go on without one: prints every problem and
 * returns undefined when there is any.
 */
export function loadOrExplain(file: string | undefined): ReturnType<typeof loadConfig> | undefined {
  try {
    return loadConfig({ file, env: process.env })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    for (const problem of error.problems) warn(formatProblem(problem))
    warn(countProblems(error.problems.length))
    return undefined
  }
}

/** `3 problems`. */
export function countProblems(count: number): string {
  return count === 1 ? '1 problem' : `${count} problems`
}
