#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// The header of a safetensors file that is being put together.
struct SafetensorsHeader {
  private enum Member: Encodable {
    case tensor(Tensor)
    case metadata([String: String])

    struct Tensor: Encodable {
      var dtype: String
      var shape: [Int]
      var data_offsets: [Int]
    }

    func encode(to encoder: any Encoder) throws {
      switch self {
      case .tensor(let tensor): try tensor.encode(to: encoder)
      case .metadata(let texts): try texts.encode(to: encoder)
      }
    }
  }

  /// The member of a header that is no tensor, but texts by name.
  static let metadataName = "__metadata__"

  private var members: [String: Member] = [:]
  /// Bytes of all tensors so far.
  private(set) var payloadCount = 0

  /// - Parameter metadata: Texts for whoever reads the file.
  init(metadata: [String: String] = [:]) {
    if !metadata.isEmpty { members[Self.metadataName] = .metadata(metadata) }
  }

  /// Puts a tensor after those before it.
  mutating func add(_ name: String, _ dtype: String, _ shape: [Int], byteCount: Int) {
    let offsets = [payloadCount, payloadCount + byteCount]
    members[name] = .tensor(Member.Tensor(dtype: dtype, shape: shape, data_offsets: offsets))
    payloadCount += byteCount
  }

  /// The file up to its tensors: the header's size, and the header, filled up with spaces.
  ///
  /// - Parameter alignment: The tensors begin at a multiple of so many bytes.
  func encoded(alignment: Int = 8) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var header = [UInt8](try encoder.encode(members))
    let rest = (8 + header.count) % alignment
    if rest > 0 { header += [UInt8](repeating: UInt8(ascii: " "), count: alignment - rest) }
    return (0..<8).map { UInt8(truncatingIfNeeded: UInt64(header.count) >> (8 * $0)) } + header
  }
}
