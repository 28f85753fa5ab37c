package import Kernels
package import Storage

/// A memory-mapped file of named tensors with checked offsets, shapes and types.
package protocol WeightFile: Sendable {
  var path: String { get }
  var records: [String: TensorInfo] { get }
  /// The bytes of the file; the ranges of `records` are offsets into them.
  var storage: SharedBytes { get }

  /// - Throws: `CheckpointError` with the file and the reason.
  init(_ path: String) throws(CheckpointError)

  /// The error that the type of a tensor is not supported.
  func unsupported(_ name: String, _ info: TensorInfo) -> CheckpointError
}

/// The element type, shape and byte range of a stored tensor.
package struct TensorInfo: Sendable, Equatable {
  /// The type of the values in safetensors notation, such as `BF16`, or in ggml notation, such as `Q4_K`.
  package let elementName: String
  package let shape: [Int]
  package let bytes: Range<Int>
  /// The strides in elements of a tensor that is not contiguous; `bytes` is then the whole storage.
  package var strides: [Int]?

  /// The size of a tensor in bits; nil if a dimension is negative or the size overflows.
  static func bitCount(shape: [Int], width: Int) -> Int? {
    var bits = width
    for size in shape {
      // An empty axis counts as 1, so that products of the other axes cannot overflow either.
      let (product, overflow) = bits.multipliedReportingOverflow(by: max(size, 1))
      guard size >= 0, !overflow else { return nil }
      bits = product
    }
    return shape.contains(0) ? 0 : bits
  }
}

extension WeightFile {
  package func unsupported(_ name: String, _ info: TensorInfo) -> CheckpointError {
    .unsupportedElement(name: name, found: info.elementName, file: path)
  }

  /// The tensor with a stored name.
  package func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let info = records[name] else { throw .missingTensor(name: name, directory: path) }
    guard let type = StoredType(name: info.elementName) else { throw unsupported(name, info) }
    if let strides = info.strides {
      throw .stridedTensor(name: name, shape: info.shape, strides: strides, file: path)
    }
    return Tensor(storage, offset: info.bytes.lowerBound, shape: info.shape, type: type)
  }
}

/// The mapping of published parameter names of LLaVA to canonical names.
///
/// Canonical names are those of the first `llava-hf` checkpoints (`language_model.model.layers.0…`). Newer versions of
/// the reference library write `model.language_model.layers.0…`, the original LLaVA code `model.layers.0…`, and SmolVLM
/// `model.text_model.layers.0…`. No name has two meanings, so one table covers all layouts.
enum ParameterNames {
  /// The naming of a checkpoint.
  enum Naming { case canonical, newer, original, smolVLM }

  private static let prefixes: [(stored: String, canonical: String, naming: Naming)] = [
    // Newer versions of the reference library.
    ("model.language_model.", "language_model.model.", .newer),
    ("model.multi_modal_projector.", "multi_modal_projector.", .newer),
    ("model.image_newline", "image_newline", .newer),
    ("lm_head.", "language_model.lm_head.", .newer),
    ("model.text_model.", "language_model.model.", .smolVLM),
    ("model.vision_model.", "vision_tower.vision_model.", .smolVLM),
    ("model.connector.modality_projection.proj.", "multi_modal_projector.linear.", .smolVLM),
    // The original code, whose vision encoder is a nested module: the longer prefix comes before the newer library's.
    ("model.vision_tower.vision_tower.", "vision_tower.", .original),
    ("model.vision_tower.", "vision_tower.", .newer),
    ("model.embed_tokens.", "language_model.model.embed_tokens.", .original),
    ("model.layers.", "language_model.model.layers.", .original),
    ("model.norm.", "language_model.model.norm.", .original),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1.", .original),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2.", .original),
  ]

  /// The canonical name of a stored parameter.
  static func canonical(_ stored: String) -> String {
    var name = stored
    if let (prefix, replacement, _) = prefixes.first(where: { stored.hasPrefix($0.stored) }) {
      name = replacement + stored.dropFirst(prefix.count)
    }
    // Version 5 of the reference library writes the modules of CLIP's vision encoder without `vision_model`.
    let place = name.hasPrefix("vision_tower.") ? "vision_tower." : ""
    let module = name.dropFirst(place.count).prefix { $0 != "." }
    guard ["embeddings", "pre_layrnorm", "encoder", "post_layernorm"].contains(module) else { return name }
    return place + "vision_model." + name.dropFirst(place.count)
  }

  /// The name of a parameter in a naming, for messages.
  static func stored(_ canonical: String, _ naming: Naming) -> String {
    // Output head and newline have one name in all of the later namings.
    let shared = ["lm_head.", "model.image_newline"]
    for (prefix, name, owner) in prefixes where canonical.hasPrefix(name) {
      if owner == naming || (naming != .canonical && shared.contains(prefix)) {
        return prefix + canonical.dropFirst(name.count)
      }
    }
    return canonical
  }

  /// The naming of a checkpoint with these stored names.
  static func naming(of names: some Sequence<String>) -> Naming {
    var naming = Naming.canonical
    for name in names {
      if name.hasPrefix("model.language_model.") { naming = .newer }
      if name.hasPrefix("model.text_model.") { naming = .smolVLM }
      if ["model.layers.", "model.embed_tokens.", "model.mm_projector."].contains(where: name.hasPrefix) {
        return .original
      }
    }
    return naming
  }

  /// The prefix of all names that a training program or a wrapper added; empty if there is none.
  static func wrapper(of names: some Collection<String>) -> String {
    var wrapper = ""
    func all(_ prefix: String) -> Bool { !names.isEmpty && names.allSatisfy { $0.hasPrefix(wrapper + prefix) } }
    // DistributedDataParallel, peft, torch.compile and DeepSpeed.
    let prefixes = ["module.", "base_model.model.", "_orig_mod.", "_forward_module."]
    while wrapper.utf8.count < 64, let prefix = prefixes.first(where: all) { wrapper += prefix }
    // `model.` begins names of two namings, so a name that occurs in neither has to follow it.
    let inner = ["language_model.model.", "language_model.lm_head.", "model.", "lm_head."].map {
      wrapper + "model." + $0
    }
    if all("model."), names.contains(where: { name in inner.contains { name.hasPrefix($0) } }) { wrapper += "model." }
    return wrapper
  }

  /// Whether a stored tensor is a buffer that models compute.
  static func isComputedBuffer(_ name: String) -> Bool {
    // Frequencies of RoPE in GGUF files are part of the configuration.
    name == "rope_freqs.weight" || name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".embeddings.position_ids")
  }
}

