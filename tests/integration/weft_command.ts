/**
 * The `weft` command as a process, for tests that use it as people do.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";

/** How a command ended. */
export interface CommandResult {
  status: number;
  out: string;
  err: string;
}

/** Runs `weft` to its end. */
export async function weft(...args: string[]): Promise<CommandResult> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${ROOT}/main.ts`, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { status: code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** Starts `weft` and lets it run. */
export function startWeft(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${ROOT}/main.ts`, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}
