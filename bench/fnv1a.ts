/** FNV-1a, 32 bits, over UTF-8: how the training scripts of the zoo divide what is held out from the rest. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
