/**
 * Conformance of an NFSv3 server: every area, for any subject.
 *
 * @module
 */
import { testAttributes } from "./attributes.ts";
import { testCalling } from "./calling.ts";
import { testCreating } from "./creating.ts";
import { testData } from "./data.ts";
import { testExporting } from "./exporting.ts";
import { testFileSystem } from "./file_system.ts";
import { testHandles } from "./handles.ts";
import { testListing } from "./listing.ts";
import { testMounting } from "./mounting.ts";
import { testNames } from "./names.ts";
import { testRemoving } from "./removing.ts";
import type { Subject } from "./subject.ts";

/** Registers every test for a subject. */
export function testNfs3(subject: Subject): void {
  testAttributes(subject);
  testNames(subject);
  testData(subject);
  testCreating(subject);
  testRemoving(subject);
  testListing(subject);
  testFileSystem(subject);
  testHandles(subject);
  testExporting(subject);
  testMounting(subject);
  testCalling(subject);
}
