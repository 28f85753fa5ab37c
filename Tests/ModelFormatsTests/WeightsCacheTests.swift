import Foundation
import Kernels
import ModelFormats
import Storage
import Testing

@Suite struct WeightsCacheTests {
  @Test(arguments: [
    (ElementType.f32, ComputeType.int8), (.f16, .int8), (.bf16, .int8), (.f32, .bf16), (.f16, .bf16),
  ])
  func `stores the bytes of a conversion`(element: ElementType, computeType: ComputeType) throws {
    let model = try CachedModel(element)
    let expected = try model.load(computeType, cacheIn: nil).weights
    let first = try model.load(computeType)
    #expect(first.weights == expected)
    guard case .written(let file, let byteCount, .missing) = first.outcome else {
      Issue.record("\(String(describing: first.outcome))")
      return
    }
    #expect(file == (try model.cachePath()))
    #expect(byteCount == (try Data(contentsOf: URL(filePath: file)).count))
    let second = try model.load(computeType)
    #expect(second.weights == expected)
    #expect(second.outcome == .used(file: file, byteCount: byteCount))
  }

  @Test(arguments: [ElementType.f32, .f16], [BlockType.q4K, .q8zero])
  func `stores the bytes of blocks`(element: ElementType, blockType: BlockType) throws {
    let model = try CachedModel(element, layers: CachedModel.blockLayers)
    let expected = try model.load(.blocks, blockType: blockType, cacheIn: nil).weights
    let first = try model.load(.blocks, blockType: blockType, cacheIn: model.cacheFolder)
    #expect(first.weights == expected)
    guard case .written(let file, let byteCount, .missing) = first.outcome else {
      Issue.record("\(String(describing: first.outcome))")
      return
    }
    // Layer d, whose rows are not whole blocks, is used as stored.
    let names = try Set(SafetensorsFile(file).records.keys).filter { $0.hasPrefix("x.") }
    let short = blockType == .q4K ? "Q4_0" : "Q8_0"
    let types = ["a": "\(short).5", "b": "\(blockType.rawValue).64", "c": "\(blockType.rawValue).17"]
    #expect(names == Set(types.map { "x.\($0.key).weight.\($0.value)" }))
    let second = try model.load(.blocks, blockType: blockType, cacheIn: model.cacheFolder)
    #expect(second.weights == expected)
    #expect(second.outcome == .used(file: file, byteCount: byteCount))
  }

  @Test func `a damaged file of blocks is rebuilt`() throws {
    let model = try CachedModel(layers: CachedModel.blockLayers)
    let expected = try model.load(.blocks).weights
    let path = try model.cachePath()
    let bytes = try Data(contentsOf: URL(filePath: path))
    for name in ["x.b.weight.Q4_K.64", "x.c.weight.Q4_K.17"] {
      let place = try #require(try SafetensorsFile(path).records[name]?.bytes.lowerBound)
      var changed = bytes
      changed[place] ^= 1
      try writeKeepingTime(path, changed)
      let rebuilt = try model.load(.blocks)
      #expect(rebuilt.weights == expected)
      guard case .written(_, _, .damaged("the checksum of '\(name)' is wrong")) = rebuilt.outcome else {
        Issue.record("\(String(describing: rebuilt.outcome))")
        continue
      }
      guard case .used = try model.load(.blocks).outcome else {
        Issue.record("not used")
        continue
      }
    }
  }

