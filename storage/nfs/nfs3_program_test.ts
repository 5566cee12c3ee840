import { assertEquals, assertThrows } from "@std/assert";
import { decode, encode, flatten, type XdrType } from "../../rpc/xdr/mod.ts";
import { MOUNT3, mountres3 } from "./mount3.ts";
import * as nfs3 from "./nfs3_procedures.ts";
import {
  listingResultsBytesMax,
  NFS3,
  READ_PLACEMENT,
  READLINK_PLACEMENT,
  type ResultsPlacement,
} from "./nfs3_program.ts";
import { errnoOfStatus, NfsError, nfsstat3, statusOfErrno } from "./nfs3_status.ts";
import { type fattr3, ftype3, type post_op_attr } from "./nfs3_types.ts";

const time = { seconds: 1, nseconds: 2 };
const attributes: fattr3 = {
  type: ftype3.NF3REG,
  mode: 0o644,
  nlink: 1,
  uid: 2,
  gid: 3,
  size: 4n,
  used: 5n,
  rdev: { specdata1: 6, specdata2: 7 },
  fsid: 8n,
  fileid: 9n,
  atime: time,
  mtime: time,
  ctime: time,
};
const data = new TextEncoder().encode("contents");

function read(file_attributes: post_op_attr): Uint8Array {
  const value = { file_attributes, count: data.byteLength, eof: true, data: [data] };
  return flatten(encode(nfs3.READ3res, { status: nfsstat3.NFS3_OK, value }));
}

function readLink(symlink_attributes: post_op_attr): Uint8Array {
  return flatten(encode(nfs3.READLINK3res, { status: nfsstat3.NFS3_OK, value: { symlink_attributes, data: [data] } }));
}

function located(placement: ResultsPlacement, results: Uint8Array): Uint8Array | undefined {
  const at = placement.locate(results.subarray(0, placement.headBytes));
  return at && results.subarray(at.offset, at.offset + at.length);
}

Deno.test("placement: the encoder puts the contents where READ_PLACEMENT and READLINK_PLACEMENT find them", () => {
  assertEquals([READ_PLACEMENT.headBytes, READLINK_PLACEMENT.headBytes], [104, 96]);
  for (const attr of [attributes, undefined]) {
    assertEquals(located(READ_PLACEMENT, read(attr)), data);
    assertEquals(located(READLINK_PLACEMENT, readLink(attr)), data);
  }
});

Deno.test("placement: nothing is located in a failure, nor in results that are cut", () => {
  const failed = encode(nfs3.READ3res, { status: nfsstat3.NFS3ERR_IO, value: { file_attributes: attributes } }).bytes;
  assertEquals(READ_PLACEMENT.locate(failed), undefined);
  const whole = read(attributes);
  for (let length = 0; length < READ_PLACEMENT.headBytes; length++) {
    assertEquals(READ_PLACEMENT.locate(whole.subarray(0, length)), undefined);
  }
});

Deno.test("placement: an empty READ has its place too", () => {
  const value = { file_attributes: undefined, count: 0, eof: true, data: [] };
  const results = flatten(encode(nfs3.READ3res, { status: nfsstat3.NFS3_OK, value }));
  assertEquals(READ_PLACEMENT.locate(results), { offset: 20, length: 0 });
});

Deno.test("NFS3, MOUNT3: numbers are the RFC's, and every size is bounded", () => {
  const procedures = Object.values(NFS3.procedures);
  assertEquals(procedures.map(({ number }) => number), [...Array(22).keys()]);
  assertEquals(Object.values(MOUNT3.procedures).map(({ number }) => number), [...Array(6).keys()]);
  for (const { args, resultsBytesMax } of [...procedures, ...Object.values(MOUNT3.procedures)]) {
    assertEquals([Number.isFinite(args.bytesMax), Number.isFinite(resultsBytesMax)], [true, true]);
  }
  assertEquals([NFS3.number, NFS3.version, MOUNT3.number, MOUNT3.version], [100003, 3, 100005, 3]);
});

Deno.test("NFS3: what changes names or attributes is not idempotent, all else is", () => {
  const not = Object.entries(NFS3.procedures).filter(([, { idempotent }]) => !idempotent).map(([name]) => name);
  assertEquals(not, ["SETATTR", "CREATE", "MKDIR", "SYMLINK", "MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK"]);
});

Deno.test("sizes: fixed results take exactly their bound", () => {
  const wcc = { before: { size: 1n, mtime: time, ctime: time }, after: attributes };
  const exact = <T>(type: XdrType<T>, value: T): void =>
    assertEquals(encode(type, value).bytes.byteLength, type.bytesMax);
  exact(nfs3.GETATTR3res, { status: nfsstat3.NFS3_OK, value: { obj_attributes: attributes } });
  exact(nfs3.SETATTR3res, { status: nfsstat3.NFS3ERR_PERM, value: { obj_wcc: wcc } });
  exact(nfs3.RENAME3res, { status: nfsstat3.NFS3_OK, value: { fromdir_wcc: wcc, todir_wcc: wcc } });
  exact(nfs3.WRITE3res, {
    status: nfsstat3.NFS3_OK,
    value: { file_wcc: wcc, count: 1, committed: nfs3.stable_how.UNSTABLE, verf: new Uint8Array(8) },
  });
  assertEquals(listingResultsBytesMax(4096), 4 + 88 + 8 + 4096);
  assertEquals(listingResultsBytesMax(0), 4 + 88 + 8);
});

Deno.test("unions: results are told apart by their status; arms that are not there are refused", () => {
  const failed: nfs3.GETATTR3res = { status: nfsstat3.NFS3ERR_STALE };
  assertEquals(decode(nfs3.GETATTR3res, encode(nfs3.GETATTR3res, failed).bytes).status, nfsstat3.NFS3ERR_STALE);
  assertThrows(() => decode(nfs3.GETATTR3res, Uint8Array.of(0, 0, 0, 3)), Error, "not a member");
  assertThrows(() => decode(nfs3.createhow3, Uint8Array.of(0, 0, 0, 3)), Error, "not a member");
  assertEquals(decode(nfs3.mknoddata3, Uint8Array.of(0, 0, 0, 1)).type, ftype3.NF3REG);
  assertEquals(decode(mountres3, Uint8Array.of(0, 0, 0, 13)).fhs_status, 13);
});

Deno.test("nfsstat3: every status has an errno that leads back to it", () => {
  for (const [name, status] of Object.entries(nfsstat3)) {
    if (typeof status !== "number" || status === nfsstat3.NFS3_OK || name === "bytesMax") continue;
    const failure = status as NfsError["status"];
    // A guard that fails is EAGAIN, as is a server that is busy; only SETATTR can tell the first from the second.
    if (failure !== nfsstat3.NFS3ERR_NOT_SYNC) assertEquals(statusOfErrno(errnoOfStatus(failure)), failure, name);
    assertEquals(new NfsError(failure).message.startsWith(`${name}: `), true);
  }
  assertEquals(errnoOfStatus(nfsstat3.NFS3ERR_NOT_SYNC), "EAGAIN");
  assertEquals(statusOfErrno("EOPNOTSUPP"), nfsstat3.NFS3ERR_NOTSUPP);
  assertEquals(statusOfErrno("E_UNHEARD_OF"), nfsstat3.NFS3ERR_IO);
});
