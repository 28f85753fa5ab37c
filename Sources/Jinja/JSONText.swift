/// Python's `json.dumps`, as the filter `tojson` of transformers calls it.
struct JSONText {
  struct Options {
    var isASCII = false
    /// The indentation of a level; nil for one line.
    var indent: String?
    var itemSeparator = ", "
    var keySeparator = ": "
    var sortsKeys = false
  }

  private let options: Options
  private let meter: Meter
  private var text = ""

  static func text(of value: JinjaValue, _ options: Options, _ meter: Meter) throws(JinjaError) -> String {
    var writer = JSONText(options: options, meter: meter)
    try writer.append(value, depth: 0)
    return writer.text
  }

  private init(options: Options, meter: Meter) {
    self.options = options
    self.meter = meter
  }

  private mutating func append(_ text: String) throws(JinjaError) {
    try meter.charge(text: self.text.utf8.count + text.utf8.count, adding: text.utf8.count)
    self.text += text
  }

  private mutating func append(_ value: JinjaValue, depth: Int) throws(JinjaError) {
    switch value {
    case .none: try append("null")
    case .bool(let value): try append(value ? "true" : "false")
    case .int(let value): try append(String(value))
    case .double(let value): try append(Self.number(value))
    case .string(let text), .transient(.markup(let text)): try append(quoted(text))
    case .list(let items), .transient(.tuple(let items)):
      if items.isEmpty { return try append("[]") }
      try append("[")
      for (i, item) in items.enumerated() {
        try separate(isFirst: i == 0, depth: depth + 1)
        try append(item, depth: depth + 1)
      }
      try breakLine(depth: depth)
      try append("]")
    case .dict(let dict):
      if dict.isEmpty { return try append("{}") }
      try append("{")
      let entries = options.sortsKeys ? try sorted(dict.entries) : dict.entries
      for (i, entry) in entries.enumerated() {
        try separate(isFirst: i == 0, depth: depth + 1)
        try append(quoted(try key(entry.key)))
        try append(options.keySeparator)
        try append(entry.value, depth: depth + 1)
      }
      try breakLine(depth: depth)
      try append("}")
    default: throw meter.evaluation("JSON of a value of type \(value.typeName)")
    }
  }

  private func sorted(_ entries: [JinjaDict.Entry]) throws(JinjaError) -> [JinjaDict.Entry] {
    let order = try Sorting.order(of: entries.map(\.key), isReversed: false, meter)
    return order.map { entries[$0] }
  }

  private mutating func separate(isFirst: Bool, depth: Int) throws(JinjaError) {
    if !isFirst { try append(options.itemSeparator) }
    try breakLine(depth: depth)
  }

  private mutating func breakLine(depth: Int) throws(JinjaError) {
    guard let indent = options.indent else { return }
    try meter.charge(text: indent.utf8.count, times: depth)
    try append("\n" + String(repeating: indent, count: depth))
  }

  private static func number(_ value: Double) -> String {
    value.isNaN ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : PythonText.text(of: value)
  }

  private func key(_ key: JinjaValue) throws(JinjaError) -> String {
    switch key {
    case .string(let text), .transient(.markup(let text)): text
    case .none: "null"
    case .bool(let value): value ? "true" : "false"
    case .int(let value): String(value)
    case .double(let value): Self.number(value)
    default: throw meter.evaluation("a JSON key of type \(key.typeName)")
    }
  }

  private func quoted(_ text: String) -> String {
    var result = String.UnicodeScalarView(["\""])
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\":
        result.append("\\")
        result.append(scalar)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case "\u{8}": result.append(contentsOf: "\\b".unicodeScalars)
      case "\u{C}": result.append(contentsOf: "\\f".unicodeScalars)
      default:
        if scalar.value < 0x20 || options.isASCII && scalar.value > 0x7E {
          for unit in String(Character(scalar)).utf16 {
            let digits = String(unit, radix: 16)
            let escape = "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            result.append(contentsOf: escape.unicodeScalars)
          }
        } else {
          result.append(scalar)
        }
      }
    }
    result.append("\"")
    return String(result)
  }
}
