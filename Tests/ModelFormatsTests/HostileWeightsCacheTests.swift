import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

/// Forged cache files with valid checksums.
@Suite struct HostileWeightsCacheTests {
  private struct Part {
    var name: String
    var element: String
    var shape: [Int]
    var byteCount: Int
  }

  /// The tensors of an int8 weight `w`, `[2, 32]`.
  private static let weight = [
    Part(name: "w", element: "I8", shape: [2, 32], byteCount: 64),
    Part(name: "w.scales", element: "F32", shape: [2], byteCount: 8),
    Part(name: "padding.1", element: "U8", shape: [56], byteCount: 56),
    Part(name: "w.sums", element: "I32", shape: [2], byteCount: 8),
    Part(name: "padding.2", element: "U8", shape: [56], byteCount: 56),
  ]

  /// Opens a file of tensors filled with `0x80`, followed by checksums.
  private func open(
    _ parts: [Part], checksums: Part? = nil, forged: Bool = false
  ) throws(WeightsCacheError) -> WeightsCacheFile {
    let last =
      checksums
      ?? Part(name: "xxh64", element: "U64", shape: [parts.count + 1], byteCount: 8 * (parts.count + 1))
    var end = 0
    let entries = (parts + [last]).map { part in
      defer { end += part.byteCount }
      return SafetensorsFixtures.entry(
        part.name, part.element, "\(part.shape)", "[\(end),\(end + part.byteCount)]")
    }
    let metadata = #""__metadata__":{"version":"\#(Self.version)","key":"k","written":"0"}"#
    var header = Array("{\(([metadata] + entries).joined(separator: ","))}".utf8)
    header += [UInt8](repeating: UInt8(ascii: " "), count: 63 - (7 + header.count) % 64)
    let front = SafetensorsFixtures.file(header)
    let bodies = parts.map { [UInt8](repeating: 0x80, count: $0.byteCount) }
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

  private static let version = "pdrop-weights 2; \(Int8Weights.scheme); \(BlockWeights.scheme)"

  @Test func `accepts any values`() throws {
    let file = try open(Self.weight)
    guard case .int8(let weights) = file.weight("w", for: .int8, outputs: 2, inputs: 32) else {
      Issue.record("no weight")
      return
    }
    // Values of -128, which quantization never returns, and wrong sums.
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
  func `returns no weight of another type or shape`(name: String, element: String, shape: [Int]) throws {
    let index = try #require(Self.weight.firstIndex { $0.name == (name == "v" ? "w" : name) })
    var parts = Self.weight
    (parts[index].name, parts[index].element, parts[index].shape) = (name, element, shape)
    #expect(try open(parts).weight("w", for: .int8, outputs: 2, inputs: 32) == nil)
    #expect(try open(parts).weight("w", for: .bf16, outputs: 2, inputs: 32) == nil)
    #expect(try open(parts).weight("w", for: .f32, outputs: 2, inputs: 32) == nil)
  }

  /// The tensor of a weight in Q4_K, `[2, 256]`: a group of 16 rows.
  private static let blocks = Part(name: "w.Q4_K.2", element: "I8", shape: [blockBytes], byteCount: blockBytes)
  private static let blockBytes = BlockWeights.groupByteCount(.q4K, outputs: 2, inputs: 256)

  @Test func `accepts any blocks`() throws {
    #expect(Self.blockBytes.isMultiple(of: 64))
    let file = try open([Self.blocks])
    guard case .blocks(let weights) = file.weight("w", for: .blocks, outputs: 2, inputs: 256) else {
      Issue.record("no weight")
      return
    }
    #expect(weights.type == .q4K)
    let layer = Linear(weight: Tensor([Float](repeating: 0, count: 512), shape: [2, 256])).with(.blocks(weights))
    let compute = ComputeContext(workers: Workers(count: 2))
    for rows in [1, 40] {
      var y = Matrix(rows: 0, columns: 2)
      compute.matmul(&y, Matrix([Float](repeating: -1, count: 256 * rows), columns: 256), by: layer, .queries)
      #expect(y.rows == rows)
    }
  }

  @Test(arguments: [
    ("w.Q4_K.2", "U8", 0), ("w.Q4_K.2", "I8", -64), ("w.Q4_K.2", "I8", 64), ("w.Q6_K.2", "I8", 0),
    ("w.Q4_1.2", "I8", 0),
    ("w", "I8", 0),
  ])
  func `returns no blocks of another type or size`(name: String, element: String, more: Int) throws {
    let count = Self.blockBytes + more
    let file = try open([Part(name: name, element: element, shape: [count], byteCount: count)])
    #expect(file.weight("w", for: .blocks, outputs: 2, inputs: 256) == nil)
    #expect(file.weight("w", for: .int8, outputs: 2, inputs: 256) == nil)
  }

  @Test func `returns no blocks for other sizes of the weight`() throws {
    let file = try open([Self.blocks])
    #expect(file.weight("w", for: .blocks, outputs: 17, inputs: 256) == nil)
    #expect(file.weight("w", for: .blocks, outputs: 2, inputs: 512) == nil)
    #expect(file.weight("w", for: .blocks, outputs: 2, inputs: 32) == nil)
    #expect(file.weight("v", for: .blocks, outputs: 2, inputs: 256) == nil)
  }

  @Test func `is refused with tensors that are not aligned`() {
    var parts = Self.weight
    parts.remove(at: 2)
    #expect(throws: WeightsCacheError.damaged("its tensors are not aligned")) { try open(parts) }
  }

  @Test(arguments: [("xxh64", "U64", 1), ("xxh64", "I64", 6), ("xxh65", "U64", 6), ("xxh64", "U64", 0)])
  func `is refused without a checksum for every tensor`(name: String, element: String, count: Int) {
    let checksums = Part(name: name, element: element, shape: [count], byteCount: 8 * count)
    #expect(throws: WeightsCacheError.damaged("it has no checksums")) { try open(Self.weight, checksums: checksums) }
  }

  @Test func `is accepted with checksums alone, and refused without`() {
    #expect(throws: Never.self) { try open([]) }
    #expect(throws: WeightsCacheError.damaged("it has no checksums")) {
      try open([], checksums: Part(name: "w", element: "U64", shape: [1], byteCount: 8))
    }
  }
}
