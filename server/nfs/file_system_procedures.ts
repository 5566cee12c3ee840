/**
 * Server, NFS: FSSTAT, FSINFO, PATHCONF (RFC 1813 §3.3.18 to §3.3.20).
 *
 * @module
 */
import {
  FSF3_CANSETTIME,
  FSF3_HOMOGENEOUS,
  FSF3_LINK,
  FSF3_SYMLINK,
  type FSINFO3args,
  type FSINFO3resok,
  type FSSTAT3args,
  type FSSTAT3resfail,
  type FSSTAT3resok,
  type PATHCONF3args,
  type PATHCONF3resok,
} from "../../storage/nfs/mod.ts";
import { toFattr3 } from "./attributes.ts";
import type { Operation } from "./nfs_call.ts";
import { wait } from "./steps.ts";

/** Reads and writes should begin and end at multiples of this many bytes: a page. */
const TRANSFER_MULTIPLE_BYTES = 4096;
/** The length of a directory listing that is best asked for. */
const LISTING_BYTES_PREFERRED = 64 * 1024;
const NANOSECONDS = 1_000_000_000;

/** FSSTAT (RFC 1813 §3.3.18). */
export const FSSTAT: Operation<FSSTAT3args, FSSTAT3resok, FSSTAT3resfail> = {
  *ok({ fsroot }, call) {
    const status = yield* wait(call.fileSystem.status(fsroot, call.as));
    return {
      obj_attributes: yield* call.attributes(fsroot),
      tbytes: status.totalBytes,
      fbytes: status.freeBytes,
      abytes: status.availableBytes,
      tfiles: status.totalFiles,
      ffiles: status.freeFiles,
      afiles: status.availableFiles,
      invarsec: 0,
    };
  },
  *fail({ fsroot }, call) {
    return { obj_attributes: yield* call.attributes(fsroot) };
  },
};

/** FSINFO (RFC 1813 §3.3.19). */
export const FSINFO: Operation<FSINFO3args, FSINFO3resok, FSSTAT3resfail> = {
  *ok({ fsroot }, call) {
    const attributes = toFattr3(yield* wait(call.fileSystem.getAttributes(fsroot, call.as)));
    const { fileBytesMax, timeDeltaNanoseconds } = call.fileSystem.limits;
    const { transferBytesMax } = call;
    return {
      obj_attributes: attributes,
      rtmax: transferBytesMax,
      rtpref: transferBytesMax,
      rtmult: TRANSFER_MULTIPLE_BYTES,
      wtmax: transferBytesMax,
      wtpref: transferBytesMax,
      wtmult: TRANSFER_MULTIPLE_BYTES,
      dtpref: LISTING_BYTES_PREFERRED,
      maxfilesize: fileBytesMax,
      time_delta: {
        seconds: Math.floor(timeDeltaNanoseconds / NANOSECONDS),
        nseconds: timeDeltaNanoseconds % NANOSECONDS,
      },
      properties: FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME,
    };
  },
  *fail({ fsroot }, call) {
    return { obj_attributes: yield* call.attributes(fsroot) };
  },
};

/** PATHCONF (RFC 1813 §3.3.20). */
export const PATHCONF: Operation<PATHCONF3args, PATHCONF3resok, FSSTAT3resfail> = {
  *ok({ object }, call) {
    const attributes = toFattr3(yield* wait(call.fileSystem.getAttributes(object, call.as)));
    const { linkMax, nameBytesMax } = call.fileSystem.limits;
    return {
      obj_attributes: attributes,
      linkmax: linkMax,
      name_max: nameBytesMax,
      no_trunc: true,
      chown_restricted: true,
      case_insensitive: false,
      case_preserving: true,
    };
  },
  *fail({ object }, call) {
    return { obj_attributes: yield* call.attributes(object) };
  },
};
