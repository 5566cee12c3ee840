/**
 * A Worker that never closes its device: it listens, and tells who connects of an array of its own that may be read and written.
 *
 * @module
 */
import { Access, Device, encodeAdvertisement } from "../mod.ts";

const device = Device.open();
const pd = device.allocateProtectionDomain();
const region = pd.register(new Uint8Array(1 << 20), Access.RemoteRead | Access.RemoteWrite);
const listener = device.listen({
  port: 0,
  onRequest: (request) => void request.accept({ pd, privateData: encodeAdvertisement(region) }),
});
(self as unknown as { postMessage(port: number): void }).postMessage(listener.port);
