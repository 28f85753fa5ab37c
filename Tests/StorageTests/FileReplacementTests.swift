import Foundation
import Storage
import TestSupport
import Testing

@Suite struct FileReplacementTests {
  private func bytes(_ text: String) -> SharedBytes { SharedBytes(copying: Array(text.utf8)) }

  /// Starts a file that has no other writer.
  private func begin(_ path: String) throws -> AtomicFile {
    struct Busy: Error {}
    guard let file = try AtomicFile(path) else { throw Busy() }
    return file
  }

  private func contents(_ path: String) throws -> String {
    try String(decoding: Data(contentsOf: URL(filePath: path)), as: UTF8.self)
  }

  @Test func `replaces an existing file on finish, not before`() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("file", "old")
    let old = try SharedBytes(mapping: path)
    var file = try begin(path)
    try file.write(bytes("new "))
    try file.write(bytes("text"))
    #expect(try contents(path) == "old")
    try file.finish(modified: 1_000_000)
    #expect(try contents(path) == "new text")
    #expect(try SharedBytes(mapping: path).modificationTime == 1_000_000_000_000_000)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
    // A mapping of the replaced file stays valid.
    #expect(old.copy(0..<old.count) == Array("old".utf8))
  }

  @Test func `leaves no file if it is not finished`() throws {
    let folder = try TemporaryFolder()
    do {
      var file = try begin(folder.path("file"))
      try file.write(bytes("text"))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  @Test func `has one writer at a time`() throws {
    let folder = try TemporaryFolder()
    var first = try begin(folder.path("file"))
    let isTaken = try AtomicFile(folder.path("file")) == nil
    #expect(isTaken)
    try first.write(bytes("text"))
    try first.finish(modified: 1)
    let second = try AtomicFile(folder.path("file"))
    let isFree = second != nil
    #expect(isFree)
    #expect(try contents(folder.path("file")) == "text")
  }

  @Test func `overwrites the partial file of a killed process`() throws {
    let folder = try TemporaryFolder()
    try folder.write("file.partial", "a longer text than ours")
    var file = try begin(folder.path("file"))
    try file.write(bytes("text"))
    try file.finish(modified: 1)
    #expect(try contents(folder.path("file")) == "text")
  }

  @Test func `refuses symbolic links, hard links and folders`() throws {
    let folder = try TemporaryFolder()
    let other = try folder.write("other", "precious")
    let partial = folder.url.appending(path: "file.partial")
    let manager = FileManager.default
    try manager.createSymbolicLink(at: partial, withDestinationURL: folder.url.appending(path: "other"))
    #expect(throws: FileError.self) { _ = try AtomicFile(folder.path("file")) }
    try manager.removeItem(at: partial)
    try manager.linkItem(at: folder.url.appending(path: "other"), to: partial)
    #expect(throws: FileError.notAFile(path: partial.path)) { _ = try AtomicFile(folder.path("file")) }
    try manager.removeItem(at: partial)
    try manager.createDirectory(at: partial, withIntermediateDirectories: false)
    #expect(throws: FileError.self) { _ = try AtomicFile(folder.path("file")) }
    #expect(throws: FileError.self) { _ = try AtomicFile(other + "/file") }
    #expect(try contents(other) == "precious")
  }
}
