package import Foundation
import Kernels
package import Storage

/// A memory-mapped safetensors file.
///
/// Source: the safetensors format: eight bytes of header size, a JSON header, then the bytes of the tensors without
/// gaps.
package struct SafetensorsFile: WeightFile {
  package let path: String
  package let records: [String: TensorInfo]
  /// The metadata strings of the header, by name.
  package let metadata: [String: String]
  package let storage: SharedBytes
  /// The byte range of the tensors, after the header.
  package let payload: Range<Int>

  /// The maximum header size of the format.
  private static let maxHeaderSize = 100_000_000

  /// Maps a file.
  ///
  /// - Throws: `CheckpointError` with the file and the reason.
  package init(_ path: String) throws(CheckpointError) {
    let storage: SharedBytes
    do { storage = try SharedBytes(mapping: path) } catch { throw .file(error) }
    try self.init(storage, path: path)
  }

  /// Reads a file from memory.
  ///
  /// - Parameters:
  ///   - storage: The bytes of the file.
  ///   - path: The path for errors.
  package init(_ storage: SharedBytes, path: String) throws(CheckpointError) {
    self.storage = storage
    self.path = path
    try GitLFSPointer.refuse(storage, file: path)
    guard storage.count >= 8 else {
      throw .malformed(file: path, reason: "\(storage.count) bytes, too few for a safetensors file")
    }
    let headerSize = storage.copy(0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let largest = min(Self.maxHeaderSize, storage.count - 8)
    guard headerSize <= UInt64(largest) else {
      throw .malformed(
        file: path,
        reason: "the header size is \(headerSize) bytes, expected at most \(largest); "
          + "the file is truncated or not safetensors")
    }
    payload = 8 + Int(headerSize)..<storage.count
    let header = try Header(storage.copy(8..<payload.lowerBound), file: path)
    metadata = header.metadata
    records = try Self.records(header.entries, payload: payload, file: path)
  }

  /// The stored bytes of a tensor of any type.
  package func bytes(_ name: String) throws(CheckpointError) -> [UInt8] {
    guard let info = records[name] else { throw .missingTensor(name: name, directory: path) }
    return storage.copy(info.bytes)
  }

  /// The tensor infos of all entries, which must fill the payload without gaps or overlaps.
  private static func records(
    _ entries: [String: Header.Entry], payload: Range<Int>, file: String
  ) throws(CheckpointError) -> [String: TensorInfo] {
    var records: [String: TensorInfo] = [:]
    for (name, entry) in entries {
      guard let width = bitWidths[entry.dtype] else {
        throw .unsupportedElement(name: name, found: entry.dtype, file: file)
      }
      guard let bits = TensorInfo.bitCount(shape: entry.shape, width: width) else {
        throw .malformed(file: file, reason: "\(name.excerpt) has the impossible shape \(entry.shape.shapeText)")
      }
      let offsets = entry.offsets
      guard offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] <= payload.count else {
        throw .malformed(
          file: file,
          reason: "\(name.excerpt) is at \(offsets) of \(payload.count) bytes; the file is truncated or damaged"
        )
      }
      guard bits.isMultiple(of: 8), bits / 8 == offsets[1] - offsets[0] else {
        throw .malformed(
          file: file,
          reason:
            "\(name.excerpt) has \(offsets[1] - offsets[0]) bytes, expected \(bits / 8) for \(entry.dtype) \(entry.shape.shapeText)"
        )
      }
      records[name] = TensorInfo(
        elementName: entry.dtype, shape: entry.shape,
        bytes: payload.lowerBound + offsets[0]..<payload.lowerBound + offsets[1])
    }
    var end = payload.lowerBound
    let byOffset = records.sorted {
      ($0.value.bytes.lowerBound, $0.value.bytes.upperBound) < ($1.value.bytes.lowerBound, $1.value.bytes.upperBound)
    }
    for (name, info) in byOffset {
      guard info.bytes.lowerBound == end else {
        let problem = info.bytes.lowerBound < end ? "overlaps another tensor" : "has a gap before it"
        throw .malformed(file: file, reason: "\(name.excerpt) \(problem)")
      }
      end = info.bytes.upperBound
    }
    guard end == payload.upperBound else {
      throw .malformed(file: file, reason: "\(payload.upperBound - end) unused bytes after the last tensor")
    }
    return records
  }

  /// The element types of the format, with their sizes in bits.
  private static let bitWidths = [
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
  ]
}

/// The JSON header: one entry per tensor, and metadata.
private struct Header {
  struct Entry {
    var dtype: String
    var shape: [Int]
    var offsets: [Int]
  }

  var entries: [String: Entry] = [:]
  /// The metadata; members that are not strings are ignored.
  var metadata: [String: String] = [:]

