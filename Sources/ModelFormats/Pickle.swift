/// A reader of the pickles that torch.save writes. It builds values only; no instruction runs code.
///
/// Source: CPython's `pickle`, protocol 2.
struct PickleReader {
  /// Limits far above the needs of checkpoints, so that a small file cannot use much memory or time.
  private static let sizeLimit = 16 << 20
  private static let stackLimit = 1 << 16
  private static let depthLimit = 100
  private static let memoLimit = 1 << 20
  private static let objectLimit = 1 << 21

  private var reader: ByteReader
  private var stack: [PickleValue] = []
  /// The stack heights at the open marks; nothing below the last mark is popped.
  private var marks: [Int] = []
  private var memo: [UInt64: PickleValue] = [:]
  private var objects = PickleObjects()

  /// The value of a pickle, and the objects that it refers to.
  static func read(_ pickle: ByteReader) throws(CheckpointError) -> (value: PickleValue, objects: PickleObjects) {
    var pickle = PickleReader(pickle)
    return (try pickle.run(), pickle.objects)
  }

  private init(_ reader: ByteReader) { self.reader = reader }

  private mutating func run() throws(CheckpointError) -> PickleValue {
    guard reader.rest.count <= Self.sizeLimit else {
      throw .malformed(
        file: reader.file, reason: "a pickle of \(reader.rest.count) bytes, expected at most \(Self.sizeLimit)")
    }
    guard try reader.integer(byteCount: 2) == 0x0280 else { throw reader.error("a pickle of protocol 2") }
    while try step() {
      guard stack.count <= Self.stackLimit, marks.count <= Self.depthLimit, memo.count <= Self.memoLimit,
        objects.count <= Self.objectLimit
      else {
        throw reader.error(
          "at most \(Self.stackLimit) values on the stack, \(Self.depthLimit) open marks, "
            + "\(Self.memoLimit) memoized values and \(Self.objectLimit) objects")
      }
    }
    let value = try pop()
    guard stack.isEmpty, marks.isEmpty, reader.rest.isEmpty else { throw reader.error("the end of the pickle") }
    return value
  }

  /// Executes the next instruction; false for `STOP`.
  private mutating func step() throws(CheckpointError) -> Bool {
    let start = reader
    guard let opcode = PickleOpcode(rawValue: try reader.byte()) else {
      throw start.error("an instruction that torch.save writes")
    }
    switch opcode {
    case .stop: return false
    case .mark: marks.append(stack.count)
    case .none, .newTrue, .newFalse: stack.append(.other)
    case .binInt: stack.append(.integer(Int(Int32(truncatingIfNeeded: try reader.integer(byteCount: 4)))))
    case .binInt1: stack.append(.integer(Int(try reader.integer(byteCount: 1))))
    case .binInt2: stack.append(.integer(Int(try reader.integer(byteCount: 2))))
    case .long1: stack.append(try integer(byteCount: Int(reader.byte())))
    case .long4: stack.append(try integer(byteCount: Int(Int32(truncatingIfNeeded: reader.integer(byteCount: 4)))))
    case .binFloat:
      _ = try reader.skip(8)
      stack.append(.other)
    case .binUnicode: stack.append(.string(try text(reader.bytes(reader.integer(byteCount: 4)))))
    case .emptyTuple: try makeTuple(0)
    case .tuple1: try makeTuple(1)
    case .tuple2: try makeTuple(2)
    case .tuple3: try makeTuple(3)
    case .tuple: stack.append(objects.tuple(try popToMark()))
    case .emptyList: stack.append(.list)
    case .append:
      _ = try pop()
      try checkList()
    case .appends:
      _ = try popToMark()
      try checkList()
    case .emptyDict: stack.append(objects.dictionary())
    case .setItem: try setItems(try [pop(), pop()].reversed())
    case .setItems: try setItems(try popToMark())
    case .binPut: memo[try reader.integer(byteCount: 1)] = try top()
    case .longBinPut: memo[try reader.integer(byteCount: 4)] = try top()
    case .binGet: stack.append(try recall(reader.integer(byteCount: 1)))
    case .longBinGet: stack.append(try recall(reader.integer(byteCount: 4)))
    case .global: stack.append(.global(try global()))
    case .reduce: try call()
    case .build: try setAttributes()
    case .binPersID: try makeStorage()
    }
    return true
  }

  // MARK: - Containers and calls

  private mutating func makeTuple(_ count: Int) throws(CheckpointError) {
    guard stack.count - count >= mark else { throw reader.error("\(count) values on the stack") }
    let tuple = objects.tuple(stack.suffix(count))
    stack.removeLast(count)
    stack.append(tuple)
  }

  /// Checks for a list; its items are dropped, because no tensor is read from lists.
  private func checkList() throws(CheckpointError) {
    guard case .list = try top() else { throw reader.error("a list on the stack") }
  }

  private mutating func setItems(_ items: [PickleValue]) throws(CheckpointError) {
    guard case .dictionary(let dictionary) = try top(), items.count.isMultiple(of: 2) else {
      throw reader.error("a dictionary, keys and values on the stack")
    }
    for i in stride(from: 0, to: items.count, by: 2) { objects.insert(items[i + 1], for: items[i], into: dictionary) }
  }

