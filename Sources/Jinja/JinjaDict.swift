/// A dictionary that keeps the order of insertion, as Python's `dict`.
package struct JinjaDict: Sendable {
  package struct Entry: Sendable {
    package let key: JinjaValue
    package internal(set) var value: JinjaValue
  }

  package private(set) var entries: [Entry] = []
  /// The places of the keys in `entries`, once there are more than a search should pass.
  private var places: [JinjaKey: Int] = [:]
  private static let searchedCount = 8

  package init() {}

  /// Of equal keys, the last value counts.
  package init(_ pairs: [(String, JinjaValue)]) {
    for (key, value) in pairs { self[key] = value }
  }

  package var isEmpty: Bool { entries.isEmpty }
  package var count: Int { entries.count }

  /// The value of a text key; setting nil leaves the dictionary as it is.
  package subscript(key: String) -> JinjaValue? {
    get { self[.string(key)] }
    set { if let newValue { set(.string(key), .string(key), newValue) } }
  }

  subscript(key: JinjaKey) -> JinjaValue? { place(of: key).map { entries[$0].value } }

  mutating func set(_ key: JinjaKey, _ keyValue: JinjaValue, _ value: JinjaValue) {
    if let place = place(of: key) {
      entries[place].value = value
      return
    }
    entries.append(Entry(key: keyValue, value: value))
    if entries.count == Self.searchedCount + 1 {
      for (place, entry) in entries.enumerated() { if let key = JinjaKey(entry.key) { places[key] = place } }
    } else if entries.count > Self.searchedCount {
      places[key] = entries.count - 1
    }
  }

  private func place(of key: JinjaKey) -> Int? {
    entries.count > Self.searchedCount ? places[key] : entries.firstIndex { JinjaKey($0.key) == key }
  }

  /// The pairs of key and value as tuples.
  var items: [JinjaValue] { entries.map { .tuple([$0.key, $0.value]) } }

  func equals(_ other: JinjaDict, _ meter: Meter) throws(JinjaError) -> Bool {
    guard count == other.count else { return false }
    for entry in entries {
      guard let key = JinjaKey(entry.key), let value = other[key] else { return false }
      try meter.charge(text: key.byteCount)
      if try !entry.value.equals(value, meter) { return false }
    }
    return true
  }
}

/// A hashable value. Equal numbers are one key, and texts are compared by code point.
enum JinjaKey: Hashable {
  case none
  case undefined
  case int(Int)
  case double(Double)
  case string(String)
  case tuple([JinjaKey])
  /// A namespace, macro or other object, by its kind and place.
  case object(String, Int)

  /// Nil for a list or dictionary, which Python cannot hash.
  init?(_ value: JinjaValue) {
    switch value {
    case .none: self = .none
    case .bool(let value): self = .int(value ? 1 : 0)
    case .int(let value): self = .int(value)
    case .double(let value): self = Int(exactly: value).map(JinjaKey.int) ?? .double(value)
    case .string(let text), .transient(.markup(let text)): self = .string(text)
    case .list, .dict, .transient(.view), .transient(.method), .transient(.range): return nil
    case .transient(.undefined): self = .undefined
    case .transient(.tuple(let items)):
      var keys: [JinjaKey] = []
      for item in items {
        guard let key = JinjaKey(item) else { return nil }
        keys.append(key)
      }
      self = .tuple(keys)
    case .transient(.iterator(let place)): self = .object("iterator", place)
    case .transient(.namespace(let place)): self = .object("namespace", place)
    case .transient(.macro(let place)): self = .object("macro", place)
    case .transient(.loop(_, let identity)): self = .object("loop", identity)
    case .transient(.function(let function)): self = .object(function.rawValue, 0)
    }
  }

  /// The key of a value, whose elements are counted before the key is made: shared ones may multiply.
  static func metered(_ value: JinjaValue, _ meter: Meter) throws(JinjaError) -> JinjaKey? {
    try charge(value, meter)
    return JinjaKey(value)
  }

  private static func charge(_ value: JinjaValue, _ meter: Meter) throws(JinjaError) {
    switch value {
    case .string(let text), .transient(.markup(let text)): try meter.charge(text: text.utf8.count)
    case .transient(.tuple(let items)):
      try meter.charge(1 + items.count)
      for item in items { try charge(item, meter) }
    default: break
    }
  }

  var byteCount: Int {
    switch self {
    case .string(let text): text.utf8.count
    case .tuple(let keys): keys.reduce(16) { $0 + $1.byteCount }
    default: 8
    }
  }

  static func == (a: JinjaKey, b: JinjaKey) -> Bool {
    switch (a, b) {
    case (.none, .none), (.undefined, .undefined): true
    case (.int(let a), .int(let b)): a == b
    case (.double(let a), .double(let b)): a == b
    case (.string(let a), .string(let b)): a.hasSameCodePoints(as: b)
    case (.tuple(let a), .tuple(let b)): a == b
    case (.object(let a, let i), .object(let b, let j)): i == j && a == b
    default: false
    }
  }

  func hash(into hasher: inout Hasher) {
    switch self {
    case .none: hasher.combine(0)
    case .undefined: hasher.combine(1)
    case .int(let value): hasher.combine(value)
    case .double(let value): hasher.combine(value)
    case .string(let text):
      // The hash of String is that of its normal form, which many keys of a hostile template could share.
      var word: UInt64 = 0
      var count = 0
      for byte in text.utf8 {
        word = word << 8 | UInt64(byte)
        count += 1
        if count & 7 == 0 { hasher.combine(word) }
      }
      hasher.combine(word)
      hasher.combine(count)
    case .tuple(let keys): for key in keys { key.hash(into: &hasher) }
    case .object(_, let place): hasher.combine(place)
    }
  }
}
