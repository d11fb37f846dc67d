import type { Socket } from 'node:net';

/** The longest line; a longer one ends the connection. */
const MAX_LINE = 1024 * 1024;

/** Calls `line` for each whole line that comes. */
export function onLines(socket: Socket, line: (text: string) => void): void {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const whole of lines) line(whole);
    if (text.length > MAX_LINE) socket.destroy(new Error(`a line of more than ${MAX_LINE} characters`));
  });
}
