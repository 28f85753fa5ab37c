package import Kernels

/// The tensors of a safetensors file, mapped; every offset, shape and type has been checked.
///
/// Source: the safetensors format: eight bytes of header size, a JSON header, then the tensors' bytes without gaps.
package struct SafetensorsFile: Sendable {
  /// Where a tensor lies: its type's name, shape and byte range in the file.
  package struct Record: Sendable, Equatable {
    package let elementName: String
    package let shape: [Int]
    package let bytes: Range<Int>
  }

  package let path: String
  package let records: [String: Record]
  private let storage: SharedBytes

  /// The largest header the format allows.
  private static let headerLimit = 100_000_000

  /// - Throws: `CheckpointError` naming the file and what is wrong with it.
  package init(_ path: String) throws(CheckpointError) {
    do { storage = try SharedBytes(mapping: path) } catch { throw .file(error) }
    self.path = path
    guard storage.count >= 8 else {
      throw .malformed(file: path, reason: "\(storage.count) bytes are too few for a safetensors file")
    }
    let headerSize = storage.copy(0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard headerSize <= UInt64(min(Self.headerLimit, storage.count - 8)) else {
      throw .malformed(
        file: path,
        reason: "header of \(headerSize) bytes announced, \(storage.count - 8) bytes follow; truncated, or no safetensors file")
    }
    let header = storage.copy(8..<8 + Int(headerSize))
    if let name = repeatedKey(inObject: header) { throw .duplicateTensor(name: name, file: path) }
    let entries = try JSONFile.decode(Header.self, from: header, file: path).entries
    records = try Self.records(entries, payload: 8 + Int(headerSize)..<storage.count, file: path)
  }

  /// A tensor of floats by its stored name.
  package func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let record = records[name] else { throw .missingTensor(name: name, directory: path) }
    guard let element = ElementType(rawValue: record.elementName) else {
      throw .unsupportedElement(name: name, found: record.elementName, file: path)
    }
    return Tensor(storage, offset: record.bytes.lowerBound, shape: record.shape, element: element)
  }

  /// The records of all entries, which must fill the payload without gaps or overlaps.
  private static func records(
    _ entries: [String: Header.Entry], payload: Range<Int>, file: String
  ) throws(CheckpointError) -> [String: Record] {
    var records: [String: Record] = [:]
    for (name, entry) in entries {
      guard let width = bitWidths[entry.dtype] else {
        throw .unsupportedElement(name: name, found: entry.dtype, file: file)
      }
      var bits = width
      for size in entry.shape {
        let (product, overflow) = bits.multipliedReportingOverflow(by: size)
        guard size >= 0, !overflow else {
          throw .malformed(file: file, reason: "'\(name)' has the impossible shape \(entry.shape)")
        }
        bits = product
      }
      let offsets = entry.data_offsets
      guard offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] <= payload.count else {
        throw .malformed(
          file: file, reason: "'\(name)' lies at \(offsets) of \(payload.count) bytes; the file is truncated or damaged")
      }
      guard bits.isMultiple(of: 8), bits / 8 == offsets[1] - offsets[0] else {
        throw .malformed(
          file: file,
          reason: "'\(name)' has \(offsets[1] - offsets[0]) bytes, expected \(bits / 8) for \(entry.dtype) \(entry.shape)")
      }
      records[name] = Record(
        elementName: entry.dtype, shape: entry.shape,
        bytes: payload.lowerBound + offsets[0]..<payload.lowerBound + offsets[1])
    }
    var end = payload.lowerBound
    for (name, record) in records.sorted(by: { ($0.value.bytes.lowerBound, $0.value.bytes.upperBound) < ($1.value.bytes.lowerBound, $1.value.bytes.upperBound) }) {
      guard record.bytes.lowerBound == end else {
        let fault = record.bytes.lowerBound < end ? "overlaps another tensor" : "leaves a gap before it"
        throw .malformed(file: file, reason: "'\(name)' \(fault)")
      }
      end = record.bytes.upperBound
    }
    guard end == payload.upperBound else {
      throw .malformed(file: file, reason: "\(payload.upperBound - end) bytes after the last tensor belong to none")
    }
    return records
  }

  /// The types of the format, in bits.
  private static let bitWidths = [
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
  ]
}

/// The JSON header: an entry per tensor, and metadata that nobody here reads.
private struct Header: Decodable {
  struct Entry: Decodable {
    var dtype: String
    var shape: [Int]
    var data_offsets: [Int]
  }

  struct Name: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  var entries: [String: Entry] = [:]

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Name.self)
    for key in container.allKeys where key.stringValue != "__metadata__" {
      entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
    }
  }
}

/// The first key that occurs twice at the top level of a JSON object: JSON readers drop one of the two without a word.
///
/// Keys are compared as written, so a key that differs in its escapes only counts as another one.
private func repeatedKey(inObject json: [UInt8]) -> String? {
  var seen: Set<ArraySlice<UInt8>> = []
  var depth = 0
  var expectsKey = false
  var i = json.startIndex
  while i < json.endIndex {
    switch json[i] {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      depth += 1
      expectsKey = depth == 1
    case UInt8(ascii: "}"), UInt8(ascii: "]"):
      depth -= 1
    case UInt8(ascii: ","):
      expectsKey = depth == 1
    case UInt8(ascii: "\""):
      let start = i + 1
      i += 1
      while i < json.endIndex, json[i] != UInt8(ascii: "\"") { i += json[i] == UInt8(ascii: "\\") ? 2 : 1 }
      guard i < json.endIndex else { return nil }
      if expectsKey, !seen.insert(json[start..<i]).inserted { return String(decoding: json[start..<i], as: UTF8.self) }
      expectsKey = false
    default: break
    }
    i += 1
  }
  return nil
}
