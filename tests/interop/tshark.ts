/**
 * tshark, an independent decoder: captures on the loopback interface, and what it says of them.
 *
 * It follows FPDUs only where TCP segments begin with one, which holds as long as what is sent at once fits a segment.
 *
 * @module
 */
import { findExecutable } from "../../rdma/_ffi/toolchain.ts";
import { pause } from "./guest.ts";
import type { Report } from "./main.ts";

/** What a capture must hold: a display filter, and how many frames of it at the least. */
export interface Expectation {
  name: string;
  filter: string;
  framesMin: number;
}

/** Finds tshark. Where there is none, a test of this name is reported as skipped. */
export async function findTshark(name: string, report: Report): Promise<string | undefined> {
  const tshark = await findExecutable("tshark");
  if (tshark === undefined) {
    report({ name, outcome: "skipped", detail: "tshark is not installed (Debian: apt install tshark)" });
  }
  return tshark;
}

/** Captures the loopback interface, from when this resolves until it is told to stop. `filter`: what to capture, in pcap's language. */
export async function startCapture(tshark: string, file: string, filter: string): Promise<{ stop(): Promise<void> }> {
  // full frames and a large buffer: a capture with gaps would be judged unjustly
  const capturing = new Deno.Command(tshark, {
    args: ["-i", "lo", "-f", filter, "-s", "0", "-B", "256", "-q", "-w", file],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const said = new Response(capturing.stderr).text();
  const isThere = () => Deno.stat(file).then((info) => info.size > 0, () => false);
  for (let tries = 0; !await isThere(); tries++) {
    if (tries === 100) {
      capturing.kill("SIGKILL");
      throw new Error(`tshark does not capture: ${await said}`);
    }
    await pause(100);
  }
  await pause(300);
  return {
    async stop() {
      await pause(500);
      capturing.kill("SIGINT");
      await capturing.status;
    },
  };
}

/** How a capture is judged. */
export interface Judgement {
  /** What it is of. */
  label: string;
  expectations: readonly Expectation[];
  /** What to leave out of tshark's complaints, as `" && !(…)"`. */
  unjust?: string;
  /** Protocols that it is not to take payload for. */
  without?: readonly string[];
  report: Report;
}

/** Captures what `body` does over some ports of the loopback interface, and judges that. Without tshark, which is reported as skipped, `body` is carried out alone. */
export async function captureAndJudge(
  ports: readonly number[],
  judgement: Judgement,
  body: () => Promise<void>,
): Promise<void> {
  const tshark = await findTshark(`tshark (${judgement.label})`, judgement.report);
  if (tshark === undefined) return await body();
  const directory = await Deno.makeTempDir({ prefix: "weft-capture-" });
  try {
    const file = `${directory}/capture.pcapng`;
    const capturing = await startCapture(tshark, file, ports.map((port) => `tcp port ${port}`).join(" or "));
    await body().finally(() => capturing.stop());
    await judge(tshark, file, judgement);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Reports whether a capture is whole and well, and holds what it must. */
export async function judge(
  tshark: string,
  file: string,
  { label, expectations, unjust = "", without = [], report }: Judgement,
): Promise<void> {
  const options = without.flatMap((protocol) => ["--disable-protocol", protocol]);
  const noTrouble = [
    { name: "no malformed frame", filter: `_ws.malformed${unjust}` },
    { name: "no error that its experts see", filter: `_ws.expert.severity == error${unjust}` },
    { name: "the capture lost nothing", filter: "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment" },
  ];
  for (const { name, filter } of noTrouble) {
    const frames = await framesMatching(tshark, file, filter, options);
    report({
      name: `tshark (${label}): ${name}`,
      outcome: frames.length === 0 ? "ok" : "failed",
      detail: frames.slice(0, 10).join("\n"),
    });
  }
  const bad = await badChecksums(tshark, file);
  report({
    name: `tshark (${label}): no bad CRC`,
    outcome: bad.length === 0 ? "ok" : "failed",
    detail: bad.slice(0, 10).join("\n"),
  });
  for (const { name, filter, framesMin } of expectations) {
    const { length } = await framesMatching(tshark, file, filter, options);
    const detail = `${length} frames match ${filter}, instead of ${framesMin} at the least`;
    report({ name: `tshark (${label}): it sees ${name}`, outcome: length >= framesMin ? "ok" : "failed", detail });
  }
}

/** What tshark says of the CRCs that are not right. */
async function badChecksums(tshark: string, file: string): Promise<string[]> {
  const { success, stdout } = await new Deno.Command(tshark, { args: ["-r", file, "-O", "iwarp_mpa"] }).output();
  if (!success) throw new Error("tshark cannot read the capture");
  return new TextDecoder().decode(stdout).split("\n").filter((line) =>
    line.includes("CRC check:") && !line.includes("(Good CRC32)")
  );
}

/** The frames of a capture that a display filter lets through, a line each. */
export async function framesMatching(
  tshark: string,
  file: string,
  filter: string,
  options: readonly string[] = [],
): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command(tshark, {
    args: [...options, "-r", file, "-Y", filter],
  }).output();
  if (!success) throw new Error(`tshark cannot read the capture with ${filter}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
}
