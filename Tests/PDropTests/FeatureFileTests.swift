import Foundation
import Kernels
import PDrop
import Storage
import TestSupport
import Testing

/// The features of an image in a file that others may have damaged, replaced or made up.
@Suite struct FeatureFileTests {
  private static let key = "7 image model"
  /// Floats of every kind, `[3, 2]`.
  private static let file = FeatureFile(
    [1.5, -0.0, .infinity, Float(bitPattern: 0x7FC0_1234), .leastNonzeroMagnitude, -3e38], columns: 2,
    paddingTokens: [0, 2], encodeFlops: 123_456_789_012, projectFlops: 34)

  private func read(
    _ path: String, key: String = Self.key, columns: Int = 2, tokenCounts: ClosedRange<Int> = 1...4
  ) throws(FeatureFile.ReadError) -> FeatureFile {
    try FeatureFile(path, key: key, columns: columns, tokenCounts: tokenCounts)
  }

  /// Expects that a file is refused for a reason in these words, after its name.
  private func expectRefused(
    _ path: String, _ words: String, sourceLocation: SourceLocation = #_sourceLocation,
    by read: () throws(FeatureFile.ReadError) -> FeatureFile
  ) {
    let fault = #expect(throws: FeatureFile.ReadError.self, sourceLocation: sourceLocation) { _ = try read() }
    let text = fault.map { "\($0)" } ?? ""
    #expect(text.hasPrefix(path + ": ") && text.contains(words), sourceLocation: sourceLocation)
  }

