package import Kernels
package import Storage

/// A mapped file of named tensors, whose every offset, shape and type has been checked.
package protocol WeightFile: Sendable {
  var path: String { get }
  var records: [String: TensorInfo] { get }
  /// The file's bytes, which the records' ranges count in.
  var storage: SharedBytes { get }

  /// - Throws: `CheckpointError` naming the file and what is wrong with it.
  init(_ path: String) throws(CheckpointError)
}

/// Where a tensor lies: its type's name, shape and byte range in the file.
package struct TensorInfo: Sendable, Equatable {
  /// The type as safetensors names it, such as `BF16`.
  package let elementName: String
  package let shape: [Int]
  package let bytes: Range<Int>
  /// Steps between elements, in elements, of a tensor that does not lie row after row; `bytes` is then all it may touch.
  package var strides: [Int]?

  /// Bits of a tensor, or nil where there is no such shape.
  static func bitCount(shape: [Int], width: Int) -> Int? {
    var bits = width
    for size in shape {
      // An empty axis does not excuse the others: whoever multiplies some of them must not overflow.
      let (product, overflow) = bits.multipliedReportingOverflow(by: max(size, 1))
      guard size >= 0, !overflow else { return nil }
      bits = product
    }
    return shape.contains(0) ? 0 : bits
  }
}

extension WeightFile {
  /// A tensor of floats by its stored name.
  package func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let record = records[name] else { throw .missingTensor(name: name, directory: path) }
    guard let element = ElementType(rawValue: record.elementName) else {
      throw .unsupportedElement(name: name, found: record.elementName, file: path)
    }
    if let strides = record.strides {
      throw .stridedTensor(name: name, shape: record.shape, strides: strides, file: path)
    }
    return Tensor(storage, offset: record.bytes.lowerBound, shape: record.shape, element: element)
  }
}

/// The published spellings of LLaVA's parameter names, brought to one.
///
/// The one spelling is that of the `llava-hf` checkpoints as first published (`language_model.model.layers.0…`). Newer
/// versions of the reference library write `model.language_model.layers.0…`, the original LLaVA code `model.layers.0…`. No
/// name of one spelling means another thing in another, so there is one table for all.
enum ParameterNames {
  private static let prefixes = [
    // Newer versions of the reference library.
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
    // The original code. Its vision encoder is a module in a module, so the longer prefix goes before the newer library's.
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.vision_tower.", "vision_tower."),
    ("model.embed_tokens.", "language_model.model.embed_tokens."),
    ("model.layers.", "language_model.model.layers."),
    ("model.norm.", "language_model.model.norm."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
  ]

  /// The one name of a stored parameter.
  static func canonical(_ stored: String) -> String {
    for (prefix, replacement) in prefixes where stored.hasPrefix(prefix) {
      return replacement + stored.dropFirst(prefix.count)
    }
    return stored
  }

  /// Whether a stored tensor is a constant that models compute for themselves.
  static func isComputedBuffer(_ name: String) -> Bool {
    name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".embeddings.position_ids")
  }
}

/// The checksums at the end of a safetensors file of ours, its last tensor: `xxh64` in `U64`, which has that of the header with
/// its size, then that of each tensor before it.
package enum TensorChecksums {
  package static let name = "xxh64"

  /// A part of a file, and its checksum as the file says.
  package struct Piece {
    package var name: String
    package var bytes: Range<Int>
    package var checksum: UInt64
  }

  /// The header and the tensors in the order of the file; `nil` where there is not a checksum for each.
  package static func pieces(of file: SafetensorsFile) -> [Piece]? {
    let tensors = file.records.sorted { $0.value.bytes.lowerBound < $1.value.bytes.lowerBound }
    guard let last = tensors.last, last.key == name, last.value.elementName == "U64",
      last.value.shape == [tensors.count]
    else { return nil }
    let pieces =
      [("the header", 0..<file.payload.lowerBound)] + tensors.dropLast().map { ("'\($0.key)'", $0.value.bytes) }
    return zip(pieces, file.storage.words(last.value.bytes)).map { Piece(name: $0.0, bytes: $0.1, checksum: $1) }
  }

  /// The bytes of a whole file.
  ///
  /// - Parameters:
  ///   - header: Of the tensors; that of the checksums is added here.
  ///   - alignment: The tensors begin at a multiple of so many bytes.
  ///   - path: The file, for errors.
  package static func file(
    _ header: SafetensorsHeader, _ tensors: [SharedBytes], alignment: Int, path: String, _ workers: Workers
  ) throws(FileError) -> [SharedBytes] {
    var header = header
    let count = 1 + tensors.count
    header.add(name, "U64", [count], byteCount: 8 * count)
    let front: SharedBytes
    do { front = SharedBytes(copying: try header.encoded(alignment: alignment)) } catch {
      throw .unwritable(path: path, reason: "\(error)")
    }
    let pieces = [front] + tensors
    let checksums = workers.map(tasks: pieces.count) { pieces[$0].checksum }
    return pieces + [SharedBytes(copying: checksums.map(\.littleEndian))]
  }
}

extension SharedBytes {
  /// 64-bit numbers, low byte first.
  fileprivate func words(_ range: Range<Int>) -> [UInt64] {
    let bytes = copy(range)
    return stride(from: 0, to: bytes.count - 7, by: 8).map { start in
      bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
