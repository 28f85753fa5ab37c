package import Storage

/// A memory-mapped file of torch.save: a ZIP archive with a pickle and an entry for every storage.
///
/// The pickle is read without running code: it may refer only to the few functions in `TorchGlobal`. Unsupported
/// tensors are refused when they are read, not when the file is opened. Integer buffers and the transposed projections
/// of a converted CLIP, which LLaVA does not use, are therefore accepted.
///
/// Source: PyTorch's `torch/serialization.py` and `caffe2/serialize/inline_container.h`, format of PyTorch 1.6 and
/// later.
package struct TorchArchive: WeightFile {
  package let path: String
  package let records: [String: TensorInfo]
  package let storage: SharedBytes

  /// - Throws: `CheckpointError` with the file, the reason and, if there is one, the conversion command.
  package init(_ path: String) throws(CheckpointError) {
    do { storage = try SharedBytes(mapping: path) } catch { throw .file(error) }
    self.path = path
    try GitLFSPointer.refuse(storage, file: path)
    try Self.refuseOlderFormats(storage, file: path)
    let archive = try ZipArchive(storage, file: path)
    if let range = archive["byteorder"], storage.copy(range.prefix(16)) != Array("little".utf8) {
      throw .convertible(file: path, reason: "numbers are big-endian, expected little-endian")
    }
    guard let range = archive["data.pkl"] else {
      throw .malformed(
        file: path,
        reason: "an archive without \((archive.folder + "/data.pkl").excerpt), expected a file of torch.save")
    }
    let (value, objects) = try PickleReader.read(ByteReader(storage, range, file: path))
    records = try StateDictionary(value, objects, file: path).records(archive)
  }

  /// Refuses the formats that PyTorch wrote before ZIP archives.
  private static func refuseOlderFormats(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    // A pickle of protocol 2 with PyTorch's magic number, 0x1950A86A20F9469CFC6C.
    let magic: [UInt8] = [0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
    if bytes.copy(0..<min(magic.count, bytes.count)) == magic {
      throw .convertible(
        file: file, reason: "the format of PyTorch before 1.6, expected a ZIP archive")
    }
    if bytes.count >= 512, bytes.copy(257..<262) == Array("ustar".utf8) {
      throw .malformed(
        file: file, reason: "the format of PyTorch before 0.2, expected a ZIP archive of PyTorch 1.6 or later")
    }
  }
}

/// The dictionary of tensors in a pickle, checked against the storages in the archive.
struct StateDictionary {
  private let file: String
  private var tensors: [String: TorchTensor] = [:]

  init(_ value: PickleValue, _ objects: PickleObjects, file: String) throws(CheckpointError) {
    self.file = file
    guard case .dictionary(let index) = value else {
      throw .malformed(file: file, reason: "the pickle has no dictionary, expected one of tensors by name")
    }
    for (key, value) in objects.dictionaries[index] {
      guard case .tensor(let tensor) = value else { continue }
      guard case .string(let name) = key else {
        throw .malformed(file: file, reason: "the key of a tensor is not text, expected its name")
      }
      guard tensors.updateValue(objects.tensors[tensor], forKey: name) == nil else {
        throw .duplicateTensor(name: name, file: file)
      }
    }
    if tensors.isEmpty, let key = Self.keyOfTensors(in: objects.dictionaries[index], objects) {
      throw .malformed(
        file: file,
        reason: "the tensors are under the key \(key.excerpt), expected at the top level; save that dictionary alone")
    }
  }

  /// The tensor infos by name.
  func records(_ archive: ZipArchive) throws(CheckpointError) -> [String: TensorInfo] {
    var records: [String: TensorInfo] = [:]
    for (name, tensor) in tensors { records[name] = try info(name, tensor, archive) }
    return records
  }

  private func info(_ name: String, _ tensor: TorchTensor, _ archive: ZipArchive) throws(CheckpointError)
    -> TensorInfo
  {
    let storage = tensor.storage
    guard let bytes = archive["data/\(storage.key)"] else {
      throw .malformed(
        file: file,
        reason: "the data of \(name.excerpt) is missing, expected an entry \(("data/" + storage.key).excerpt)")
    }
    guard storage.count.multipliedReportingOverflow(by: storage.element.byteCount) == (bytes.count, false) else {
      throw .malformed(
        file: file,
        reason:
          "the storage of \(name.excerpt) has \(bytes.count) bytes, expected \(storage.count) \(storage.element.name)")
    }
    guard tensor.strides.count == tensor.shape.count,
      let bits = TensorInfo.bitCount(shape: tensor.shape, width: 8 * tensor.element.byteCount)
    else {
      throw .malformed(
        file: file,
        reason:
          "\(name.excerpt) has the impossible shape \(tensor.shape.shapeText) with strides \(tensor.strides.shapeText)")
    }
    guard tensor.isContiguous else {
      return TensorInfo(
        elementName: tensor.element.name, shape: tensor.shape, bytes: bytes, strides: tensor.strides)
    }
    let (start, overflow) = tensor.offset.multipliedReportingOverflow(by: tensor.element.byteCount)
    guard !overflow, start >= 0, start <= bytes.count, bits / 8 <= bytes.count - start else {
      throw .malformed(
        file: file,
        reason:
          "\(name.excerpt) of shape \(tensor.shape.shapeText) is at element \(tensor.offset) of a storage of \(bytes.count) bytes"
      )
    }
    let first = bytes.lowerBound + start
    return TensorInfo(elementName: tensor.element.name, shape: tensor.shape, bytes: first..<first + bits / 8)
  }

  /// The key of a nested dictionary with tensors, as in the files of training scripts.
  private static func keyOfTensors(
    in dictionary: [(key: PickleValue, value: PickleValue)], _ objects: PickleObjects
  ) -> String? {
    let holdsTensors = objects.dictionaries.map { $0.contains { if case .tensor = $0.value { true } else { false } } }
    for case (.string(let key), .dictionary(let index)) in dictionary where holdsTensors[index] { return key }
    return nil
  }
}

extension TorchTensor {
  /// Whether the tensor is contiguous; axes of one element and empty tensors may have any strides.
  ///
  /// - Precondition: The product of the shape fits in an `Int`.
  fileprivate var isContiguous: Bool {
    if shape.contains(0) { return true }
    var step = 1
    for (size, stride) in zip(shape, strides).reversed() where size != 1 {
      guard stride == step else { return false }
      step *= size
    }
    return true
  }
}

/// The global names that a pickle of tensors may refer to; none of them is ever resolved to code.
enum TorchGlobal: Equatable {
  case orderedDict
  /// `_rebuild_tensor_v2`: a tensor with the element type of its storage.
  case tensor
  /// `_rebuild_tensor_v3`: a tensor with its own element type, over a storage of bytes.
  case typedTensor
  case parameter
  case storage(TorchElement)
  case elementType(TorchElement)

  /// Nil for a name that is not allowed.
  init?(module: String, name: String) {
    guard let global = Self.allowed[module + "." + name] else { return nil }
    self = global
  }

  private static let allowed: [String: TorchGlobal] = {
    var allowed: [String: TorchGlobal] = [
      "collections.OrderedDict": .orderedDict,
      "torch._utils._rebuild_tensor_v2": .tensor,
      "torch._utils._rebuild_tensor_v3": .typedTensor,
      "torch._utils._rebuild_parameter": .parameter,
      "torch.storage.UntypedStorage": .storage(.init("U8", 1)),
    ]
    for (name, element) in storages { allowed["torch.\(name)Storage"] = .storage(element) }
    for (name, element) in laterTypes { allowed["torch.\(name)"] = .elementType(element) }
    return allowed
  }()

  private static let storages: [String: TorchElement] = [
    "Float": .init("F32", 4), "Half": .init("F16", 2), "BFloat16": .init("BF16", 2), "Double": .init("F64", 8),
    "Long": .init("I64", 8), "Int": .init("I32", 4), "Short": .init("I16", 2), "Char": .init("I8", 1),
    "Byte": .init("U8", 1), "Bool": .init("BOOL", 1), "ComplexFloat": .init("C64", 8),
    "ComplexDouble": .init("C128", 16),
  ]

  /// Element types without a storage class, added later.
  private static let laterTypes: [String: TorchElement] = [
    "uint16": .init("U16", 2), "uint32": .init("U32", 4), "uint64": .init("U64", 8),
    "float8_e4m3fn": .init("F8_E4M3", 1), "float8_e5m2": .init("F8_E5M2", 1),
  ]
}

/// An element type: its name in safetensors, and its size in bytes.
struct TorchElement: Equatable {
  let name: String
  let byteCount: Int

  init(_ name: String, _ byteCount: Int) {
    self.name = name
    self.byteCount = byteCount
  }
}

/// A reference to a storage: its key in the archive, its element type and its element count.
struct TorchStorage {
  let element: TorchElement
  let key: String
  let count: Int
}

/// A tensor of a pickle, not yet checked against its storage.
struct TorchTensor {
  let storage: TorchStorage
  let element: TorchElement
  /// The index of the first element in the storage.
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}
