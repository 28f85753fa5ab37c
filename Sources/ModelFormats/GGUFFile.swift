import Kernels
package import Storage

/// A memory-mapped GGUF file: metadata and named tensors.
///
/// Source: ggml's description of the format, versions 2 and 3: a header with the numbers of tensors and of key-value
/// pairs, the pairs, the tensor infos, padding, and the bytes of the tensors.
package struct GGUFFile: WeightFile {
  package let path: String
  package let records: [String: TensorInfo]
  package let metadata: GGUFMetadata
  package let storage: SharedBytes
  /// The bytes before the first tensor: metadata and tensor infos.
  package let headerCount: Int

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
    var reader = GGUFReader(storage, file: path)
    let (tensorCount, pairCount) = try reader.counts()
    metadata = GGUFMetadata(try reader.pairs(pairCount), in: storage, file: path)
    try Self.refuseParts(metadata)
    let infos = try reader.tensorInfos(tensorCount)
    let alignment = try Self.alignment(metadata)
    // Padding after the last info may be missing if there are no tensors.
    headerCount = min(storage.count, (reader.offset + alignment - 1) / alignment * alignment)
    records = try Self.records(infos, data: headerCount..<storage.count, alignment: alignment, file: path)
  }

  /// Whether a file begins as GGUF files do; false if it cannot be read.
  package static func isFound(at path: String) -> Bool {
    let magic = GGUFReader.magic
    guard let bytes = try? SharedBytes(mapping: path), bytes.count >= magic.count + 4 else { return false }
    // A text may begin with the same word, but not with a version after it.
    let version: UInt32 = bytes.littleEndian(magic.count)
    return bytes.copy(0..<magic.count) == magic && (version & 0xFFFF == 0 || version >> 16 == 0)
  }

  package func unsupported(_ name: String, _ info: TensorInfo) -> CheckpointError {
    .unsupportedTensorType(name: name, found: info.elementName, file: path)
  }

  private static func refuseParts(_ metadata: GGUFMetadata) throws(CheckpointError) {
    guard let count = try metadata.integer("split.count"), count > 1 else { return }
    throw .malformed(
      file: metadata.file,
      reason: "one of \(count) parts of a split model, expected a whole one; join them with 'llama-gguf-split --merge'")
  }

  private static func alignment(_ metadata: GGUFMetadata) throws(CheckpointError) -> Int {
    let key = "general.alignment"
    guard let alignment = try metadata.integer(key) else { return 32 }
    guard alignment >= 8, alignment <= 1 << 20, alignment & (alignment - 1) == 0 else {
      throw .badValue(
        file: metadata.file, key: key, expected: "a power of two from 8 to 1048576", found: "\(alignment)")
    }
    return alignment
  }

  /// The tensor infos by name, whose ranges must not overlap.
  ///
  /// The size of a tensor of a type that is not supported is not determined; it ends where the next one begins.
  private static func records(
    _ infos: [GGUFReader.Info], data: Range<Int>, alignment: Int, file: String
  ) throws(CheckpointError) -> [String: TensorInfo] {
    var records: [String: TensorInfo] = [:]
    records.reserveCapacity(infos.count)
    let sorted = infos.sorted { $0.offset < $1.offset }
    for (index, info) in sorted.enumerated() {
      guard info.offset.isMultiple(of: UInt64(alignment)) else {
        throw .malformed(
          file: file, reason: "\(info.name.excerpt) is at byte \(info.offset), expected a multiple of \(alignment)")
      }
      guard info.offset <= UInt64(data.count) else {
        throw .malformed(
          file: file,
          reason: "\(info.name.excerpt) is at byte \(info.offset) of \(data.count); is the download complete?")
      }
      let start = Int(info.offset)
      guard let valueCount = TensorInfo.bitCount(shape: info.shape, width: 1) else {
        throw .malformed(
          file: file, reason: "\(info.name.excerpt) has the impossible shape \(info.shape.shapeText)")
      }
      let next = index + 1 < sorted.count ? sorted[index + 1].offset : UInt64(data.count)
      let end = min(next, UInt64(data.count))
      var size = Int(end) - start
      if let type = info.type.stored {
        guard let bytes = try byteCount(info, type, valueCount, file: file), bytes <= data.count - start else {
          throw .malformed(
            file: file,
            reason: "\(info.name.excerpt) of \(type.name) \(info.shape.shapeText) at byte \(start) ends after the file "
              + "with \(data.count) bytes of tensors; is the download complete?")
        }
        guard bytes <= size else {
          throw .malformed(file: file, reason: "\(sorted[index + 1].name.excerpt) overlaps another tensor")
        }
        size = bytes
      }
      let record = TensorInfo(
        elementName: info.type.name, shape: info.shape,
        bytes: data.lowerBound + start..<data.lowerBound + start + size)
      guard records.updateValue(record, forKey: info.name) == nil else {
        throw .duplicateTensor(name: info.name, file: file)
      }
    }
    return records
  }

  /// The size of a tensor; `nil` if it overflows.
  private static func byteCount(
    _ info: GGUFReader.Info, _ type: StoredType, _ valueCount: Int, file: String
  ) throws(CheckpointError) -> Int? {
    let columns = info.shape.last ?? 1
    guard columns.isMultiple(of: type.valuesPerBlock) else {
      throw .malformed(
        file: file,
        reason: "\(info.name.excerpt) of \(type.name) has \(columns) columns, expected a multiple of "
          + "\(type.valuesPerBlock)")
    }
    let blocks = valueCount / type.valuesPerBlock
    let (bytes, overflow) = blocks.multipliedReportingOverflow(by: type.byteCount(type.valuesPerBlock))
    return overflow ? nil : bytes
  }
}

/// A tensor type of GGUF files.
///
/// Source: `enum ggml_type` in ggml's `ggml.h`.
package struct GGUFTensorType: Sendable, Equatable {
  package let number: UInt32

  /// The type of supported values; `nil` for others.
  var stored: StoredType? { Self.supported[number] }

  /// The name in safetensors or ggml notation, with the number for a type that is not supported.
  package var name: String {
    stored?.name ?? (Self.otherNames[number].map { "\($0) (type \(number))" } ?? "type \(number)")
  }

  init(number: UInt32) { self.number = number }

  init(_ type: StoredType) {
    switch type {
    case .floats(.f32): number = 0
    case .floats(.f16): number = 1
    case .floats(.bf16): number = 30
    case .blocks(let blocks): number = blocks.ggufNumber
    }
  }

  private static let supported: [UInt32: StoredType] = {
    let types = ElementType.allCases.map(StoredType.floats) + BlockType.allCases.map(StoredType.blocks)
    return Dictionary(uniqueKeysWithValues: types.map { (GGUFTensorType($0).number, $0) })
  }()

  private static let otherNames: [UInt32: String] = [
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8",
    25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
    41: "Q1_0", 42: "Q2_0",
  ]
}
