import CKernels

/// A type of block-quantized weights, as in GGUF files: blocks of consecutive weights of a row with shared scales.
///
/// Source: ggml's `ggml-common.h`. Raw values are ggml's names.
package enum BlockType: String, Sendable, CaseIterable {
  case q4zero = "Q4_0"
  case q4one = "Q4_1"
  case q5zero = "Q5_0"
  case q5one = "Q5_1"
  case q8zero = "Q8_0"
  case q2K = "Q2_K"
  case q3K = "Q3_K"
  case q4K = "Q4_K"
  case q5K = "Q5_K"
  case q6K = "Q6_K"
  case iq4NL = "IQ4_NL"
  case iq4XS = "IQ4_XS"

  /// The C enumerator; its value is the tensor type of GGUF.
  var code: pdrop_block_type {
    switch self {
    case .q4zero: pdrop_q4_0
    case .q4one: pdrop_q4_1
    case .q5zero: pdrop_q5_0
    case .q5one: pdrop_q5_1
    case .q8zero: pdrop_q8_0
    case .q2K: pdrop_q2_k
    case .q3K: pdrop_q3_k
    case .q4K: pdrop_q4_k
    case .q5K: pdrop_q5_k
    case .q6K: pdrop_q6_k
    case .iq4NL: pdrop_iq4_nl
    case .iq4XS: pdrop_iq4_xs
    }
  }

  /// The tensor type in GGUF files.
  package var ggufNumber: UInt32 { code.rawValue }

  /// Weights per block: 32 or 256.
  package var valuesPerBlock: Int { Int(pdrop_block_values(code)) }

  /// Bytes per block.
  package var bytesPerBlock: Int { pdrop_block_bytes(code) }

  /// Bits per weight, scales included.
  package var bitsPerWeight: Double { 8 * Double(bytesPerBlock) / Double(valuesPerBlock) }

  /// The type that the kernels for few rows read: the type itself, or Q8_0.
  ///
  /// Q5_0 and IQ4_NL become Q8_0 without a change, and so does Q3_K, except for blocks in which a code times its scale
  /// is 128. The others are rounded to 8 bits.
  package var packedType: BlockType {
    switch self {
    case .q4zero, .q8zero, .q4K, .q5K, .q6K: self
    case .q4one, .q5zero, .q5one, .q2K, .q3K, .iq4NL, .iq4XS: .q8zero
    }
  }

  /// The type that weights are converted to for matmuls; `nil` if the kernels read the type itself.
  package var conversion: BlockType? { packedType == self ? nil : packedType }
}

/// The type of the values of a stored tensor.
package enum StoredType: Sendable, Hashable {
  case floats(ElementType)
  case blocks(BlockType)

  /// The type with a name in files: that of safetensors for floats, that of ggml for blocks.
  package init?(name: String) {
    if let element = ElementType(rawValue: name) {
      self = .floats(element)
    } else if let blocks = BlockType(rawValue: name) {
      self = .blocks(blocks)
    } else {
      return nil
    }
  }

  package var name: String {
    switch self {
    case .floats(let element): element.rawValue
    case .blocks(let type): type.rawValue
    }
  }

  /// The number of values that are stored together, 1 for floats.
  package var valuesPerBlock: Int {
    switch self {
    case .floats: 1
    case .blocks(let type): type.valuesPerBlock
    }
  }

  /// The bytes of `count` values.
  ///
  /// - Precondition: `count` is a multiple of `valuesPerBlock`.
  package func byteCount(_ count: Int) -> Int {
    switch self {
    case .floats(let element): count * element.byteCount
    case .blocks(let type):
      // Division first, so that the product is at most the size of a file that holds the values.
      count / type.valuesPerBlock * type.bytesPerBlock
    }
  }
}