  @Test(arguments: [(ComputeType.int8, ComputeType.blocks), (.blocks, .int8), (.bf16, .blocks)])
  func `a file of another compute type is rebuilt`(before: ComputeType, after: ComputeType) throws {
    let model = try CachedModel(layers: CachedModel.blockLayers)
    let expected = try model.load(after, cacheIn: nil).weights
    let path = try { () throws in
      _ = try model.load(before)
      return try model.cachePath()
    }()
    _ = try model.load(after)
    let names = try FileManager.default.contentsOfDirectory(atPath: model.cacheFolder)
    #expect(names.count == 2)
    let other = try #require(names.first { !path.hasSuffix($0) })
    try Data(contentsOf: URL(filePath: path)).write(to: URL(filePath: model.cacheFolder + "/" + other))
    let rebuilt = try model.load(after)
    #expect(rebuilt.weights == expected)
    guard case .written(_, _, .damaged) = rebuilt.outcome else {
      Issue.record("\(String(describing: rebuilt.outcome))")
      return
    }
    guard case .used = try model.load(after).outcome else {
      Issue.record("not used")
      return
    }
  }

  @Test(arguments: [(ElementType.bf16, ComputeType.bf16), (.f16, .f32)])
  func `creates no folder for weights that are used as stored`(element: ElementType, computeType: ComputeType) throws {
    let model = try CachedModel(element)
    #expect(try model.load(computeType).outcome == .notNeeded)
    #expect(!FileManager.default.fileExists(atPath: model.cacheFolder))
  }

  @Test func `is rebuilt if the weights have changed`() throws {
    let model = try CachedModel()
    let before = try model.load()
    let time = try modificationDate(model.weightsPath)
    // Other values in a file of the same size and time, as with another fine-tuned model from an archive.
    try model.writeWeights(seed: 2)
    try setModificationDate(model.weightsPath, time)
    try expectRebuilt(model, .otherWeights)
    #expect(try model.load().weights != before.weights)
    // The same file with a new modification time.
    try setModificationDate(model.weightsPath, time.addingTimeInterval(1))
    try expectRebuilt(model, .otherWeights)
  }

  @Test func `is rebuilt if it has another version`() throws {
    let model = try CachedModel()
    _ = try model.load()
    let path = try model.cachePath()
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let version = try #require(bytes.firstRange(of: Array("pdrop-weights 2".utf8)))
    bytes[version.upperBound - 1] = UInt8(ascii: "0")
    try Data(bytes).write(to: URL(filePath: path))
    try expectRebuilt(model, .otherVersion)
  }

  @Test func `is rebuilt if it is damaged`() throws {
    let model = try CachedModel()
    _ = try model.load()
    let path = try model.cachePath()
    let bytes = try Data(contentsOf: URL(filePath: path))
    try writeKeepingTime(path, bytes.dropLast(64))
    guard case .written(_, _, .damaged) = try model.load().outcome else {
      Issue.record("not written")
      return
    }
    try writeKeepingTime(path, bytes.prefix(bytes.count / 2) + [1] + bytes.dropFirst(bytes.count / 2 + 1))
    try expectRebuilt(model, .damaged("the checksum of 'x.b.weight' is wrong"))
  }

  @Test func `is refused if it is truncated or any bit is wrong`() throws {
    let model = try CachedModel()
    _ = try model.load()
    let path = try model.cachePath()
    let file = try SafetensorsFile(path)
    let key = try #require(file.metadata["key"])
    func isValid() -> Bool { (try? WeightsCacheFile(path, key: key, workers: Workers(count: 1))) != nil }
    #expect(isValid())
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    for count in [0, 1, 7, 8, 100, bytes.count / 2, bytes.count - 64, bytes.count - 1] {
      try writeKeepingTime(path, bytes.prefix(count))
      #expect(!isValid(), "truncated to \(count)")
    }
    try writeKeepingTime(path, bytes + [0])
    #expect(!isValid(), "one more byte")
    let payload = file.payload.lowerBound
    for index in Array(0..<payload) + Array(stride(from: payload, to: bytes.count, by: 31)) {
      var changed = bytes
      changed[index] ^= 1 << UInt8(index % 8)
      try writeKeepingTime(path, changed)
      #expect(!isValid(), "byte \(index)")
    }
  }

