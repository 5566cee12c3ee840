/**
 * How the clients of measurements connect.
 *
 * @module
 */
import { CommandError } from "../command_line.ts";
import type { ConnectOptions, Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import type { QueuePair } from "../queue_pair.ts";

/** Connects. What is out of range then is a congestion control that the system has not got: the command line has seen to all the rest. */
export async function connect(device: Device, options: ConnectOptions): Promise<QueuePair> {
  try {
    return await device.connect(options);
  } catch (error) {
    if (!(error instanceof RdmaError) || error.code !== "Invalid") throw error;
    throw new CommandError(`this system has no congestion control '${options.congestion}'`, { cause: error });
  }
}