  /// Drops the attributes of a dictionary, such as the `_metadata` of a state dictionary.
  private mutating func setAttributes() throws(CheckpointError) {
    _ = try pop()
    guard case .dictionary = try top() else { throw reader.error("a dictionary and attributes on the stack") }
  }

  private mutating func call() throws(CheckpointError) {
    let arguments = try pop()
    guard case .global(let function) = try pop(), let result = objects.call(function, arguments) else {
      throw reader.error("a function and its arguments on the stack")
    }
    stack.append(result)
  }

  private mutating func makeStorage() throws(CheckpointError) {
    guard let storage = objects.storage(try pop()) else { throw reader.error("the parts of a storage on the stack") }
    stack.append(storage)
  }

  // MARK: - The stack

  private var mark: Int { marks.last ?? 0 }

  private func top() throws(CheckpointError) -> PickleValue {
    guard stack.count > mark, let value = stack.last else { throw reader.error("a value on the stack") }
    return value
  }

  private mutating func pop() throws(CheckpointError) -> PickleValue {
    let value = try top()
    stack.removeLast()
    return value
  }

  private mutating func popToMark() throws(CheckpointError) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw reader.error("a mark on the stack") }
    defer { stack.removeLast(stack.count - mark) }
    return Array(stack[mark...])
  }

  private func recall(_ index: UInt64) throws(CheckpointError) -> PickleValue {
    guard let value = memo[index] else { throw reader.error("a memoized value") }
    return value
  }

  // MARK: - Values

  /// Reads an integer in two's complement, little-endian; `.other` if it has more than eight bytes.
  private mutating func integer(byteCount: Int) throws(CheckpointError) -> PickleValue {
    let bytes = try reader.bytes(byteCount)
    guard bytes.count <= 8 else { return .other }
    let sign: UInt64 = bytes.last.map { $0 >= 0x80 } == true ? .max : 0
    return .integer(Int(truncatingIfNeeded: bytes.reversed().reduce(sign) { $0 << 8 | UInt64($1) }))
  }

  private func text(_ bytes: [UInt8]) throws(CheckpointError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw reader.error("UTF-8 text that ends") }
    return text
  }

  /// Reads an allowed global name: a line with the module, and a line with the name in it.
  private mutating func global() throws(CheckpointError) -> TorchGlobal {
    let (module, name) = (try line(), try line())
    guard let global = TorchGlobal(module: module, name: name) else {
      throw .forbiddenGlobal(name: module + "." + name, file: reader.file)
    }
    return global
  }

  private mutating func line() throws(CheckpointError) -> String {
    var bytes: [UInt8] = []
    while true {
      let byte = try reader.byte()
      guard byte != UInt8(ascii: "\n") else { return try text(bytes) }
      bytes.append(byte)
    }
  }
}

/// A value of a pickle. Compound values refer to their parts by index, so that deep nesting needs no recursion.
enum PickleValue {
  case integer(Int)
  case string(String)
  case tuple(Range<Int>)
  case list
  case dictionary(Int)
  case global(TorchGlobal)
  case storage(Int)
  case tensor(Int)
  /// A value that tensors do not use: None, a boolean, a number that is not an `Int`.
  case other
}

/// The objects that a pickle has created so far.
struct PickleObjects {
  /// The parts of all tuples.
  private var parts: [PickleValue] = []
  private(set) var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  private var storages: [TorchStorage] = []
  private(set) var tensors: [TorchTensor] = []
  /// The number of stored values, over all objects.
  private(set) var count = 0

  /// The maximum number of dimensions in PyTorch.
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

  /// The storage of a persistent id: a tuple of the word "storage", a class, a key, a device and an element count.
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

  /// The result of an allowed function; nil if the arguments are invalid.
  mutating func call(_ function: TorchGlobal, _ arguments: PickleValue) -> PickleValue? {
    guard case .tuple(let range) = arguments else { return nil }
    // One more than the largest arity, because a tuple of any size may be passed many times.
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

  /// A tensor of storage, offset, shape and strides; the arguments for gradient and hooks are ignored.
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

/// The instructions of pickle protocol 2 that torch.save writes for dictionaries of tensors and plain values.
///
/// Source: CPython's `pickletools`, with its names.
enum PickleOpcode: UInt8 {
  case stop = 0x2E
  case mark = 0x28

  case none = 0x4E
  case newTrue = 0x88
  case newFalse = 0x89
  case binInt = 0x4A
  case binInt1 = 0x4B
  case binInt2 = 0x4D
  case long1 = 0x8A
  case long4 = 0x8B
  case binFloat = 0x47
  case binUnicode = 0x58

  case emptyTuple = 0x29
  case tuple1 = 0x85
  case tuple2 = 0x86
  case tuple3 = 0x87
  case tuple = 0x74
  case emptyList = 0x5D
  case append = 0x61
  case appends = 0x65
  case emptyDict = 0x7D
  case setItem = 0x73
  case setItems = 0x75

  case binPut = 0x71
  case longBinPut = 0x72
  case binGet = 0x68
  case longBinGet = 0x6A

  case global = 0x63
  case reduce = 0x52
  case build = 0x62
  case binPersID = 0x51
}
