/// The names that a pickle of tensors may refer to; none of them is ever looked up in any program.
enum TorchGlobal: Equatable {
  case orderedDict
  /// `_rebuild_tensor_v2`: a tensor of its storage's type.
  case tensor
  /// `_rebuild_tensor_v3`: a tensor that names its type, over a storage of bytes.
  case typedTensor
  case parameter
  case storage(TorchElement)
  case elementType(TorchElement)

  /// - Returns: nil for a name that is not allowed.
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

  /// Types that came after the storage classes.
  private static let laterTypes: [String: TorchElement] = [
    "uint16": .init("U16", 2), "uint32": .init("U32", 4), "uint64": .init("U64", 8),
    "float8_e4m3fn": .init("F8_E4M3", 1), "float8_e5m2": .init("F8_E5M2", 1),
  ]
}

/// A type of number: its name in safetensors, and its size in bytes.
struct TorchElement: Equatable {
  let name: String
  let byteCount: Int

  init(_ name: String, _ byteCount: Int) {
    self.name = name
    self.byteCount = byteCount
  }
}

/// A reference to a storage: a record of the archive, and how many elements of a type it holds.
struct TorchStorage {
  let element: TorchElement
  let key: String
  let count: Int
}

/// A tensor as it was pickled: nothing in it has been checked against its storage.
struct TorchTensor {
  let storage: TorchStorage
  let element: TorchElement
  /// The first element, counted from the beginning of the storage.
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}
