import Foundation
import PDrop
import Storage
import TestSupport
import Testing

/// A folder with a byte limit, from which the least recently used files are removed.
@Suite final class CappedFolderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func capped(_ limit: Int, at path: String? = nil) -> CappedFolder {
    CappedFolder(path ?? folder.path, byteLimit: limit) { $0.hasPrefix("our-") }
  }

  /// Writes a file that was last used at a time in seconds since 1970.
  private func write(_ name: String, bytes: Int = 100, used seconds: Int) throws {
    let path = try folder.write(name, [UInt8](repeating: 1, count: bytes))
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: Double(seconds))], ofItemAtPath: path)
  }

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() }

  @Test func `removes the least recently used files until a tenth of the limit is free`() throws {
    for (name, used) in [("our-a", 30), ("our-b", 10), ("our-c", 40), ("our-d", 20)] { try write(name, used: used) }
    var files = capped(450)
    #expect(try files.ensureCapacity(for: 50) == 0)
    // A tenth of 450 bytes stays free, and 100 bytes are requested.
    #expect(try files.ensureCapacity(for: 100) == 1)
    #expect(try names() == ["our-a", "our-c", "our-d"])
    FolderEntry.touch(folder.path("our-d"))
    var later = capped(300)
    #expect(try later.ensureCapacity(for: 71) == 2)
    #expect(try names() == ["our-d"])
  }

  @Test func `never exceeds its limit`() throws {
    var files = capped(1000)
    for number in 0..<100 {
      let bytes = 1 + number * 37 % 300
      _ = try files.ensureCapacity(for: bytes)
      try write("our-\(number)", bytes: bytes, used: number)
      let sizes = try names().map { try #require(FolderEntry(folder.path($0))).byteCount }
      #expect(sizes.reduce(0, +) <= 1000)
      #expect(sizes.reduce(0, +) >= 500 || number < 10)
    }
  }

  @Test func `refuses a file above the limit, and removes nothing for it`() throws {
    try write("our-a", used: 1)
    var files = capped(150)
    #expect(throws: FileError.self) { try files.ensureCapacity(for: 151) }
    #expect(try names() == ["our-a"])
    #expect(try files.ensureCapacity(for: 150) == 1)
  }

  @Test func `counts and removes only its own files`() throws {
    let manager = FileManager.default
    try write("other", bytes: 5000, used: 1)
    try write("our", bytes: 5000, used: 1)
    try write("other.partial", bytes: 5000, used: 1)
    try manager.createDirectory(atPath: folder.path("our-folder"), withIntermediateDirectories: false)
    try write("our-folder/our-file", bytes: 5000, used: 1)
    try manager.createSymbolicLink(atPath: folder.path("our-link"), withDestinationPath: folder.path("other"))
    let before = try names()
    try write("our-a", used: 1)
    var files = capped(150)
    #expect(try files.ensureCapacity(for: 100) == 1)
    #expect(try names() == before)
    #expect(manager.fileExists(atPath: folder.path("our-folder/our-file")))
  }

  @Test func `removes partial files of a killed process, but not files that are being written`() throws {
    try write("our-a.partial", used: 1)
    try write("our-b.partial", used: Int(Date().timeIntervalSince1970))
    var files = capped(150)
    #expect(try files.ensureCapacity(for: 100) == 1)
    #expect(try names() == ["our-b.partial"])
  }

  @Test func `notices files that others have written or removed`() throws {
    var (first, second) = (capped(1000), capped(1000))
    for number in 0..<60 {
      _ = try first.ensureCapacity(for: 40)
      try write("our-first-\(number)", bytes: 40, used: 2 * number)
      _ = try second.ensureCapacity(for: 40)
      try write("our-second-\(number)", bytes: 40, used: 2 * number + 1)
      let sizes = try names().map { try #require(FolderEntry(folder.path($0))).byteCount }
      #expect(sizes.reduce(0, +) <= 1100)
    }
    for name in try names() { try FileManager.default.removeItem(atPath: folder.path(name)) }
    #expect(try first.ensureCapacity(for: 1000) == 0)
  }

  @Test func `serves several writers at once`() async throws {
    let path = folder.path
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<4 {
        group.addTask {
          var files = CappedFolder(path, byteLimit: 2000) { $0.hasPrefix("our-") }
          for number in 0..<50 {
            _ = try files.ensureCapacity(for: 100)
            try Data(count: 100).write(to: URL(filePath: path + "/our-\(writer)-\(number)"))
          }
        }
      }
      try await group.waitForAll()
    }
    var files = capped(2000)
    #expect(throws: Never.self) { try files.ensureCapacity(for: 2000) }
    #expect(try names().isEmpty)
  }

  @Test func `creates its folder, or throws where that is impossible`() throws {
    try capped(1, at: folder.path("a/b")).make()
    #expect(FileManager.default.fileExists(atPath: folder.path("a/b")))
    let file = try folder.write("file", "x")
    #expect(throws: FileError.self) { try capped(1, at: file).make() }
    #expect(throws: FileError.self) { try capped(1, at: file + "/a").make() }
    // A folder that cannot be listed counts as empty; writing to it will throw.
    var none = capped(100, at: folder.path("none"))
    #expect(try none.ensureCapacity(for: 100) == 0)
  }
}
