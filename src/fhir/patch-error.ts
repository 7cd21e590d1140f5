/** A patch that cannot be read or does not apply; `reason` is a key of the refusal table. */
export class PatchError extends Error {
  override readonly name = 'PatchError'
  readonly reason: 'body-malformed' | 'body-rule-broken' | 'media-type-unsupported'

  /** The message goes to logs only and never holds text of the patch. */
  constructor(reason: PatchError['reason'], message: string) {
    super(message)
    this.reason = reason
  }
}
