import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Storage
import TestSupport
import Testing
import TokenDropping

/// Files of keys and values, which others may have damaged, replaced or forged.
@Suite final class PromptFileTests {
  private static let key = "tokens 1 2, model"
  private let folder: TemporaryFolder
  private let text: TextConfiguration

  init() throws {
    folder = try TemporaryFolder()
    let model = try ModelSearch.open(Goldens.path("models/tiny-llava-1.5"), visionTower: nil, mmproj: nil)
    var text = model.configuration.text
    (text.layerCount, text.hiddenSize, text.vocabularySize) = (3, 4, 3)
    (text.headCount, text.keyValueHeadCount, text.headDimension) = (2, 2, 2)
    self.text = text
  }

  /// A cache with these numbers of rows, of special and of random values.
  private func cache(_ rows: [Int], _ type: CacheType) -> KVCache {
    var numbers = SeededGenerator(3)
    let workers = Workers(count: 1)
    func matrix(_ rows: Int) -> Matrix {
      var values = (0..<rows * 4).map { _ in Float.random(in: -2...2, using: &numbers) }
      if rows > 1, type == .f32 { values.replaceSubrange(0..<3, with: [-0.0, .infinity, .leastNonzeroMagnitude]) }
      return Matrix(values, columns: 4)
    }
    return KVCache(text, type: type, count: rows.count) { index in
      var layer = LayerCache(text.heads, type: type)
      layer.append(
        keys: matrix(rows[index]), values: matrix(rows[index]), rows: 0..<rows[index], lastPosition: 7 + index,
        workers: workers)
      return layer
    }
  }

  private func bits(_ cache: KVCache) -> [[UInt32]] {
    cache.lengths.indices.map { index in
      cache.withLayer(index) { layer in
        [UInt32(layer.nextPosition)] + (layer.keys.widened().values + layer.values.widened().values).map(\.bitPattern)
      }
    }
  }

  @discardableResult
  private func write(_ layout: PromptFile.Layout, _ cache: KVCache, to name: String = "file") throws -> Int? {
    try PromptFile.write(
      layout, floats: { SharedBytes(copying: [1.5, -0.0, Float.nan]) }, cache, fields: ["kept": "0+1"],
      key: Self.key, to: folder.path(name))
  }

  private func read(
    _ layout: PromptFile.Layout, _ name: String = "file", key: String = PromptFileTests.key
  ) throws(CacheFileError) -> PromptFile {
    try PromptFile(
      folder.path(name), key: key, layout, limit: layout.byteCount(key: key, fields: 64), Workers(count: 1))
  }

  @Test(arguments: CacheType.allCases)
  func `reads what was written, bit for bit`(type: CacheType) throws {
    let layout = PromptFile.Layout(prompt: [3, 2, 1], text, type)
    let cache = cache([3, 2, 1], type)
    let count = try #require(try write(layout, cache))
    #expect(try Data(contentsOf: folder.url.appending(path: "file")).count == count)
    #expect(count <= layout.byteCount(key: Self.key, fields: 64) && count > layout.payloadCount)
    let file = try read(layout)
    #expect(try file.floats().values.map(\.bitPattern) == [1.5, -0.0, Float.nan].map(\.bitPattern))
    let read = try file.cache(nextPositions: [8, 9, 10], reservedRows: 5)
    #expect(read.lengths == [3, 2, 1] && bits(read) == bits(cache))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
  }

  @Test func `a prefix has the layers before the first drop, and hidden states unless there is none`() throws {
    for depth in [1, 3] {
      let layout = PromptFile.Layout(prefix: 2, depth: depth, text, .bf16)
      let cache = cache(Array(repeating: 2, count: depth), .bf16)
      _ = try PromptFile.write(
        layout, floats: { SharedBytes(copying: (0..<8).map { Float($0) }) }, cache, fields: [:], key: Self.key,
        to: folder.path("file"))
      let file = try read(layout)
      #expect(try file.floats().values == (depth == 3 ? [] : (0..<8).map { Float($0) }))
      let read = try file.cache(nextPositions: [8, 9, 10], reservedRows: 0)
      #expect(bits(read) == bits(cache) && read.lengths == (depth == 3 ? [2, 2, 2] : [2, 0, 0]))
    }
  }

