/// Files in the format of torch.save, with arbitrary, possibly inconsistent pickles and storages.
enum TorchFixtures {
  typealias Entry = ArchiveFixtures.Entry

  /// A file of a pickle and the bytes of its storages.
  static func file(_ pickle: [UInt8], _ storages: KeyValuePairs<String, [UInt8]> = [:], more: [Entry] = []) -> [UInt8] {
    ArchiveFixtures.file(entries(pickle, storages) + more)
  }

  static func entries(_ pickle: [UInt8], _ storages: KeyValuePairs<String, [UInt8]> = [:]) -> [Entry] {
    [Entry("m/data.pkl", pickle)] + storages.map { Entry("m/data/\($0.key)", $0.value) }
  }

  /// A file with one tensor `a` over a storage of eight bytes.
  static func one(
    _ kind: String = "FloatStorage", count: Int = 2, offset: Int = 0, shape: [Int] = [2], strides: [Int] = [1]
  ) -> [UInt8] {
    let tensor = tensor(storage(kind, count: count), offset: offset, shape: shape, strides: strides)
    return file(pickle(dictionary([("a", tensor)])), ["0": [UInt8](0..<8)])
  }

  // MARK: - Pickles

  /// A complete pickle of the value of some instructions.
  static func pickle(_ value: [UInt8]) -> [UInt8] { [0x80, 2] + value + Array(".".utf8) }

  static func text(_ text: String) -> [UInt8] {
    Array("X".utf8) + ArchiveFixtures.little(UInt64(text.utf8.count), 4) + Array(text.utf8)
  }

  static func integer(_ value: Int) -> [UInt8] {
    [0x8A, 8] + ArchiveFixtures.little(UInt64(bitPattern: Int64(value)), 8)
  }

  static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }

  static func tuple(_ parts: [[UInt8]]) -> [UInt8] { Array("(".utf8) + parts.joined() + Array("t".utf8) }

  static func dictionary(_ members: [(String, [UInt8])]) -> [UInt8] {
    Array("}(".utf8) + members.flatMap { text($0.0) + $0.1 } + Array("u".utf8)
  }

  static func call(_ module: String, _ name: String, _ arguments: [[UInt8]]) -> [UInt8] {
    global(module, name) + tuple(arguments) + Array("R".utf8)
  }

  static func storage(_ kind: String = "FloatStorage", key: String = "0", count: Int = 2) -> [UInt8] {
    tuple([text("storage"), global("torch", kind), text(key), text("cpu"), integer(count)]) + Array("Q".utf8)
  }

  static func tensor(_ storage: [UInt8], offset: Int = 0, shape: [Int], strides: [Int]) -> [UInt8] {
    let hooks = call("collections", "OrderedDict", [])
    return call(
      "torch._utils", "_rebuild_tensor_v2",
      [storage, integer(offset), tuple(shape.map(integer)), tuple(strides.map(integer)), [0x89], hooks])
  }
}
