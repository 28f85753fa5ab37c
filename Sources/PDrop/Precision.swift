package import Kernels
package import LLaVA

/// The numbers that a model's weights are multiplied in, as asked for.
public enum Precision: String, CaseIterable, Sendable {
  /// What is fastest without quantising: bf16 for large models where the processor has it, else f32.
  case auto
  case f32
  case bf16
  /// Decoder layers in integers, one scale per output and one per row; head and vision encoder keep more digits.
  case int8
}

/// The numbers that keys and values are kept in between tokens.
public enum CachePrecision: String, CaseIterable, Sendable {
  /// `f32` for a decoder that multiplies in f32, else `bf16`.
  case auto
  case f32
  /// Half the bytes; rounded once, when a row joins the cache.
  case bf16
}

/// What a model multiplies in, and why.
public struct ModelPrecision: Sendable, Equatable {
  /// The decoder's arithmetic: `f32`, `bf16` or `int8`.
  public let name: String
  /// One line: what multiplies, and why not what was asked for.
  public let reason: String
  /// What multiplies the prompt's rows, such as `oneDNN 2.6.3`.
  public let library: String
  package let computeType: ModelComputeTypes
  /// How keys and values are kept.
  package let cacheElement: ElementType

  /// Below this many bytes of weights the products are too small to gain from bf16, and the whole is fast as it is.
  static let largeModelBytes = 256 << 20

  /// - Parameters:
  ///   - precision: For the decoder.
  ///   - vision: For vision encoder and projector; `auto` follows the decoder, but does not quantise.
  ///   - cache: For keys and values.
  ///   - weightBytes: Bytes of the weights as stored.
  init(
    _ precision: Precision, vision: Precision, cache: CachePrecision = .auto, weightBytes: Int,
    on processor: Processor = .current
  ) {
    let isSmall = precision == .auto && weightBytes < Self.largeModelBytes
    let choice = (isSmall ? .f32 : precision.kernels).choice(on: processor)
    let exact =
      choice.computeType == .int8 ? Kernels.Precision.auto.choice(on: processor).computeType : choice.computeType
    let visionEncoder = vision == .auto ? exact : vision.kernels.choice(on: processor).computeType
    computeType = ModelComputeTypes(decoder: choice.computeType, vision: visionEncoder, head: exact)
    switch cache {
    case .auto: cacheElement = choice.computeType == .f32 ? .f32 : .bf16
    case .f32: cacheElement = .f32
    case .bf16: cacheElement = .bf16
    }
    name = choice.computeType.rawValue
    library = choice.library
    var reason = choice.reason
    if isSmall { reason += ", as the model is small" }
    if visionEncoder != choice.computeType || exact != choice.computeType {
      reason += "; vision encoder in \(visionEncoder.rawValue), head in \(exact.rawValue)"
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
