/**
 * Medians, ratios and targets, as a table.
 *
 * @module
 */

/** One line of the report. */
export interface Row {
  name: string;
  unit: "GB/s" | "µs" | "ns" | "s" | "s/GB" | "%" | "bytes" | "KiB" | "/s";
  /** NaN where it could not be measured. */
  ours: number;
  /** What it is measured against, and its figure. */
  against?: { name: string; value: number };
  /** What `ours / against` (or `ours` itself) must at least, or at most, be. */
  target?: { atLeast?: number; atMost?: number };
}

/** The middle of some figures. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of every field over several rounds. A field that some round lacks is left out. */
export function medians<T extends object>(rounds: readonly T[]): T {
  const names = Object.keys(rounds[0]) as (keyof T)[];
  const whole = names.filter((name) => rounds.every((round) => typeof round[name] === "number"));
  return Object.fromEntries(whole.map((name) => [name, median(rounds.map((round) => round[name] as number))])) as T;
}

/** `ours` over what it is measured against; `undefined` where one of them is not there. */
export function ratio(row: Row): number | undefined {
  const value = row.ours / (row.against?.value ?? NaN);
  return Number.isNaN(value) ? undefined : value;
}

/** Whether a row's target is met; `undefined` where it has none. */
export function meetsTarget(row: Row): boolean | undefined {
  if (row.target === undefined) return undefined;
  const value = ratio(row) ?? row.ours;
  return value >= (row.target.atLeast ?? -Infinity) && value <= (row.target.atMost ?? Infinity);
}

/** The rows as aligned text. */
export function formatTable(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const { target } = row;
    const isMet = meetsTarget(row);
    return [
      row.name,
      formatFigure(row.ours, row.unit),
      row.against === undefined ? "" : `${formatFigure(row.against.value, row.unit)} (${row.against.name})`,
      ratio(row)?.toFixed(2) ?? "",
      target === undefined ? "" : target.atLeast === undefined ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`,
      isMet === undefined ? "" : isMet ? "met" : "MISSED",
    ];
  });
  const lines = [["", "ours", "against", "ratio", "target", ""], ...cells];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()).join("\n");
}

function formatFigure(value: number, unit: Row["unit"]): string {
  if (Number.isNaN(value)) return "-";
  if (unit === "bytes") return `${value} bytes`;
  return `${value.toFixed(unit === "s/GB" ? 3 : value < 10 ? 2 : 1)} ${unit}`;
}
