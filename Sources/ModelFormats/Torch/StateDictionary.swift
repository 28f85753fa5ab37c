/// The dictionary of tensors that a pickle holds, checked against the storages that lie in the archive.
struct StateDictionary {
  private let file: String
  private var tensors: [String: TorchTensor] = [:]

  init(_ value: PickleValue, _ objects: PickleObjects, file: String) throws(CheckpointError) {
    self.file = file
    guard case .dictionary(let index) = value else {
      throw .malformed(file: file, reason: "the pickle holds no dictionary, expected one of tensors by name")
    }
    for (key, value) in objects.dictionaries[index] {
      guard case .tensor(let tensor) = value else { continue }
      guard case .string(let name) = key else {
        throw .malformed(file: file, reason: "a tensor's key is no text, expected its name")
      }
      guard tensors.updateValue(objects.tensors[tensor], forKey: name) == nil else {
        throw .duplicateTensor(name: name, file: file)
      }
    }
    if tensors.isEmpty, let key = Self.keyOfTensors(in: objects.dictionaries[index], objects) {
      throw .malformed(
        file: file,
        reason: "its tensors lie under the key '\(key)', expected them at the top; save that dictionary alone")
    }
  }

  /// Where the tensors lie in the file.
  func records(_ archive: ZipArchive) throws(CheckpointError) -> [String: WeightRecord] {
    var records: [String: WeightRecord] = [:]
    for (name, tensor) in tensors { records[name] = try record(name, tensor, archive) }
    return records
  }

  private func record(_ name: String, _ tensor: TorchTensor, _ archive: ZipArchive) throws(CheckpointError)
    -> WeightRecord
  {
    let storage = tensor.storage
    guard let bytes = archive["data/\(storage.key)"] else {
      throw .malformed(file: file, reason: "the data of '\(name)' are missing, expected an entry 'data/\(storage.key)'")
    }
    guard storage.count.multipliedReportingOverflow(by: storage.element.byteCount) == (bytes.count, false) else {
      throw .malformed(
        file: file,
        reason: "the storage of '\(name)' has \(bytes.count) bytes, expected \(storage.count) \(storage.element.name)")
    }
    guard tensor.strides.count == tensor.shape.count,
      let bits = WeightRecord.bitCount(shape: tensor.shape, width: 8 * tensor.element.byteCount)
    else {
      throw .malformed(
        file: file, reason: "'\(name)' has the impossible shape \(tensor.shape) with strides \(tensor.strides)")
    }
    guard tensor.isContiguous else {
      return WeightRecord(
        elementName: tensor.element.name, shape: tensor.shape, bytes: bytes, strides: tensor.strides)
    }
    let (start, overflow) = tensor.offset.multipliedReportingOverflow(by: tensor.element.byteCount)
    guard !overflow, start >= 0, start <= bytes.count, bits / 8 <= bytes.count - start else {
      throw .malformed(
        file: file,
        reason:
          "'\(name)' of shape \(tensor.shape) lies at element \(tensor.offset) of a storage of \(bytes.count) bytes")
    }
    let first = bytes.lowerBound + start
    return WeightRecord(elementName: tensor.element.name, shape: tensor.shape, bytes: first..<first + bits / 8)
  }

  /// The key of a dictionary inside this one that holds tensors, as training scripts save them.
  private static func keyOfTensors(
    in dictionary: [(key: PickleValue, value: PickleValue)], _ objects: PickleObjects
  ) -> String? {
    let holdsTensors = objects.dictionaries.map { $0.contains { if case .tensor = $0.value { true } else { false } } }
    for case (.string(let key), .dictionary(let index)) in dictionary where holdsTensors[index] { return key }
    return nil
  }
}

extension TorchTensor {
  /// Whether the elements lie row after row; an axis of one element and an empty tensor may have any strides.
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
