import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

/// Cache files whose checksums are right, but which somebody else has made.
@Suite struct HostileWeightsCacheTests {
  private struct Piece {
    var name: String
    var element: String
    var shape: [Int]
    var byteCount: Int
  }

  /// The pieces of a weight `w` in int8, `[2, 32]`.
  private static let weight = [
    Piece(name: "w", element: "I8", shape: [2, 32], byteCount: 64),
    Piece(name: "w.scales", element: "F32", shape: [2], byteCount: 8),
    Piece(name: "padding.1", element: "U8", shape: [56], byteCount: 56),
    Piece(name: "w.sums", element: "I32", shape: [2], byteCount: 8),
    Piece(name: "padding.2", element: "U8", shape: [56], byteCount: 56),
  ]

  /// Opens a file of pieces that are full of `0x80`, with checksums after them.
  private func open(
    _ pieces: [Piece], checksums: Piece? = nil, forged: Bool = false
  ) throws(WeightsCacheError) -> WeightsCacheFile {
    let last =
      checksums
      ?? Piece(name: "xxh64", element: "U64", shape: [pieces.count + 1], byteCount: 8 * (pieces.count + 1))
    var end = 0
    let entries = (pieces + [last]).map { piece in
      defer { end += piece.byteCount }
      return SafetensorsFixtures.entry(
        piece.name, piece.element, "\(piece.shape)", "[\(end),\(end + piece.byteCount)]")
    }
    let metadata = #""__metadata__":{"version":"\#(Self.version)","key":"k","written":"0"}"#
    var header = Array("{\(([metadata] + entries).joined(separator: ","))}".utf8)
    header += [UInt8](repeating: UInt8(ascii: " "), count: 63 - (7 + header.count) % 64)
    let front = SafetensorsFixtures.file(header)
    let bodies = pieces.map { [UInt8](repeating: 0x80, count: $0.byteCount) }
    let sums = ([front] + bodies).map { SharedBytes(copying: $0).checksum }
    let tail = sums.flatMap { sum in (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) } }
    do {
      let folder = try TemporaryFolder()
      let path = try folder.write("cache", front + bodies.joined() + tail.prefix(last.byteCount))
      let file = Result { () throws(WeightsCacheError) in
        try WeightsCacheFile(path, key: "k", workers: Workers(count: 1))
      }
      return try file.get()
    } catch let fault as WeightsCacheError { throw fault } catch { throw .damaged("no test file: \(error)") }
  }

  private static let version = "pdrop-weights 1; \(Int8Weights.scheme)"

  @Test func `may hold any values`() throws {
    let file = try open(Self.weight)
    guard case .int8(let weights) = file.weight("w", for: .int8, outputs: 2, inputs: 32) else {
      Issue.record("no weight")
      return
    }
    // Numbers of -128, which no quantising gives, and sums that are not theirs.
    let layer = Linear(weight: Tensor([Float](repeating: 0, count: 64), shape: [2, 32])).with(.int8(weights))
    let compute = ComputeContext(workers: Workers(count: 2))
    for rows in [1, 40] {
      var y = Matrix(rows: 0, columns: 2)
      compute.matmul(&y, Matrix([Float](repeating: -1, count: 32 * rows), columns: 32), by: layer, .queries)
      #expect(y.rows == rows)
    }
  }

  @Test(arguments: [
    ("w", "U8", [2, 32]), ("w", "I8", [32, 2]), ("w", "I8", [64]), ("w", "BF16", [1, 32]), ("v", "I8", [2, 32]),
    ("w.scales", "I32", [2]), ("w.scales", "F32", [2, 1]), ("w.sums", "F32", [2]), ("w.sums", "I64", [1]),
  ])
  func `gives no weight of another type or shape`(name: String, element: String, shape: [Int]) throws {
    let index = try #require(Self.weight.firstIndex { $0.name == (name == "v" ? "w" : name) })
    var pieces = Self.weight
    (pieces[index].name, pieces[index].element, pieces[index].shape) = (name, element, shape)
    #expect(try open(pieces).weight("w", for: .int8, outputs: 2, inputs: 32) == nil)
    #expect(try open(pieces).weight("w", for: .bf16, outputs: 2, inputs: 32) == nil)
    #expect(try open(pieces).weight("w", for: .f32, outputs: 2, inputs: 32) == nil)
  }

  @Test func `is refused with tensors that are not aligned`() {
    var pieces = Self.weight
    pieces.remove(at: 2)
    #expect(throws: WeightsCacheError.damaged("its tensors are not aligned")) { try open(pieces) }
  }

  @Test(arguments: [("xxh64", "U64", 1), ("xxh64", "I64", 6), ("xxh65", "U64", 6), ("xxh64", "U64", 0)])
  func `is refused without a checksum for every tensor`(name: String, element: String, count: Int) {
    let checksums = Piece(name: name, element: element, shape: [count], byteCount: 8 * count)
    #expect(throws: WeightsCacheError.damaged("it has no checksums")) { try open(Self.weight, checksums: checksums) }
  }

  @Test func `is refused when it is empty of tensors`() {
    #expect(throws: Never.self) { try open([]) }
    #expect(throws: WeightsCacheError.damaged("it has no checksums")) {
      try open([], checksums: Piece(name: "w", element: "U64", shape: [1], byteCount: 8))
    }
  }
}
