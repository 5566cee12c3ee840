/**
 * A server that has been idle for a while, and then throws in `onRequest`: it is to end, saying why.
 *
 * @module
 */
import { Device } from "../mod.ts";

if (import.meta.main) {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  let requests = 0;
  const listener = device.listen({
    port: 0,
    onRequest: (request) => {
      if (requests++ > 0) throw new Error("the application's own error");
      void request.accept({ pd });
    },
  });
  const there = { hostname: "127.0.0.1", port: listener.port, pd };
  await device.connect(there);
  // from then on what comes is told of by the pipe
  await new Promise((resolve) => setTimeout(resolve, 500));
  await device.connect(there);
  await new Promise((resolve) => setTimeout(resolve, 5000));
}
