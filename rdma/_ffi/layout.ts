/**
 * Layouts shared with the engine: the completion ring (`ring.rs`), work requests and connection facts (`abi.rs`). All words are 32 bits wide, in the machine's byte order.
 *
 * @module
 */

/** Word of the ring that holds the producer's count. */
export const RING_TAIL_WORD = 0;
/** Word of the ring that holds the consumer's count. */
export const RING_HEAD_WORD = 16;
/** Words in front of the ring's entries. */
export const RING_HEADER_WORDS = 32;
/** Words of an entry: tag, kind, status, slot, bytes, detail, aux low, aux high. */
export const RING_ENTRY_WORDS = 8;

/** What a ring entry tells. */
export const EntryKind = {
  Send: 1,
  Receive: 2,
  Established: 3,
  Request: 4,
  Stream: 5,
  Closed: 6,
  Immediate: 7,
  Limit: 8,
  Ready: 9,
  Port: 10,
} as const;

/** Words of a work request in front of its elements: opcode and flags and count, slot, STag, STag to invalidate, offset low, offset high. */
export const WORK_WORDS = 6;
/** Words of an element: STag, length, address low, address high. */
export const SGE_WORDS = 4;
/** Elements of a scatter/gather list at the most. */
export const SGES_MAX = 1024;
/** Opcodes of a work request. */
export const WorkOpcode = {
  Receive: 0,
  Send: 1,
  Write: 2,
  Read: 3,
  FetchAdd: 4,
  Swap: 5,
  CmpSwap: 6,
  Immediate: 7,
  Activate: 8,
  Invalidate: 9,
} as const;
/** Words of an atomic operation's operands, behind its element: data, mask, compare, compare mask, each low and high. */
export const ATOMIC_WORDS = 8;
/** Flags of a work request. */
export const WorkFlag = {
  Signalled: 1,
  Invalidate: 2,
  Solicited: 4,
  Fence: 8,
  InvalidateSink: 16,
  Inline: 32,
} as const;
/** The most payload of a work request that is copied when it is posted; its element count is that of its bytes then. */
export const INLINE_MAX = 256;

/**
 * Words of connection settings: stream, crc, pd, IRD, ORD, peer-to-peer, revision, handle of a shared receive queue low and high, flags, MULPDU (or
 * {@linkcode MULPDU_SEGMENT}), congestion control, time to connect and for the MPA reply in milliseconds; for the send queue and for receives the number of the
 * completion queue and its moderation, count and period in microseconds.
 */
export const SETTINGS_WORDS = 20;
/** The word of settings for ULPDUs that fill one segment of TCP's. */
export const MULPDU_SEGMENT = 1;
/** Words of a listener's limits: time for requests, peers at start-up at once, refused accesses to memory, time for which those count; times in milliseconds. */
export const LIMITS_WORDS = 4;
/** Flags of connection settings. */
export const SettingsFlag = { SolicitedOnly: 1, Markers: 2 } as const;
/** The word of settings for peer-to-peer mode, by the ready-to-receive message. */
export const PeerToPeer = { no: 0, any: 1, send: 3, write: 4, read: 5 } as const;
/** Congestion controls, by their word of settings. */
export const CONGESTIONS = ["suitable", "system", "cubic", "reno", "bbr", "dctcp"] as const;
/** Flags beside the access of memory that is registered or bound. */
export const MemoryFlag = {
  Inactive: 1 << 8,
  Reregister: 1 << 9,
  ZeroBased: 1 << 10,
  HugePages: 1 << 11,
  Volatile: 1 << 12,
  Reserved: 1 << 13,
} as const;
/** Bytes of connection facts: 8 words, two addresses as text of 64 bytes, private data of 512, the name of a congestion control of 16. */
export const FACTS_BYTES = 32 + 64 + 64 + 512 + 16;

/** Names of a connection's counters that are its own alone; a device counts the same by other means. */
const FPDU_COUNTERS = ["fpdusSent", "fpdusReceived"] as const;
/** Names of what connections have done, which a device has the sums of. */
const TALLY = [
  "wireBytesSent",
  "wireBytesReceived",
  "sends",
  "writes",
  "reads",
  "atomics",
  "immediates",
  "memoryOperations",
  "receives",
  "writesReceived",
  "readsServed",
  "atomicsServed",
  "flushed",
] as const;
/** Names of a connection's counters, in the order in which `weft_connection_counters` writes them. */
export const CONNECTION_COUNTERS = [...FPDU_COUNTERS, ...TALLY] as const;

/** Names of the device's counters, in the order in which `weft_counters` writes them. */
export const COUNTERS = [
  "bytesPlaced",
  "bytesStaged",
  "bytesStagedLarge",
  "bytesSent",
  "bytesInlined",
  "fpdusSent",
  "fpdusReceived",
  "receiveCalls",
  "sendCalls",
  "epollCalls",
  "wakeups",
  "backgroundTurns",
  "connections",
  "terminatesSent",
  "terminatesReceived",
  "protectionErrors",
  "startupFailures",
  "startupsDisplaced",
  "connectionsRefused",
  "panics",
  "regions",
  "liveConnections",
  ...TALLY,
] as const;
