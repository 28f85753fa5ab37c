public import Foundation

/// The reference data under `Tests/Goldens`, generated with the reference implementations (see the README there).
public enum Goldens {
  /// The folder of the goldens.
  public static let folder = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Goldens")

  /// A file or folder among the goldens.
  public static func url(_ path: String) -> URL { folder.appending(path: path) }

  /// The path of a file or folder among the goldens.
  public static func path(_ path: String) -> String { url(path).path(percentEncoded: false) }

  /// A JSON file among the goldens.
  public static func json<Value: Decodable>(_ path: String, as type: Value.Type) throws -> Value {
    try JSONDecoder().decode(type, from: Data(contentsOf: url(path)))
  }

  /// The tensors of a safetensors file among the goldens.
  public static func tensors(_ path: String) throws -> GoldenTensors { try GoldenTensors(url(path)) }
}

/// A plain safetensors reader for tests, independent of the engine's reader.
public struct GoldenTensors {
  private struct Entry {
    var dtype: String
    var shape: [Int]
    var offsets: Range<Int>
  }

  public struct Missing: Error { public var name: String }

  private let entries: [String: Entry]
  private let payload: Data

  public init(_ url: URL) throws {
    let data = try Data(contentsOf: url)
    let headerSize = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(headerSize))
    var entries: [String: Entry] = [:]
    for (name, value) in header as? [String: Any] ?? [:] {
      guard let member = value as? [String: Any], let dtype = member["dtype"] as? String,
        let shape = member["shape"] as? [Int], let offsets = member["data_offsets"] as? [Int]
      else { continue }
      entries[name] = Entry(dtype: dtype, shape: shape, offsets: offsets[0]..<offsets[1])
    }
    self.entries = entries
    payload = Data(data.dropFirst(8 + headerSize))
  }

  public var names: [String] { entries.keys.sorted() }

  public func shape(_ name: String) throws -> [Int] { try entry(name).shape }

  /// The element type of a tensor, such as `F16`.
  public func elementName(_ name: String) throws -> String { try entry(name).dtype }

  /// The stored bytes of a tensor.
  public func bytes(_ name: String) throws -> [UInt8] { [UInt8](payload[try entry(name).offsets]) }

  /// The values of an `F32` tensor.
  public func floats(_ name: String) throws -> [Float] {
    try words(name).map { Float(bitPattern: $0) }
  }

  /// The values of an `I32` tensor.
  public func integers(_ name: String) throws -> [Int] {
    try words(name).map { Int(Int32(bitPattern: $0)) }
  }

  private func words(_ name: String) throws -> [UInt32] {
    let bytes = try bytes(name)
    return stride(from: 0, to: bytes.count, by: 4).map { i in
      UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16 | UInt32(bytes[i + 3]) << 24
    }
  }

  private func entry(_ name: String) throws -> Entry {
    guard let entry = entries[name] else { throw Missing(name: name) }
    return entry
  }
}
