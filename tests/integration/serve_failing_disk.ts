/**
 * `weft serve` on a disk that takes what it is given and fails whatever is to be on it for good: a filter of system calls
 * (seccomp) answers EIO to every flush and every synchronous write of this process. What a server acknowledges here, it has
 * not waited for.
 *
 * @module
 */
import { runServe } from "../../server/cli.ts";

/** Numbers of system calls. */
interface Calls {
  seccomp: bigint;
  flushes: readonly number[];
  pwritev2: number;
}

const CALLS: Partial<Record<typeof Deno.build.arch, Calls>> = {
  x86_64: { seccomp: 317n, flushes: [74, 75, 162, 306], pwritev2: 328 }, // fsync, fdatasync, sync, syncfs
  aarch64: { seccomp: 277n, flushes: [82, 83, 81, 267], pwritev2: 287 },
};

/** Why this machine cannot have such a disk; `undefined` where it can. */
export function whyNoFailingDisk(): string | undefined {
  if (CALLS[Deno.build.arch] === undefined) return `no system call numbers for ${Deno.build.arch}`;
  try {
    const actions = Deno.readTextFileSync("/proc/sys/kernel/seccomp/actions_avail").trim().split(" ");
    return actions.includes("errno") ? undefined : "the kernel's filters cannot answer";
  } catch {
    return "the kernel has no filters of system calls";
  }
}

/** From now on flushes and synchronous writes fail, on every thread that is there or comes. */
function failFlushes({ seccomp, flushes, pwritev2 }: Calls): void {
  const [LOAD, IF_EQUAL, IF_ANY, RETURN] = [0x20, 0x15, 0x45, 0x06];
  const [ALLOW, FAIL] = [0x7fff0000, 0x00050005]; // errno 5, EIO
  const [NUMBER_AT, FLAGS_AT] = [0, 16 + 5 * 8];
  const [RWF_DSYNC, RWF_SYNC] = [2, 4];
  // Code, jump where true, jump where false, operand.
  const program = [
    [LOAD, 0, 0, NUMBER_AT],
    ...flushes.map((number, at) => [IF_EQUAL, flushes.length - at + 3, 0, number]),
    [IF_EQUAL, 0, 2, pwritev2],
    [LOAD, 0, 0, FLAGS_AT],
    [IF_ANY, 1, 0, RWF_DSYNC | RWF_SYNC],
    [RETURN, 0, 0, ALLOW],
    [RETURN, 0, 0, FAIL],
  ];
  const filter = new DataView(new ArrayBuffer(program.length * 8));
  for (const [at, [code, whereTrue, whereFalse, operand]] of program.entries()) {
    filter.setUint16(at * 8, code, true);
    filter.setUint8(at * 8 + 2, whereTrue);
    filter.setUint8(at * 8 + 3, whereFalse);
    filter.setUint32(at * 8 + 4, operand, true);
  }
  const header = new BigUint64Array([BigInt(program.length), address(filter.buffer as ArrayBuffer)]);
  const libc = Deno.dlopen("libc.so.6", {
    prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
    syscall: { parameters: ["u64", "u64", "u64", "buffer"], result: "i64" },
  });
  const [PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, EVERY_THREAD] = [38, 1n, 1n];
  const denied = libc.symbols.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n);
  const refused = libc.symbols.syscall(seccomp, SET_MODE_FILTER, EVERY_THREAD, header);
  if (denied !== 0 || refused !== 0n) throw new Error("the kernel does not take the filter");
}

function address(of: ArrayBuffer): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(of));
}

if (import.meta.main) {
  failFlushes(CALLS[Deno.build.arch]!);
  Deno.exit(await runServe(Deno.args.slice(1)));
}
