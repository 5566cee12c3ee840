/**
 * How the commands write names, sizes, modes and times.
 *
 * @module
 */

const unitLetters = ["", "K", "M", "G", "T", "P", "E"];

/** Bytes for people, as `ls -h` and `df -h` write them: "512", "1.5K", "22G"; rounded up. */
export function formatSize(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < unitLetters.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return String(value);
  const tenths = Math.ceil(value * 10) / 10;
  if (tenths < 10) return tenths.toFixed(1) + unitLetters[unit];
  const whole = Math.ceil(value);
  return whole === 1024 && unit < unitLetters.length - 1 ? `1.0${unitLetters[unit + 1]}` : whole + unitLetters[unit];
}

/** A rate in bytes a second, with decimal units: "1.2 GB/s". */
export function formatRate(bytesPerSecond: number): string {
  let value = bytesPerSecond;
  let unit = 0;
  const units = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds as "0:07", "12:34" or "1:02:03". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const pad = (part: number) => String(part).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

const typeLetters: Record<number, string> = {
  0o140000: "s",
  0o120000: "l",
  0o100000: "-",
  0o060000: "b",
  0o040000: "d",
  0o020000: "c",
  0o010000: "p",
};

/** A mode with its type bits as `ls -l` shows it: "drwxr-xr-x". */
export function formatMode(mode: number): string {
  const triple = (bits: number, special: boolean, letter: string) => {
    const execute = (bits & 1) !== 0;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return (bits & 4 ? "r" : "-") + (bits & 2 ? "w" : "-") + last;
  };
  return (typeLetters[mode & 0o170000] ?? "?") +
    triple(mode >> 6, (mode & 0o4000) !== 0, "s") +
    triple(mode >> 3, (mode & 0o2000) !== 0, "s") +
    triple(mode, (mode & 0o1000) !== 0, "t");
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const HALF_YEAR_MS = 365.2425 * 86400_000 / 2;

/** A time as `ls -l` shows it: with the hour where it is of the last half year, else with the year. */
export function formatListTime(time: Date, now: Date): string {
  const pad = (part: number) => String(part).padStart(2, "0");
  const day = `${months[time.getMonth()]} ${String(time.getDate()).padStart(2)}`;
  const age = now.getTime() - time.getTime();
  if (age >= 0 && age < HALF_YEAR_MS) return `${day} ${pad(time.getHours())}:${pad(time.getMinutes())}`;
  return `${day}  ${time.getFullYear()}`;
}

/** A time in full, in the local time zone: "2026-01-02 03:04:05.123456789 +0100". */
export function formatFullTime(time: Date, nanoseconds: number): string {
  const pad = (part: number, width = 2) => String(part).padStart(width, "0");
  const offset = -time.getTimezoneOffset();
  const zone = (offset < 0 ? "-" : "+") + pad(Math.floor(Math.abs(offset) / 60)) + pad(Math.abs(offset) % 60);
  return `${pad(time.getFullYear(), 4)}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ` +
    `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(nanoseconds, 9)} ${zone}`;
}

// Control characters, and what the terminal would take for one in 8-bit mode.
const controls = /\p{Cc}/gu;

/** A name for a terminal: what a server named a file must not steer the terminal. */
export function forTerminal(name: string): string {
  return name.replace(controls, "?").replace(/[\udc80-\udcff]/gu, "?");
}

/** A name in single quotes for a message, as coreutils quotes: `'it'\''s'`, `'a'$'\n''b'`. */
export function quote(name: string): string {
  const text = name.replaceAll("'", "'\\''").replace(/(?:\p{Cc}|[\udc80-\udcff])+/gu, (run) => {
    let escapes = "";
    for (let at = 0; at < run.length; at++) {
      const code = run.charCodeAt(at);
      const known: Record<number, string> = { 9: "\\t", 10: "\\n", 13: "\\r" };
      escapes += known[code] ?? `\\${(code & 0xff).toString(8).padStart(3, "0")}`;
    }
    return `'$'${escapes}''`;
  });
  return `'${text}'`;
}