  init(_ bytes: [UInt8], file: String) throws(CheckpointError) {
    let members: [JSONValue.Member]
    do throws(JSONParser.ParseError) {
      guard let object = try JSONParser.parse(bytes).members else {
        throw JSONParser.ParseError(offset: 0, expected: "an object")
      }
      members = object
    } catch {
      throw .malformed(file: file, reason: "the header is not JSON: expected \(error.expected) at byte \(error.offset)")
    }
    for member in members {
      if member.key == SafetensorsHeader.metadataName {
        for text in member.value.members ?? [] { metadata[text.key] = text.value.string }
        continue
      }
      guard let dtype = member.value["dtype"].string, let shape = Self.integers(member.value["shape"]),
        let offsets = Self.integers(member.value["data_offsets"]), offsets.count == 2
      else {
        throw .malformed(file: file, reason: "\(member.key.excerpt) has no dtype, shape and data_offsets of integers")
      }
      let entry = Entry(dtype: dtype, shape: shape, offsets: offsets)
      guard entries.updateValue(entry, forKey: member.key) == nil else {
        throw .duplicateTensor(name: member.key, file: file)
      }
    }
  }

  private static func integers(_ value: JSONValue) -> [Int]? {
    guard let items = value.array else { return nil }
    let integers = items.compactMap(\.integer)
    return integers.count == items.count ? integers : nil
  }
}

/// A builder of the header of a safetensors file.
package struct SafetensorsHeader {
  private enum Member: Encodable {
    case tensor(Tensor)
    case metadata([String: String])

    struct Tensor: Encodable {
      var dtype: String
      var shape: [Int]
      var dataOffsets: [Int]

      enum CodingKeys: String, CodingKey {
        case dtype, shape
        case dataOffsets = "data_offsets"
      }
    }

    func encode(to encoder: any Encoder) throws {
      switch self {
      case .tensor(let tensor): try tensor.encode(to: encoder)
      case .metadata(let texts): try texts.encode(to: encoder)
      }
    }
  }

  /// The name of the metadata member of a header.
  package static let metadataName = "__metadata__"

  private var members: [String: Member] = [:]
  /// The total size of the tensors in bytes.
  package private(set) var payloadCount = 0

  /// - Parameter metadata: The metadata strings by name.
  package init(metadata: [String: String] = [:]) {
    if !metadata.isEmpty { members[Self.metadataName] = .metadata(metadata) }
  }

  /// Appends a tensor.
  package mutating func add(_ name: String, _ dtype: String, _ shape: [Int], byteCount: Int) {
    let offsets = [payloadCount, payloadCount + byteCount]
    members[name] = .tensor(Member.Tensor(dtype: dtype, shape: shape, dataOffsets: offsets))
    payloadCount += byteCount
  }

  /// The file up to the tensors: the header size, then the header, padded with spaces.
  ///
  /// - Parameter alignment: The alignment of the first tensor in bytes.
  package func encoded(alignment: Int = 8) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var header = [UInt8](try encoder.encode(members))
    let rest = (8 + header.count) % alignment
    if rest > 0 { header += [UInt8](repeating: UInt8(ascii: " "), count: alignment - rest) }
    return (0..<8).map { UInt8(truncatingIfNeeded: UInt64(header.count) >> (8 * $0)) } + header
  }
}

/// A writer of safetensors files.
package struct SafetensorsWriter {
  private var header = SafetensorsHeader()
  private var payload = Data()

  package init() {}

  package mutating func add(_ name: String, _ values: [Float], shape: [Int]) {
    add(name, "F32", shape, values.map { $0.bitPattern.littleEndian })
  }

  package mutating func add(_ name: String, _ values: [Int32], shape: [Int]) {
    add(name, "I32", shape, values.map { UInt32(bitPattern: $0).littleEndian })
  }

  package mutating func add(_ name: String, _ values: [UInt8], shape: [Int]) {
    precondition(values.count == shape.reduce(1, *), "\(name): \(values.count) values for \(shape)")
    append(name, "U8", shape, values)
  }

  /// The whole file.
  package func encoded() throws -> Data { Data(try header.encoded()) + payload }

  private mutating func add(_ name: String, _ dtype: String, _ shape: [Int], _ words: [UInt32]) {
    precondition(words.count == shape.reduce(1, *), "\(name): \(words.count) values for \(shape)")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(4 * words.count)
    for word in words {
      for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    append(name, dtype, shape, bytes)
  }

  private mutating func append(_ name: String, _ dtype: String, _ shape: [Int], _ bytes: [UInt8]) {
    header.add(name, dtype, shape, byteCount: bytes.count)
    payload.append(contentsOf: bytes)
  }
}
