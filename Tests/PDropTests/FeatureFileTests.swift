import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Storage
import TestSupport
import Testing

/// Files of image features, which others may have damaged, replaced or forged.
@Suite struct FeatureFileTests {
  private static let key = "7 image model"
  /// A file of special values, `[3, 2]`: negative zero, infinity, NaN, a subnormal.
  private static let file = FeatureFile(
    [1.5, -0.0, .infinity, Float(bitPattern: 0x7FC0_1234), .leastNonzeroMagnitude, -3e38], columns: 2,
    paddingTokens: [0, 2], encodeFlops: 123_456_789_012, projectFlops: 34)

  private func read(
    _ path: String, key: String = Self.key, columns: Int = 2, tokenCounts: ClosedRange<Int> = 1...4
  ) throws(CacheFileError) -> FeatureFile {
    try FeatureFile(path, key: key, columns: columns, tokenCounts: tokenCounts)
  }

  /// Expects an error whose description begins with the path and contains `words`.
  private func expectRefused(
    _ path: String, _ words: String, sourceLocation: SourceLocation = #_sourceLocation,
    by read: () throws(CacheFileError) -> FeatureFile
  ) {
    let error = #expect(throws: CacheFileError.self, sourceLocation: sourceLocation) { _ = try read() }
    let text = error.map { "\($0)" } ?? ""
    #expect(text.hasPrefix(path + ": ") && text.contains(words), sourceLocation: sourceLocation)
  }

