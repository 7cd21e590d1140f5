import type { Permit } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { isLinked } from './chain.ts'
import { permitPage } from './pages.ts'
import type { Request } from './request.ts'

/**
 * A further page: the question it belongs to is decided again, with the scopes and policies of now,
 * and what comes back is judged like the first page. Only the address is upstream's own.
 */
export async function decidePaging(request: Request): Promise<Permit> {
  const { interaction } = request.inquiry
  const sealed = interaction.parameters.find(({ name }) => name === '_cursor')?.values
  if (sealed?.length !== 1 || interaction.parameters.length !== 1) {
    throw new Refusal('interaction-refused', { detail: 'a page link that is not ours' })
  }
  const cursor = request.cursors.open(sealed[0] ?? '')
  if (cursor === undefined) throw new Refusal('page-gone')
  const { asked, size, target, after } = cursor
  // Chains were answered for the first page; upstream's own address holds what they came to.
  const plain = asked.parameters.filter((parameter) => !isLinked(parameter))
  const { fields } = await request.again(
    target === undefined ? asked : { ...asked, parameters: plain },
  )
  const place = target === undefined ? { after } : { target, after }
  return permitPage({ ...fields, requested: asked }, request.cursors, asked, place, size)
}
