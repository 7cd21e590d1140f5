/**
 * The same function of a text, which recalls what it made of those that come again: of `most` at once, and
 * of none longer than `longest` UTF-16 units. When it is full it begins anew, so that a crowd of others does
 * not grow it for ever. What is made, never undefined, is shared by all who ask; what throws is asked again.
 */
export function recall<Made, Text extends string = string>(
  make: (text: Text) => Made,
  { most, longest = Infinity }: { readonly most: number; readonly longest?: number },
): (text: Text) => Made {
  const known = new Map<Text, Made>()
  return (text) => {
    const found = known.get(text)
    if (found !== undefined) return found
    const made = make(text)
    if (text.length > longest) return made
    if (known.size >= most) known.clear()
    known.set(text, made)
    return made
  }
}
