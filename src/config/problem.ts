/** One thing wrong with the configuration, and where. Never holds the value of a setting. */
export type Problem = {
  /** The YAML file, when the fault stands there. */
  readonly file?: string
  /** From 1; 0 when the fault is in no line (the file cannot be read, or comes from a variable). */
  readonly line: number
  /** From 1; 0 as above. */
  readonly column: number
  /** The environment variable, when the fault is there. */
  readonly variable?: string
  readonly message: string
}

/** The configuration cannot be used. Holds every problem found, not only the first. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join('\n'))
    this.problems = problems
  }
}

/** `file:line:column message`, or `VARIABLE: message`. */
export function formatProblem(problem: Problem): string {
  if (problem.variable !== undefined) return `${problem.variable}: ${problem.message}`
  if (problem.file === undefined) return problem.message
  if (problem.line === 0) return `${problem.file}: ${problem.message}`
  return `${problem.file}:${problem.line}:${problem.column} ${problem.message}`
}

/** Edits between two words (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const change = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}

/** `; did you mean "x"?` for the nearest known word, or '' when none is near. */
export function suggest(word: string, known: readonly string[]): string {
  const limit = Math.max(2, Math.floor(word.length / 4))
  let best: { word: string; edits: number } | undefined
  for (const candidate of known) {
    const edits = distance(word.toLowerCase(), candidate.toLowerCase())
    if (edits <= limit && edits < (best?.edits ?? Infinity)) best = { word: candidate, edits }
  }
  return best === undefined ? '' : `; did you mean "${best.word}"?`
}