  @Test func `checks large weights if the file was modified`() throws {
    let model = try CachedModel(.f16, layers: [("a", 1024, 1025)])
    _ = try model.load()
    let path = try model.cachePath()
    let expected = try model.load().weights
    let copy = try Data(contentsOf: URL(filePath: path))
    // Complete, but with another modification time.
    try copy.write(to: URL(filePath: path))
    #expect(try model.load().outcome == .used(file: path, byteCount: copy.count))
    var changed = [UInt8](copy)
    changed[copy.count / 2] ^= 1
    try Data(changed).write(to: URL(filePath: path))
    let rebuilt = try model.load()
    #expect(rebuilt.weights == expected)
    guard case .written(_, _, .damaged("the checksum of 'x.a.weight' is wrong")) = rebuilt.outcome else {
      Issue.record("\(String(describing: rebuilt.outcome))")
      return
    }
  }

  @Test func `reports a failure if nothing can be written`() throws {
    let model = try CachedModel()
    let expected = try model.load(cacheIn: nil).weights
    for directory in [model.weightsPath, model.weightsPath + "/x", "/dev/null"] {
      let (weights, outcome) = try model.load(cacheIn: directory)
      #expect(weights == expected)
      guard case .failed = outcome else {
        Issue.record("\(directory): \(String(describing: outcome))")
        continue
      }
    }
  }

  @Test func `is used from a read-only folder`() throws {
    let model = try CachedModel()
    _ = try model.load()
    let manager = FileManager.default
    try manager.setAttributes([.posixPermissions: 0o555], ofItemAtPath: model.cacheFolder)
    defer { try? manager.setAttributes([.posixPermissions: 0o755], ofItemAtPath: model.cacheFolder) }
    guard case .used = try model.load().outcome else {
      Issue.record("not used")
      return
    }
  }

  @Test func `does not write while another writer has the file`() throws {
    let model = try CachedModel()
    let expected = try model.load().weights
    let path = try model.cachePath()
    try FileManager.default.removeItem(atPath: path)
    let writer = try AtomicFile(path)
    let (weights, outcome) = try model.load()
    #expect(weights == expected && outcome == .leftToAnother(file: path))
    _ = consume writer
    try expectRebuilt(model, .missing)
  }

  @Test func `serves concurrent loads`() async throws {
    let model = try CachedModel()
    let expected = try model.load(cacheIn: nil).weights
    let all = try await withThrowingTaskGroup(of: [[UInt8]].self) { group in
      for _ in 0..<16 { group.addTask { try model.load().weights } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(all.count == 16 && all.allSatisfy { $0 == expected })
    guard case .used(try model.cachePath(), _) = try model.load().outcome else {
      Issue.record("not used")
      return
    }
  }

  // MARK: - Helpers

  private func modificationDate(_ path: String) throws -> Date {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date)
  }

  private func setModificationDate(_ path: String, _ date: Date) throws {
    try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: path)
  }

  /// Overwrites a file and restores its modification time, so that it appears unmodified.
  private func writeKeepingTime(_ path: String, _ bytes: some Sequence<UInt8>) throws {
    let time = try modificationDate(path)
    try Data(bytes).write(to: URL(filePath: path))
    try setModificationDate(path, time)
  }

  /// Expects that the cache is rebuilt for this reason, and used from then on.
  private func expectRebuilt(
    _ model: CachedModel, _ reason: WeightsCacheError, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let expected = try model.load(cacheIn: nil).weights
    let (weights, outcome) = try model.load()
    #expect(weights == expected, sourceLocation: sourceLocation)
    if case .written(_, _, let found) = outcome {
      #expect(found == reason, sourceLocation: sourceLocation)
    } else {
      Issue.record("\(String(describing: outcome))", sourceLocation: sourceLocation)
    }
    let (again, next) = try model.load()
    #expect(again == expected, sourceLocation: sourceLocation)
    if case .used = next {} else { Issue.record("\(String(describing: next))", sourceLocation: sourceLocation) }
  }
}
