/// A value of a pickle. Compound values refer to their parts by number, so that however deep they nest, nothing recurses.
enum PickleValue {
  case integer(Int)
  case string(String)
  case tuple(Range<Int>)
  case list
  case dictionary(Int)
  case global(TorchGlobal)
  case storage(Int)
  case tensor(Int)
  /// A value that no tensor is made of: None, a truth value, a number that is no `Int`.
  case other
}

/// What a pickle has made so far.
struct PickleObjects {
  /// The parts of all tuples.
  private var parts: [PickleValue] = []
  private(set) var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  private var storages: [TorchStorage] = []
  private(set) var tensors: [TorchTensor] = []
  /// Everything that is kept, counted in values.
  private(set) var count = 0

  /// As many dimensions as PyTorch allows.
  private static let dimensionLimit = 64

  mutating func tuple(_ values: some Collection<PickleValue>) -> PickleValue {
    count += values.count
    parts += values
    return .tuple(parts.count - values.count..<parts.count)
  }

  mutating func dictionary() -> PickleValue {
    count += 1
    dictionaries.append([])
    return .dictionary(dictionaries.count - 1)
  }

  mutating func insert(_ value: PickleValue, for key: PickleValue, into dictionary: Int) {
    count += 2
    dictionaries[dictionary].append((key, value))
  }

  /// The storage that a persistent id names: a tuple of a word, a class, a key, a device and an element count.
  mutating func storage(_ id: PickleValue) -> PickleValue? {
    guard case .tuple(let range) = id, range.count == 5 else { return nil }
    let id = parts[range]
    guard case .string("storage") = id[range.lowerBound],
      case .global(.storage(let element)) = id[range.lowerBound + 1],
      case .string(let key) = id[range.lowerBound + 2], case .string = id[range.lowerBound + 3],
      case .integer(let elementCount) = id[range.lowerBound + 4]
    else { return nil }
    count += 1
    storages.append(TorchStorage(element: element, key: key, count: elementCount))
    return .storage(storages.count - 1)
  }

  /// What an allowed function returns for its arguments, or nil where it takes no such arguments.
  mutating func call(_ function: TorchGlobal, _ arguments: PickleValue) -> PickleValue? {
    guard case .tuple(let range) = arguments else { return nil }
    // One more than any function takes: a tuple that is called over and over may have any size.
    let arguments = Array(parts[range].prefix(8))
    switch function {
    case .orderedDict where arguments.isEmpty:
      return dictionary()
    case .tensor where arguments.count == 6:
      return tensor(arguments, element: nil)
    case .typedTensor where arguments.count == 7:
      guard case .global(.elementType(let element)) = arguments[6] else { return nil }
      return tensor(arguments, element: element)
    case .parameter where arguments.count == 3:
      guard case .tensor = arguments[0] else { return nil }
      return arguments[0]
    default:
      return nil
    }
  }

  /// A tensor of storage, offset, shape and strides; whether it has a gradient and hooks is of no interest.
  private mutating func tensor(_ arguments: [PickleValue], element: TorchElement?) -> PickleValue? {
    guard case .storage(let index) = arguments[0], case .integer(let offset) = arguments[1],
      let shape = integers(arguments[2]), let strides = integers(arguments[3])
    else { return nil }
    let storage = storages[index]
    count += 1 + shape.count + strides.count
    tensors.append(
      TorchTensor(
        storage: storage, element: element ?? storage.element, offset: offset, shape: shape, strides: strides))
    return .tensor(tensors.count - 1)
  }

  private func integers(_ tuple: PickleValue) -> [Int]? {
    guard case .tuple(let range) = tuple, range.count <= Self.dimensionLimit else { return nil }
    var integers: [Int] = []
    for part in parts[range] {
      guard case .integer(let integer) = part else { return nil }
      integers.append(integer)
    }
    return integers
  }
}