  @Test func `reads what was written, bit for bit`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("file")
    let count = try Self.file.write(to: path, key: Self.key)
    #expect(try Data(contentsOf: URL(filePath: path)).count == count)
    let read = try read(path)
    #expect(read.features.map(\.bitPattern) == Self.file.features.map(\.bitPattern))
    #expect(
      read.columns == 2 && read.paddingTokens == [0, 2] && read.encodeFlops == 123_456_789_012
        && read.projectFlops == 34)
    // Another file replaces it, and no temporary file remains.
    _ = try FeatureFile([1, 2], columns: 2, paddingTokens: [], encodeFlops: 0, projectFlops: 0).write(
      to: path, key: "other")
    #expect(try self.read(path, key: "other").features == [1, 2])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
  }

  @Test func `keeps what a selection needs, and tiles`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("file")
    let inputs = SelectionInputs(
      patchFeatures: [1, 2, 3, 4, 5, 6], columns: 3, classAttention: [0.5, 0.25], localAttention: [0, -0.0])
    let tiles = TileGrid(rows: 2, columns: 1, keptRows: 0..<40, keptColumns: 3..<21)
    let file = FeatureFile(
      [1, 2, 3, 4], columns: 2, paddingTokens: [], layout: .tiled(tiles), selectionInputs: inputs, encodeFlops: 1,
      projectFlops: 2)
    _ = try file.write(to: path, key: Self.key)
    let read = try FeatureFile(path, key: Self.key, columns: 2, tokenCounts: 1...4, selectionBytes: 32)
    #expect(read == file)
    // Those of an encoder without class token, and of a reduced map.
    var reduced = tiles
    reduced.reduced = MapSize(rows: 20, columns: 9)
    let siglip = FeatureFile(
      [1, 2, 3, 4], columns: 2, paddingTokens: [], layout: .tiled(reduced),
      selectionInputs: SelectionInputs(
        patchFeatures: [1, 2, 3, 4], columns: 2, classAttention: [], localAttention: []), encodeFlops: 1,
      projectFlops: 2)
    _ = try siglip.write(to: path, key: Self.key)
    #expect(try FeatureFile(path, key: Self.key, columns: 2, tokenCounts: 1...4, selectionBytes: 32) == siglip)
    // A file without is read as before.
    _ = try Self.file.write(to: path, key: Self.key)
    #expect(try self.read(path).selectionInputs == nil)
    for damaged in ["0 1 0 1 0 1", "1 1 2 1 0 1", "1 1 0 1 0", "1 1 0 1 0 x", "1 1 0 99999999 0 1", ""] {
      let path = folder.path("damaged")
      _ = try file.write(to: path, key: Self.key)
      let forged = try Data(contentsOf: URL(filePath: path))
      let text = String(decoding: forged, as: Unicode.ASCII.self)
      #expect(text.contains("2 1 0 40 3 21"))
      let changed = damaged.padding(toLength: 13, withPad: " ", startingAt: 0)
      var bytes = [UInt8](forged)
      let place = try #require(bytes.firstRange(of: Array("2 1 0 40 3 21".utf8)))
      bytes.replaceSubrange(place, with: Array(changed.utf8))
      try Data(bytes).write(to: URL(filePath: path))
      #expect(throws: CacheFileError.self) {
        _ = try FeatureFile(path, key: Self.key, columns: 2, tokenCounts: 1...4, selectionBytes: 32)
      }
    }
  }

  @Test func `does not write a file that another process is writing`() throws {
    let folder = try TemporaryFolder()
    let other = try AtomicFile(folder.path("file"))
    let isTaken = other != nil
    #expect(isTaken)
    #expect(try Self.file.write(to: folder.path("file"), key: Self.key) == nil)
  }

  @Test func `refuses a file of another image, model, shape or version`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("file")
    _ = try Self.file.write(to: path, key: Self.key)
    expectRefused(path, "of another image or model") { () throws(CacheFileError) in
      try read(path, key: "8 image model")
    }
    expectRefused(path, "rows of 3 floats") { () throws(CacheFileError) in try read(path, columns: 3) }
    expectRefused(path, "rows of 2 floats") { () throws(CacheFileError) in try read(path, tokenCounts: 4...4) }
    expectRefused(path, "rows of 2 floats") { () throws(CacheFileError) in try read(path, tokenCounts: 1...2) }
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let version = try #require(bytes.firstRange(of: Array("pdrop-features 5".utf8)))
    bytes[version.upperBound - 1] = UInt8(ascii: "0")
    try folder.write("file", bytes)
    expectRefused(path, "another version") { () throws(CacheFileError) in try read(path) }
  }

  @Test func `detects every changed byte and every truncation`() throws {
    let folder = try TemporaryFolder()
    _ = try Self.file.write(to: folder.path("file"), key: Self.key)
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: folder.path("file"))))
    for index in bytes.indices {
      for bit in [0, 5, 7] {
        var changed = bytes
        changed[index] ^= 1 << UInt8(bit)
        let path = try folder.write("changed", changed)
        #expect(throws: CacheFileError.self, "bit \(bit) of byte \(index)") { try read(path) }
      }
      let path = try folder.write("cut", bytes.prefix(index))
      #expect(throws: CacheFileError.self, "\(index) bytes") { try read(path) }
    }
    let path = try folder.write("longer", bytes + [0])
    #expect(throws: CacheFileError.self) { try read(path) }
  }

  @Test func `refuses a path without a regular file, and a file that is empty or too long`() throws {
    let folder = try TemporaryFolder()
    #expect(throws: CacheFileError.missing) { try read(folder.path("none")) }
    #expect(throws: CacheFileError.missing) { try read(folder.path("none/none")) }
    expectRefused(folder.path, "directory") { () throws(CacheFileError) in try read(folder.path) }
    let pipe = folder.path("pipe")
    #expect(unsafe mkfifo(pipe, 0o600) == 0)
    expectRefused(pipe, "device") { () throws(CacheFileError) in try read(pipe) }
    let empty = try folder.write("empty", "")
    expectRefused(empty, "empty") { () throws(CacheFileError) in try read(empty) }
    // A sparse file of 1 TiB, which takes no space on the disk and must take none in memory.
    let long = try folder.write("long", "x")
    #expect(unsafe truncate(long, 1 << 40) == 0)
    expectRefused(long, "at most") { () throws(CacheFileError) in try read(long) }
  }

  /// Reads a forged file: its checksums are correct, its content is chosen by the test.
  private func forged(
    features: (element: String, shape: String, byteCount: Int) = ("F32", "[3,2]", 24), cost: String = "1",
    padding: String = "1+2", checksumCount: Int = 2
  ) throws(CacheFileError) -> FeatureFile {
    let end = features.byteCount
    let entries = [
      #""__metadata__":{"version":"pdrop-features 5","key":"\#(Self.key)","padding_tokens":"\#(padding)","#
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
    } catch let error as CacheFileError { throw error } catch { throw .unusable("no test file: \(error)") }
  }

  @Test func `reads any values with correct checksums`() throws {
    #expect(try forged().features == [Float](repeating: Float(bitPattern: 0x4040_4040), count: 6))
    #expect(try forged().paddingTokens == [1, 2] && forged(padding: "").paddingTokens == [])
    #expect(try forged(padding: "0+1,1+1,2+1").paddingTokens == [0, 1, 2])
  }

  @Test(arguments: [
    "3+1", "1+3", "-1+1", "0+0", "1+-1", "1", "1+1,", ",", "1+1,1+1", "2+1,0+1", "0+2,1+1", "a+1", "0+1+1",
    "1+9223372036854775807", "9223372036854775807+1",
  ])
  func `refuses padding that is not ascending runs of the image's tokens`(padding: String) {
    #expect(throws: CacheFileError.self) { try forged(padding: padding) }
  }

  @Test(arguments: [
    ("F32", "[6]", 24), ("F32", "[2,3]", 24), ("F32", "[3,2,1]", 24), ("F32", "[0,2]", 0), ("F32", "[5,2]", 40),
    ("F16", "[3,2]", 12), ("I32", "[3,2]", 24), ("F64", "[3,2]", 48),
  ])
  func `refuses features of another type or shape`(element: String, shape: String, byteCount: Int) {
    #expect(throws: CacheFileError.self) { try forged(features: (element, shape, byteCount)) }
  }

  @Test(arguments: ["", "-1", "1.5", "many", "9223372036854775807", "99999999999999999999", "70368744177665"])
  func `refuses an impossible cost`(cost: String) {
    #expect(throws: CacheFileError.self) { try forged(cost: cost) }
  }

  @Test(arguments: [0, 1]) func `refuses fewer checksums than there are parts`(count: Int) {
    #expect(throws: CacheFileError.self) { try forged(checksumCount: count) }
  }
}
