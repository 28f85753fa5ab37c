package import Kernels
package import LLaVA
package import ModelFormats
import Storage

/// The requested compute type of a model.
public enum Precision: String, CaseIterable, Sendable {
  /// Weights that are stored in blocks, as they are. For floats, the fastest type without quantization: bf16 for large
  /// models on processors that support it, else f32. If memory has no room for it, int8 or int4.
  case auto
  case f32
  case bf16
  /// Decoder layers and vision encoder in int8, with one scale per output and one per row; the output head is not
  /// quantized.
  case int8
  /// Decoder layers in 4-bit blocks (Q4_K), the output head in 6-bit blocks (Q6_K); the vision encoder in int8.
  /// Weights that are stored in blocks keep their type.
  case int4

  /// The requested compute type; `nil` for `auto`.
  package var computeType: ComputeType? { self == .int4 ? .blocks : ComputeType(rawValue: rawValue) }
}

/// The requested data type of the KV cache.
public enum CachePrecision: String, CaseIterable, Sendable {
  /// f32 if the decoder computes in f32, int8 for 4-bit weights, otherwise bf16.
  case auto
  case f32
  /// Half the bytes of f32; a row is rounded once, when it joins the cache.
  case bf16
  /// About a quarter of the bytes of f32: integers, with a scale for each row and head.
  case int8

  /// The requested type; `nil` for `auto`.
  package var type: CacheType? { CacheType(rawValue: rawValue) }
}

/// The requested data type of attention scores in prompts and in the vision encoder.
public enum ScorePrecision: String, CaseIterable, Sendable {
  /// int8 if decoder and vision encoder have int8 or 4-bit weights, on processors that compute it faster: with VNNI, but
  /// without AMX.
  case auto
  /// bf16 on processors with AVX512_BF16 or AMX, otherwise f32.
  case float
  /// Queries and keys in int8, with a scale for each row and head, on processors with VNNI. Parts that are computed in
  /// f32 keep f32 scores.
  case int8
}

/// The compute types of a loaded model and the reason for the choice.
public struct ModelPrecision: Sendable, Equatable {
  /// Compute type of the decoder: `f32`, `bf16`, `int8`, `int4`, or the type of the stored blocks, such as `Q4_K`.
  public let name: String
  /// Explanation in one line: the library, and why the requested type is not used.
  public let reason: String
  /// Library of the prefill matmuls, such as `oneDNN 2.6.3`, or our own kernels.
  public let library: String
  /// Reason why `auto` quantizes weights that are stored as floats; `nil` if it does not.
  public let memoryNote: String?
  package let computeType: ModelComputeTypes
  /// Data type of the KV cache.
  package let cacheType: CacheType

  /// Bytes of weights below which matmuls are too small to gain from bf16, and f32 is fast enough.
  static let largeModelBytes = 256 << 20