  @Test func `gives back what was written, bit for bit`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("file")
    let count = try Self.file.write(to: path, key: Self.key)
    #expect(try Data(contentsOf: URL(filePath: path)).count == count)
    let read = try read(path)
    #expect(read.features.map(\.bitPattern) == Self.file.features.map(\.bitPattern))
    #expect(
      read.columns == 2 && read.paddingTokens == [0, 2] && read.encodeFlops == 123_456_789_012
        && read.projectFlops == 34)
    // In the place of another, without a trace of how.
    _ = try FeatureFile([1, 2], columns: 2, paddingTokens: [], encodeFlops: 0, projectFlops: 0).write(
      to: path, key: "other")
    #expect(try self.read(path, key: "other").features == [1, 2])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
  }

  @Test func `leaves a file to the process that is writing it`() throws {
    let folder = try TemporaryFolder()
    let other = try AtomicFile(folder.path("file"))
    let isTaken = other != nil
    #expect(isTaken)
    #expect(try Self.file.write(to: folder.path("file"), key: Self.key) == nil)
  }

  @Test func `refuses what belongs to another image, model, shape or version`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("file")
    _ = try Self.file.write(to: path, key: Self.key)
    expectRefused(path, "of another image or model") { () throws(FeatureFile.ReadError) in
      try read(path, key: "8 image model")
    }
    expectRefused(path, "rows of 3 floats") { () throws(FeatureFile.ReadError) in try read(path, columns: 3) }
    expectRefused(path, "rows of 2 floats") { () throws(FeatureFile.ReadError) in try read(path, tokenCounts: 4...4) }
    expectRefused(path, "rows of 2 floats") { () throws(FeatureFile.ReadError) in try read(path, tokenCounts: 1...2) }
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let version = try #require(bytes.firstRange(of: Array("pdrop-features 2".utf8)))
    bytes[version.upperBound - 1] = UInt8(ascii: "0")
    try folder.write("file", bytes)
    expectRefused(path, "another version") { () throws(FeatureFile.ReadError) in try read(path) }
  }

  @Test func `notices every byte that is changed and every length that is cut`() throws {
    let folder = try TemporaryFolder()
    _ = try Self.file.write(to: folder.path("file"), key: Self.key)
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: folder.path("file"))))
    for index in bytes.indices {
      for bit in [0, 5, 7] {
        var changed = bytes
        changed[index] ^= 1 << UInt8(bit)
        let path = try folder.write("changed", changed)
        #expect(throws: FeatureFile.ReadError.self, "bit \(bit) of byte \(index)") { try read(path) }
      }
      let path = try folder.write("cut", bytes.prefix(index))
      #expect(throws: FeatureFile.ReadError.self, "\(index) bytes") { try read(path) }
    }
    let path = try folder.write("longer", bytes + [0])
    #expect(throws: FeatureFile.ReadError.self) { try read(path) }
  }

  @Test func `refuses what is no file, or too long to be one`() throws {
    let folder = try TemporaryFolder()
    #expect(throws: FeatureFile.ReadError.missing) { try read(folder.path("none")) }
    #expect(throws: FeatureFile.ReadError.missing) { try read(folder.path("none/none")) }
    expectRefused(folder.path, "directory") { () throws(FeatureFile.ReadError) in try read(folder.path) }
    let pipe = folder.path("pipe")
    #expect(unsafe mkfifo(pipe, 0o600) == 0)
    expectRefused(pipe, "device") { () throws(FeatureFile.ReadError) in try read(pipe) }
    let empty = try folder.write("empty", "")
    expectRefused(empty, "empty") { () throws(FeatureFile.ReadError) in try read(empty) }
    // A hole of a tebibyte, which takes no room on the disk and must take none in memory.
    let long = try folder.write("long", "x")
    #expect(unsafe truncate(long, 1 << 40) == 0)
    expectRefused(long, "at most") { () throws(FeatureFile.ReadError) in try read(long) }
  }

  /// A file whose checksums are right and whose content was made up.
  private func forged(
    features: (element: String, shape: String, byteCount: Int) = ("F32", "[3,2]", 24), cost: String = "1",
    padding: String = "1+2", checksumCount: Int = 2
  ) throws(FeatureFile.ReadError) -> FeatureFile {
    let end = features.byteCount
    let entries = [
      #""__metadata__":{"version":"pdrop-features 2","key":"\#(Self.key)","padding_tokens":"\#(padding)","#
        + #""flops_encode":"\#(cost)","flops_project":"1"}"#,
      SafetensorsFixtures.entry("features", features.element, features.shape, "[0,\(end)]"),
      SafetensorsFixtures.entry("xxh64", "U64", "[\(checksumCount)]", "[\(end),\(end + 8 * checksumCount)]"),
    ]
    let front = SafetensorsFixtures.file("{" + entries.joined(separator: ",") + "}")
    let body = [UInt8](repeating: 0x40, count: end)
    let sums = [front, body].map { SharedBytes(copying: $0).checksum }
    let tail = sums.flatMap { sum in (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) } }
    do {
      let folder = try TemporaryFolder()
      let path = try folder.write("forged", front + body + tail.prefix(8 * checksumCount))
      return try read(path)
    } catch let fault as FeatureFile.ReadError { throw fault } catch { throw .unusable("no test file: \(error)") }
  }

  @Test func `may hold any values`() throws {
    #expect(try forged().features == [Float](repeating: Float(bitPattern: 0x4040_4040), count: 6))
    #expect(try forged().paddingTokens == [1, 2] && forged(padding: "").paddingTokens == [])
    #expect(try forged(padding: "0+1,1+1,2+1").paddingTokens == [0, 1, 2])
  }

  @Test(arguments: [
    "3+1", "1+3", "-1+1", "0+0", "1+-1", "1", "1+1,", ",", "1+1,1+1", "2+1,0+1", "0+2,1+1", "a+1", "0+1+1",
    "1+9223372036854775807", "9223372036854775807+1",
  ])
  func `refuses padding that is no ascending run of the image's tokens`(padding: String) {
    #expect(throws: FeatureFile.ReadError.self) { try forged(padding: padding) }
  }

  @Test(arguments: [
    ("F32", "[6]", 24), ("F32", "[2,3]", 24), ("F32", "[3,2,1]", 24), ("F32", "[0,2]", 0), ("F32", "[5,2]", 40),
    ("F16", "[3,2]", 12), ("I32", "[3,2]", 24), ("F64", "[3,2]", 48),
  ])
  func `refuses features of another type or shape`(element: String, shape: String, byteCount: Int) {
    #expect(throws: FeatureFile.ReadError.self) { try forged(features: (element, shape, byteCount)) }
  }

  @Test(arguments: ["", "-1", "1.5", "many", "9223372036854775807", "99999999999999999999", "70368744177665"])
  func `refuses a cost that no image has`(cost: String) {
    #expect(throws: FeatureFile.ReadError.self) { try forged(cost: cost) }
  }

  @Test(arguments: [0, 1]) func `refuses fewer checksums than there are parts`(count: Int) {
    #expect(throws: FeatureFile.ReadError.self) { try forged(checksumCount: count) }
  }
}
