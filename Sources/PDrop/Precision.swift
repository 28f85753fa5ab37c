package import Kernels
package import LLaVA

/// The requested compute type of a model.
public enum Precision: String, CaseIterable, Sendable {
  /// The fastest type without quantization: bf16 for large models on processors that support it, otherwise f32.
  case auto
  case f32
  case bf16
  /// Decoder layers in int8, with one scale per output and one per row; head and vision encoder are not quantized.
  case int8

  /// `nil` for `auto`.
  package var computeType: ComputeType? { ComputeType(rawValue: rawValue) }
}

/// The requested data type of the KV cache.
public enum CachePrecision: String, CaseIterable, Sendable {
  /// f32 if the decoder computes in f32, otherwise bf16.
  case auto
  case f32
  /// Half the bytes of f32; a row is rounded once, when it joins the cache.
  case bf16
}

/// The compute types of a loaded model and the reason for the choice.
public struct ModelPrecision: Sendable, Equatable {
  /// Compute type of the decoder: `f32`, `bf16` or `int8`.
  public let name: String
  /// Explanation in one line: the library, and why the requested type is not used.
  public let reason: String
  /// Library of the prefill matmuls, such as `oneDNN 2.6.3`.
  public let library: String
  package let computeType: ModelComputeTypes
  /// Element type of the KV cache.
  package let cacheElement: ElementType

  /// Bytes of weights below which matmuls are too small to gain from bf16, and f32 is fast enough.
  static let largeModelBytes = 256 << 20

  /// - Parameters:
  ///   - precision: Requested type of the decoder.
  ///   - vision: Requested type of vision encoder and projector; `auto` follows the decoder, but does not quantize.
  ///   - cache: Requested type of the KV cache.
  ///   - weightBytes: Bytes of the weights as stored.
  init(
    _ precision: Precision, vision: Precision, cache: CachePrecision = .auto, weightBytes: Int,
    on processor: Processor = .current
  ) {
    let isSmall = precision == .auto && weightBytes < Self.largeModelBytes
    let choice = ComputeType.best(for: isSmall ? .f32 : precision.computeType, on: processor)
    let unquantized =
      choice.computeType == .int8 ? ComputeType.best(for: nil, on: processor).computeType : choice.computeType
    let visionEncoder =
      vision == .auto ? unquantized : ComputeType.best(for: vision.computeType, on: processor).computeType
    computeType = ModelComputeTypes(decoder: choice.computeType, vision: visionEncoder, head: unquantized)
    switch cache {
    case .auto: cacheElement = choice.computeType == .f32 ? .f32 : .bf16
    case .f32: cacheElement = .f32
    case .bf16: cacheElement = .bf16
    }
    name = choice.computeType.rawValue
    library = choice.library
    var reason = choice.summary(note: isSmall ? "auto chose f32: weights < 256 MB" : nil)
    if visionEncoder != choice.computeType || unquantized != choice.computeType {
      reason += "; vision encoder in \(visionEncoder.rawValue), head in \(unquantized.rawValue)"
    }
    if cacheElement == .bf16 { reason += "; KV cache in bf16" }
    self.reason = reason
  }
}