/// The checksums in the safetensors files that this engine writes.
///
/// They are the last tensor, `xxh64` in `U64`: first that of the header with its size, then that of each tensor before.
package enum TensorChecksums {
  package static let name = "xxh64"

  /// A part of a file and its stored checksum.
  package struct Piece {
    package var name: String
    package var bytes: Range<Int>
    package var checksum: UInt64
  }

  /// The header and the tensors in the order of the file; `nil` unless there is a checksum for each.
  package static func pieces(of file: SafetensorsFile) -> [Piece]? {
    let tensors = file.records.sorted { $0.value.bytes.lowerBound < $1.value.bytes.lowerBound }
    guard let last = tensors.last, last.key == name, last.value.elementName == "U64",
      last.value.shape == [tensors.count]
    else { return nil }
    let pieces =
      [("the header", 0..<file.payload.lowerBound)] + tensors.dropLast().map { ("'\($0.key)'", $0.value.bytes) }
    return zip(pieces, file.storage.words(last.value.bytes)).map { Piece(name: $0.0, bytes: $0.1, checksum: $1) }
  }

  /// The bytes of a whole file with checksums.
  ///
  /// - Parameters:
  ///   - header: The header of `tensors`; the entry of the checksums is added.
  ///   - tensors: The bytes of the tensors.
  ///   - alignment: The alignment of the first tensor, in bytes.
  ///   - path: The path for errors.
  ///   - workers: The threads that compute the checksums.
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

extension TensorChecksums {
  /// Writes a whole file with checksums, of which only one tensor is in memory at a time.
  ///
  /// - Parameters:
  ///   - header: The header of the tensors; the entry of the checksums is added.
  ///   - count: Number of tensors.
  ///   - file: The file, which is not finished yet.
  ///   - path: The path for errors.
  ///   - alignment: The alignment of the first tensor, in bytes.
  ///   - tensor: Returns the bytes of a tensor; called once for each, in the order of the header.
  /// - Returns: Bytes of the file.
  package static func write(
    _ header: SafetensorsHeader, count: Int, to file: inout AtomicFile, path: String, alignment: Int,
    tensor: (Int) -> SharedBytes
  ) throws(FileError) -> Int {
    var header = header
    header.add(name, "U64", [1 + count], byteCount: 8 * (1 + count))
    let front: SharedBytes
    do { front = SharedBytes(copying: try header.encoded(alignment: alignment)) } catch {
      throw .unwritable(path: path, reason: "\(error)")
    }
    try file.write(front)
    var checksums = [front.checksum]
    for index in 0..<count {
      let bytes = tensor(index)
      checksums.append(bytes.checksum)
      try file.write(bytes)
    }
    try file.write(SharedBytes(copying: checksums.map(\.littleEndian)))
    return front.count + header.payloadCount
  }
}

extension SharedBytes {
  /// The little-endian 64-bit numbers in a range.
  fileprivate func words(_ range: Range<Int>) -> [UInt64] {
    let bytes = copy(range)
    return stride(from: 0, to: bytes.count - 7, by: 8).map { start in
      bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
