/** An object of a peer's words. */
export type Message = Readonly<Record<string, unknown>>;

/**
 * The objects that a peer of QMP says, up to the first thing that is none: from each brace to the first one after it that
 * makes it JSON. Knows nothing of how the package cuts them. `most`: characters of one.
 */
export function messagesOf(text: string, most: number): Message[] {
  const messages: Message[] = [];
  for (let at = 0; ; ) {
    while (' \t\r\n'.includes(text[at] ?? '.')) at++;
    const end = text[at] === '{' ? endOf(text, at, most) : undefined;
    if (end === undefined) return messages;
    messages.push(JSON.parse(text.slice(at, end)) as Message);
    at = end;
  }
}

function endOf(text: string, from: number, most: number): number | undefined {
  for (let end = text.indexOf('}', from) + 1; end > 0 && end - from <= most; end = text.indexOf('}', end) + 1) {
    try {
      JSON.parse(text.slice(from, end));
      return end;
    } catch {
      // It ends later.
    }
  }
  return undefined;
}
