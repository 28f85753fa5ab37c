import Storage

/// The place of a value in a JSON document, such as `#/$defs/name`. Pointers are compared by bytes.
///
/// Source: RFC 6901, in the form of section 6.
struct JSONPointer: Hashable, CustomStringConvertible {
  private let bytes: ByteString

  /// The whole document.
  static let root = JSONPointer(bytes: ByteString("#"))

  private init(bytes: ByteString) { self.bytes = bytes }

  var byteCount: Int { bytes.bytes.count }

  var description: String { String(decoding: bytes.bytes, as: UTF8.self) }

  /// The place of a member of an object, or of an item by its index.
  static func / (place: JSONPointer, key: String) -> JSONPointer {
    JSONPointer(bytes: place.bytes + ByteString("/" + escaped(key)))
  }

  /// The keys and indices that a reference such as `#/$defs/name` goes through; nil if it is not a pointer of this form.
  static func keys(in reference: String) -> [String]? {
    guard reference == "#" || reference.hasPrefix("#/"), let decoded = percentDecoded(reference) else { return nil }
    var keys: [String] = []
    for part in decoded.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
      guard let key = unescaped(part) else { return nil }
      keys.append(key)
    }
    return keys
  }

  private static func percentDecoded(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func escaped(_ key: String) -> String {
    guard key.utf8.contains(where: { $0 == UInt8(ascii: "~") || $0 == UInt8(ascii: "/") }) else { return key }
    return key.unicodeScalars.reduce(into: "") { text, scalar in
      text.unicodeScalars.append(contentsOf: (scalar == "~" ? "~0" : scalar == "/" ? "~1" : "\(scalar)").unicodeScalars)
    }
  }

  private static func unescaped(_ part: Substring) -> String? {
    var scalars = String.UnicodeScalarView()
    var rest = part.unicodeScalars[...]
    while let scalar = rest.popFirst() {
      guard scalar == "~" else {
        scalars.append(scalar)
        continue
      }
      switch rest.popFirst() {
      case "0": scalars.append("~")
      case "1": scalars.append("/")
      default: return nil
      }
    }
    return String(scalars)
  }
}

/// A JSON document whose parts are found by reference.
struct JSONDocument {
  let root: JSONValue
  /// The members of the objects that references went through, so that many references to a large object are cheap.
  private var indexes: [JSONPointer: [ByteString: Int]] = [:]

  init(_ root: JSONValue) { self.root = root }

  /// The value that a reference such as `#/$defs/name` names, and its place; nil if there is none.
  mutating func resolve(_ reference: String) -> (value: JSONValue, place: JSONPointer)? {
    guard let keys = JSONPointer.keys(in: reference) else { return nil }
    var (value, place) = (root, JSONPointer.root)
    for key in keys {
      switch value {
      case .object(let members):
        let index = indexes[place] ?? Self.index(of: members)
        indexes[place] = index
        guard let i = index[ByteString(key)] else { return nil }
        value = members[i].value
      case .array(let items):
        guard let i = Int(key), items.indices.contains(i), String(i) == key else { return nil }
        value = items[i]
      default: return nil
      }
      place = place / key
    }
    return (value, place)
  }

  /// The index of the first member with each key.
  static func index(of members: [JSONValue.Member]) -> [ByteString: Int] {
    Dictionary(members.enumerated().map { (ByteString($1.key), $0) }) { first, _ in first }
  }
}