  /// - Parameters:
  ///   - precision: Requested type of the decoder.
  ///   - vision: Requested type of vision encoder and projector; `auto` follows the decoder, in int8 for blocks.
  ///   - cache: Requested type of the KV cache.
  ///   - scores: Requested type of attention scores.
  ///   - weights: The weights as stored.
  ///   - memory: Available memory in bytes; `nil` if it cannot be determined.
  ///   - processor: The processor that the types are chosen for.
  package init(
    _ precision: Precision, vision: Precision = .auto, cache: CachePrecision = .auto,
    scores: ScorePrecision = .auto, weights: StoredWeights, memory: Int? = SystemMemory().available,
    on processor: Processor = .current
  ) {
    let isSmall = precision == .auto && weights.byteCount < Self.largeModelBytes
    // Stored blocks keep their type for int4 too.
    let keepsBlocks = (precision == .auto && !isSmall || precision == .int4) && weights.isBlockQuantized
    var request = isSmall ? .f32 : precision.computeType
    var fallback: String?
    if keepsBlocks {
      request = .blocks
    } else if precision == .auto, !isSmall, let memory {
      (request, fallback) = Self.fitting(weights, in: memory, on: processor)
    }
    let choice = ComputeType.best(for: request, on: processor)
    let isQuantized = choice.computeType == .int8 || choice.computeType == .blocks
    let unquantized = isQuantized ? ComputeType.best(for: nil, on: processor).computeType : choice.computeType
    let visionRequest = vision == .auto ? (isQuantized ? .int8 : unquantized) : vision.computeType
    let visionEncoder = ComputeType.best(for: visionRequest, on: processor).computeType
    let usesBlocks = choice.computeType == .blocks
    computeType = ModelComputeTypes(
      decoder: choice.computeType, vision: visionEncoder,
      head: usesBlocks && (!keepsBlocks || precision == .int4 || weights.headHasBlocks) ? .blocks : unquantized,
      // In a file of blocks, weights that are floats are meant to be precise.
      blocks: keepsBlocks && precision == .auto ? .q8zero : .q4K,
      scores: Self.scores(scores, [choice.computeType, visionEncoder], on: processor))
    cacheType =
      cache.type
      ?? (choice.computeType == .f32 ? .f32 : choice.computeType == .blocks ? .int8 : .bf16)
    name =
      switch choice.computeType {
      case .blocks: keepsBlocks ? weights.blockTypes.first?.rawValue ?? "Q8_0" : Precision.int4.rawValue
      default: choice.computeType.rawValue
      }
    library = choice.library
    memoryNote = fallback
    var reason = choice.summary(name, note: isSmall ? "auto chose f32: weights < 256 MB" : fallback)
    if usesBlocks, let conversions = Self.conversions(weights.blockTypes) { reason += "; \(conversions)" }
    if visionEncoder != choice.computeType || computeType.head != choice.computeType {
      let head = computeType.head == .blocks ? "blocks" : computeType.head.rawValue
      reason += "; vision encoder in \(visionEncoder.rawValue), head in \(head)"
    }
    if cacheType != .f32 { reason += "; KV cache in \(cacheType.rawValue)" }
    if computeType.scores == .int8 { reason += "; attention scores in int8" }
    self.reason = reason
  }

  /// The compute type of `auto` for weights that are floats: `nil` for the fastest one without quantization, or a
  /// quantized one and the reason.
  private static func fitting(
    _ weights: StoredWeights, in memory: Int, on processor: Processor
  ) -> (request: ComputeType?, reason: String?) {
    // Room for activations, the KV cache of a prompt and the program.
    let others = 1 << 30
    let unquantized = ComputeType.best(for: nil, on: processor).computeType
    let bytes = unquantized == .bf16 ? 2 * weights.valueCount : weights.byteCount
    guard bytes + others > memory else { return (nil, nil) }
    let quantized: Precision = weights.valueCount + others <= memory ? .int8 : .int4
    return (
      quantized.computeType,
      "auto chose \(quantized.rawValue): \(unquantized.rawValue) needs \(gigabytes(bytes + others)) of memory, "
        + "\(gigabytes(memory)) are available"
    )
  }

  /// The type of attention scores for a request, and for the compute types of the parts with attention.
  private static func scores(
    _ request: ScorePrecision, _ types: [ComputeType], on processor: Processor
  ) -> ScoreType {
    let isInt8 =
      switch request {
      case .auto:
        types.allSatisfy { $0 == .int8 || $0 == .blocks }
          && [.avx512VNNI, .avx512BF16].contains(processor.instructions)
      case .float: false
      case .int8: types != [.f32, .f32] && processor.instructions >= .avx512VNNI
      }
    return isInt8 ? .int8 : .float
  }

  /// The type of attention scores as a part of the key of a cache; none for floats.
  var scoresKey: [String] { computeType.scores == .int8 ? ["attention scores int8"] : [] }

  private static func gigabytes(_ bytes: Int) -> String {
    let tenths = bytes / 100_000_000
    return "\(tenths / 10).\(tenths % 10) GB"
  }

  /// The conversions of block types that the kernels do not read, as a text; `nil` if there are none.
  private static func conversions(_ types: [BlockType]) -> String? {
    let converted = types.compactMap { type in type.conversion.map { "\(type.rawValue) as \($0.rawValue)" } }
    return converted.isEmpty ? nil : "computes \(converted.sorted().joined(separator: ", "))"
  }
}
