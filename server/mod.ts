/**
 * Serve files by NFSv3 over RDMA and TCP.
 *
 * @module
 */
export { CONNECTIONS_MAX } from "./connections.ts";
export type { DispatcherOptions } from "./dispatcher.ts";
export { ANONYMOUS_GID, ANONYMOUS_UID, Export, type ExportOptions } from "./exports.ts";
export { PORTMAPPER_PORT, PortmapperError } from "./portmapper.ts";
export { DEFAULT_PORT, NfsServer, serve, type ServeOptions } from "./server.ts";
