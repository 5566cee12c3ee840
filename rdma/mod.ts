/**
 * RDMA verbs over software iWARP: no adapter, no kernel module, no root.
 *
 * @example Write into the memory of another process
 * ```ts
 * import { Access, Device } from "./mod.ts";
 *
 * await using device = Device.open();
 * const pd = device.allocateProtectionDomain();
 * const target = pd.allocate(4096, Access.RemoteWrite);
 * await using listener = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd }) });
 *
 * await using qp = await device.connect({ hostname: "127.0.0.1", port: listener.port, pd });
 * const source = pd.register(new TextEncoder().encode("straight into place"));
 * await qp.write([source.sge()], target);
 * ```
 *
 * @module
 */
export { CONNECTION_COUNTERS, COUNTERS } from "./_ffi/layout.ts";
export { Device } from "./device.ts";
export type { ConnectOptions, DeviceCounters, DeviceOptions } from "./device.ts";
export { AsyncEvents } from "./async_events.ts";
export type { AsyncEvent, AsyncEventType } from "./async_events.ts";
export { ConnectionRequest, Listener } from "./listener.ts";
export type { Congestion, ListenOptions, StartupOptions } from "./listener.ts";
export { ProtectionDomain } from "./protection_domain.ts";
export type { AllocationOptions } from "./protection_domain.ts";
export { Access, findRegion, MemoryRegion, MemoryWindow } from "./memory_region.ts";
export type { AddressingOptions, AssociationOptions, LocalMemory, Registration } from "./memory_region.ts";
export { ADVERTISEMENT_BYTES, decodeAdvertisement, encodeAdvertisement, RemoteBuffer } from "./advertisement.ts";
export { BufferPool } from "./buffer_pool.ts";
export type { PooledBuffer } from "./buffer_pool.ts";
export { Connection } from "./connection.ts";
export type {
  Completed,
  CompletionStatus,
  ConnectionCounters,
  ConnectionFacts,
  QueuePairState,
  WorkCompletion,
} from "./connection.ts";
export { QueuePair } from "./queue_pair.ts";
export type {
  AtomicWork,
  InlineOptions,
  LocalSge,
  MemoryWork,
  Queues,
  RemoteMemory,
  Sge,
  TransferRequest,
  WorkRequest,
  WorkRequestOptions,
} from "./queue_pair.ts";
export { Stream } from "./stream.ts";
export type { PollingOptions } from "./pump.ts";
export { CompletionQueue } from "./completion_queue.ts";
export type { CompletionQueueOptions, Moderation, QueuedCompletion } from "./completion_queue.ts";
export { SharedReceiveQueue } from "./shared_receive_queue.ts";
export type { Received, SharedReceiveQueueOptions } from "./shared_receive_queue.ts";
export { describeTerminate, RDMA_ERROR_CODES, RdmaError } from "./errors.ts";
export type { RdmaErrorCode, TerminateInfo } from "./errors.ts";
