import Foundation
import Storage
import TestSupport
import Testing

/// Whole output files: replaced atomically if they are regular, written where they are otherwise.
@Suite struct WholeFileTests {
  private func contents(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  private func type(_ path: String) throws -> FileAttributeType? {
    try FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType
  }

  @Test func `replaces a regular file by a new one with its permissions`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("report")
    try AtomicFile.write(Array("first".utf8), to: path)
    let before = try OpenFile(reading: path)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    try AtomicFile.write(Array("second".utf8), to: path)
    #expect(try contents(path) == "second")
    #expect(try before.readAll(limit: 100) == Array("first".utf8))
    #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["report"])
  }

  @Test(arguments: ["a longer text than ours", nil])
  func `follows a link, and leaves it a link`(before: String?) throws {
    let folder = try TemporaryFolder()
    if let before { try folder.write("target", before) }
    try FileManager.default.createSymbolicLink(atPath: folder.path("link"), withDestinationPath: "target")
    try AtomicFile.write(Array("text".utf8), to: folder.path("link"))
    #expect(try contents(folder.path("target")) == "text")
    #expect(try type(folder.path("link")) == .typeSymbolicLink)
  }

  @Test func `writes into a pipe`() throws {
    let pipe = Pipe()
    let path = "/dev/fd/\(pipe.fileHandleForWriting.fileDescriptor)"
    try AtomicFile.write(Array("text".utf8), to: path)
    try pipe.fileHandleForWriting.close()
    #expect(pipe.fileHandleForReading.readDataToEndOfFile() == Data("text".utf8))
  }

  @Test func `writes to a named pipe, which stays one`() async throws {
    let folder = try TemporaryFolder()
    let path = folder.path("pipe")
    try #require(unsafe mkfifo(path, 0o600) == 0)
    // A reader without blocking, so that the writer does not wait for one.
    let reader = try OpenFile(reading: ByteString(path))
    try AtomicFile.write(Array("text".utf8), to: path)
    #expect(try reader.readAll(limit: 100) == Array("text".utf8))
    #expect(try type(path) != .typeRegular)
  }

  @Test func `writes to a device, which stays one`() throws {
    try AtomicFile.write(Array("text".utf8), to: "/dev/null")
    #expect(try type("/dev/null") == .typeCharacterSpecial)
    guard FileManager.default.fileExists(atPath: "/dev/full") else { return }
    #expect(throws: FileError.self) { try AtomicFile.write(Array("text".utf8), to: "/dev/full") }
  }

  @Test func `refuses a folder, and a path without a folder`() throws {
    let folder = try TemporaryFolder()
    #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.path) }
    #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.path("none/report")) }
  }
}
