import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport

/// A checkpoint of a few linear layers, with a folder for its weights cache.
final class CachedModel: Sendable {
  /// Names, outputs and inputs of the layers; some sizes need padding to the next multiple of 64 bytes.
  static let layers = [("a", 5, 7), ("b", 64, 64), ("c", 1, 33)]
  /// Layers for blocks of 32 and of 256 inputs, with rows that do not fill a group, and one that stays floats.
  static let blockLayers = [("a", 5, 96), ("b", 64, 256), ("c", 17, 512), ("d", 3, 33)]

  private let folder: TemporaryFolder
  private let element: ElementType
  private let layers: [(String, Int, Int)]

  init(_ element: ElementType = .f16, layers: [(String, Int, Int)] = CachedModel.layers, seed: UInt64 = 1) throws {
    folder = try TemporaryFolder()
    self.element = element
    self.layers = layers
    try FileManager.default.createDirectory(
      at: folder.url.appending(path: "model"), withIntermediateDirectories: false)
    try writeWeights(seed: seed)
  }

  /// The folder of the cache, created by the cache itself.
  var cacheFolder: String { folder.path("cache/of weights") }
  var weightsPath: String { folder.path("model/model.safetensors") }

  /// The path of the only file of the cache.
  func cachePath() throws -> String {
    let names = try FileManager.default.contentsOfDirectory(atPath: cacheFolder)
    return cacheFolder + "/" + (names.count == 1 ? names[0] : "\(names)")
  }

  func writeWeights(seed: UInt64) throws {
    var numbers = SeededGenerator(seed)
    let names = layers.map { "\"x.\($0.0).weight\"" }
    var (members, payload) = ([String](), [UInt8]())
    for (name, (_, outputs, inputs)) in zip(names, layers) {
      let start = payload.count
      for value in numbers.floats(outputs * inputs) {
        let bits = element == .f32 ? value.bitPattern : UInt32(Float16(value).bitPattern)
        for byte in 0..<element.byteCount { payload.append(UInt8(truncatingIfNeeded: bits >> (8 * UInt32(byte)))) }
      }
      members.append(
        #"\#(name):{"dtype":"\#(element.rawValue)","shape":[\#(outputs),\#(inputs)],"#
          + #""data_offsets":[\#(start),\#(payload.count)]}"#)
    }
    let header = Array("{\(members.joined(separator: ","))}".utf8)
    try folder.write("model/model.safetensors", SafetensorsFixtures.file(header) + payload)
  }

  /// Loads the layers.
  ///
  /// - Parameters:
  ///   - blockType: The type of block that floats are quantized to, for blocks.
  ///   - directory: The folder of the cache, `nil` for no cache.
  func load(
    _ computeType: ComputeType = .int8, blockType: BlockType = .q4K, cacheIn directory: String?
  ) throws -> (weights: [[UInt8]], outcome: WeightsCache.Outcome?) {
    let checkpoint = try Checkpoint(directory: folder.path("model"))
    let workers = Workers(count: 2)
    let cache = directory.map {
      WeightsCache(directory: $0, sources: [checkpoint], computeType: computeType.rawValue, workers: workers)
    }
    let conversion = LinearConversion(to: computeType, blockType: blockType, workers: workers, cache: cache)
    let scope = checkpoint.scope("x", conversion)
    let weights = try layers.map { try scope.linear($0.0, inputs: $0.2, outputs: $0.1).bytes }
    return (weights, cache?.finish())
  }

  func load(_ computeType: ComputeType = .int8) throws -> (weights: [[UInt8]], outcome: WeightsCache.Outcome?) {
    try load(computeType, cacheIn: cacheFolder)
  }
}

extension Linear {
  /// All bytes of the weight.
  fileprivate var bytes: [UInt8] {
    let parts =
      switch weight {
      case .native(let tensor), .bf16(let tensor): [tensor.storedBytes]
      case .blocks(let weights): [weights.groups]
      case .int8(let weights): [weights.numbers, weights.scales, weights.sums]
      }
    return parts.flatMap { $0.copy(0..<$0.count) }
  }
}
