/// Reads a pickle as torch.save writes it. The pickle's instructions move values about; none runs any code.
///
/// Source: CPython's `pickle`, protocol 2.
struct PickleReader {
  /// Bounds far above what checkpoints need, so that a small file cannot ask for much memory or time.
  private static let sizeLimit = 16 << 20
  private static let stackLimit = 1 << 16
  private static let depthLimit = 100
  private static let memoLimit = 1 << 20
  private static let objectLimit = 1 << 21

  private var reader: ByteReader
  private var stack: [PickleValue] = []
  /// The stack's heights at the open marks; nothing below the last one is taken.
  private var marks: [Int] = []
  private var memo: [UInt64: PickleValue] = [:]
  private var objects = PickleObjects()

  /// The value that the pickle stands for, and the objects that it refers to.
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
    guard try reader.integer(byteCount: 2) == 0x0280 else { throw reader.fault("a pickle of protocol 2") }
    while try step() {
      guard stack.count <= Self.stackLimit, marks.count <= Self.depthLimit, memo.count <= Self.memoLimit,
        objects.count <= Self.objectLimit
      else {
        throw reader.fault(
          "at most \(Self.stackLimit) values on the stack, \(Self.depthLimit) open marks, \(Self.memoLimit) remembered values "
            + "and \(Self.objectLimit) objects")
      }
    }
    let value = try pop()
    guard stack.isEmpty, marks.isEmpty, reader.rest.isEmpty else { throw reader.fault("the end of the pickle") }
    return value
  }

  /// Does what the next instruction says; false where it says stop.
  private mutating func step() throws(CheckpointError) -> Bool {
    let start = reader
    guard let opcode = PickleOpcode(rawValue: try reader.byte()) else {
      throw start.fault("an instruction that torch.save writes")
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
    guard stack.count - count >= mark else { throw reader.fault("\(count) values before") }
    let tuple = objects.tuple(stack.suffix(count))
    stack.removeLast(count)
    stack.append(tuple)
  }

  /// Nobody reads lists, so what is appended has been dropped.
  private func checkList() throws(CheckpointError) {
    guard case .list = try top() else { throw reader.fault("a list before") }
  }

  private mutating func setItems(_ items: [PickleValue]) throws(CheckpointError) {
    guard case .dictionary(let dictionary) = try top(), items.count.isMultiple(of: 2) else {
      throw reader.fault("a dictionary, keys and values before")
    }
    for i in stride(from: 0, to: items.count, by: 2) { objects.insert(items[i + 1], for: items[i], into: dictionary) }
  }

  /// Drops the attributes of a dictionary, such as the `_metadata` of a state dictionary.
  private mutating func setAttributes() throws(CheckpointError) {
    _ = try pop()
    guard case .dictionary = try top() else { throw reader.fault("a dictionary and attributes before") }
  }

  private mutating func call() throws(CheckpointError) {
    let arguments = try pop()
    guard case .global(let function) = try pop(), let result = objects.call(function, arguments) else {
      throw reader.fault("a function and its arguments before")
    }
    stack.append(result)
  }

  private mutating func makeStorage() throws(CheckpointError) {
    guard let storage = objects.storage(try pop()) else { throw reader.fault("the parts of a storage before") }
    stack.append(storage)
  }

  // MARK: - The stack

  private var mark: Int { marks.last ?? 0 }

  private func top() throws(CheckpointError) -> PickleValue {
    guard stack.count > mark, let value = stack.last else { throw reader.fault("a value before") }
    return value
  }

  private mutating func pop() throws(CheckpointError) -> PickleValue {
    let value = try top()
    stack.removeLast()
    return value
  }

  private mutating func popToMark() throws(CheckpointError) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw reader.fault("a mark before") }
    defer { stack.removeLast(stack.count - mark) }
    return Array(stack[mark...])
  }

  private func recall(_ index: UInt64) throws(CheckpointError) -> PickleValue {
    guard let value = memo[index] else { throw reader.fault("a remembered value before") }
    return value
  }

  // MARK: - Values

  /// A whole number in two's complement, lowest byte first; one that needs more than eight bytes is of no use here.
  private mutating func integer(byteCount: Int) throws(CheckpointError) -> PickleValue {
    let bytes = try reader.bytes(byteCount)
    guard bytes.count <= 8 else { return .other }
    let sign: UInt64 = bytes.last.map { $0 >= 0x80 } == true ? .max : 0
    return .integer(Int(truncatingIfNeeded: bytes.reversed().reduce(sign) { $0 << 8 | UInt64($1) }))
  }

  private func text(_ bytes: [UInt8]) throws(CheckpointError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw reader.fault("text in UTF-8 before") }
    return text
  }

  /// The allowed name that two lines spell, of a module and of something in it.
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

/// The instructions of pickle protocol 2 that torch.save writes for dictionaries of tensors and plain values.
///
/// Source: CPython's `pickletools`, whose names these are.
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
