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
    let choice = (isSmall ? .f32 : precision.kernels).choice(on: processor)
    let unquantized =
      choice.computeType == .int8 ? Kernels.Precision.auto.choice(on: processor).computeType : choice.computeType
    let visionEncoder = vision == .auto ? unquantized : vision.kernels.choice(on: processor).computeType
    computeType = ModelComputeTypes(decoder: choice.computeType, vision: visionEncoder, head: unquantized)
    switch cache {
    case .auto: cacheElement = choice.computeType == .f32 ? .f32 : .bf16
    case .f32: cacheElement = .f32
    case .bf16: cacheElement = .bf16
    }
    name = choice.computeType.rawValue
    library = choice.library
    var reason = choice.reason
    if isSmall { reason += ", as the model is small" }
    if visionEncoder != choice.computeType || unquantized != choice.computeType {
      reason += "; vision encoder in \(visionEncoder.rawValue), head in \(unquantized.rawValue)"
    }
    if cacheElement == .bf16 { reason += "; keys and values in bf16" }
    self.reason = reason
  }
}

extension Precision {
  fileprivate var kernels: Kernels.Precision {
    switch self {
    case .auto: .auto
    case .f32: .f32
    case .bf16: .bf16
    case .int8: .int8
    }
  }
}