  @Test func `does not write a file that another process is writing`() throws {
    let other = try AtomicFile(folder.path("file"))
    let isTaken = other != nil
    #expect(isTaken)
    #expect(try write(PromptFile.Layout(prompt: [1, 1, 1], text, .f32), cache([1, 1, 1], .f32)) == nil)
  }

  @Test(arguments: CacheType.allCases)
  func `detects every changed byte and every truncation`(type: CacheType) throws {
    let layout = PromptFile.Layout(prompt: [2, 1, 1], text, type)
    try write(layout, cache([2, 1, 1], type))
    let bytes = [UInt8](try Data(contentsOf: folder.url.appending(path: "file")))
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 1 << UInt8(index % 8)
      try folder.write("changed", changed)
      #expect(throws: CacheFileError.self, "byte \(index)") { try read(layout, "changed") }
      try folder.write("cut", bytes.prefix(index))
      #expect(throws: CacheFileError.self, "\(index) bytes") { try read(layout, "cut") }
    }
    try folder.write("longer", bytes + [0])
    #expect(throws: CacheFileError.self) { try read(layout, "longer") }
  }

  @Test func `refuses a file of another key, other rows, another type or other layers`() throws {
    let layout = PromptFile.Layout(prompt: [2, 1, 1], text, .bf16)
    try write(layout, cache([2, 1, 1], .bf16))
    _ = try read(layout)
    #expect(throws: CacheFileError.self) { try read(layout, key: "tokens 1 3, model") }
    #expect(throws: CacheFileError.missing) { try read(layout, "none") }
    var wider = text
    wider.headDimension = 4
    for other in [
      PromptFile.Layout(prompt: [1, 2, 1], text, .bf16), .init(prompt: [2, 1, 1], text, .f32),
      .init(prompt: [2, 1, 1], text, .int8), .init(prompt: [2, 1, 1, 1], text, .bf16),
      .init(prompt: [2, 1], text, .bf16), .init(prompt: [2, 1, 1], wider, .bf16),
      .init(prefix: 2, depth: 1, text, .bf16),
    ] { #expect(throws: CacheFileError.self) { try read(other) } }
    // A sparse file of 1 TiB, which must take no memory.
    let long = try folder.write("long", "x")
    #expect(unsafe truncate(long, 1 << 40) == 0)
    #expect(throws: CacheFileError.self) { try read(layout, "long") }
  }

  @Test func `drops are replayed from their kept tokens, and impossible ones are refused`() throws {
    let plan = try DropPlan(
      PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25])), layerCount: 3, visualTokenCounts: [4, 8])
    let layout = try #require(SequenceLayout([1, 9, 2, 9, 3], placeholder: 9, visualTokenCounts: [4, 8]))
    #expect(layout.rowCount == 15 && layout.visualSpans == [[1, 4], [6, 8]])
    #expect(SequenceLayout([1, 9], placeholder: 9, visualTokenCounts: []) == nil)
    let kept = [[[0, 3], [1, 2, 5, 7]], [[3], [2, 7]]]
    let drops = try #require(plan.replayed(on: layout, keeping: kept))
    #expect(drops.nextPositions == [15, 9, 6])
    #expect(drops.results.map(\.tokensBefore) == [15, 9] && drops.results.map(\.tokensAfter) == [9, 6])
    #expect(drops.results[1].images.map(\.start) == [1, 4] && drops.results[1].images.map(\.kept) == kept[1])
    for other in [
      [], [kept[0]], kept + [kept[1]], [kept[0], [[1], [2, 7]]], [kept[0], [[3], [7, 2]]], [kept[0], [[3], [2]]],
      [[[0, 3]], [[3]]], [[[0, 4], [1, 2, 5, 7]], kept[1]],
    ] { #expect(plan.replayed(on: layout, keeping: other) == nil) }
  }
}
