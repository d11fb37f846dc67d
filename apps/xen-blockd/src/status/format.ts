const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes for a person: `33.5 MiB`. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${bytes.toFixed(1)} ${UNITS[unit]}`;
}

/** Rows as text columns: the first to the left, the others to the right. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const align = (text: string, column: number) =>
    column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]);
  return rows.map((row) => `  ${row.map(align).join('  ')}`).join('\n');
}
