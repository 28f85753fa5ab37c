/// Python's `str` and `repr` of values.
struct PythonText {
  private let meter: Meter
  private var text = ""

  static func string(of value: JinjaValue, _ meter: Meter) throws(JinjaError) -> String {
    switch value {
    case .string(let text), .transient(.markup(let text)): return text
    case .transient(.undefined): return ""
    default: return try representation(of: value, meter)
    }
  }

  static func representation(of value: JinjaValue, _ meter: Meter) throws(JinjaError) -> String {
    var writer = PythonText(meter: meter)
    try writer.append(value)
    return writer.text
  }

  private init(meter: Meter) { self.meter = meter }

  private mutating func append(_ text: String) throws(JinjaError) {
    try meter.charge(text: self.text.utf8.count + text.utf8.count, adding: text.utf8.count)
    self.text += text
  }

  private mutating func append(_ value: JinjaValue) throws(JinjaError) {
    switch value {
    case .none: try append("None")
    case .bool(let value): try append(value ? "True" : "False")
    case .int(let value): try append(String(value))
    case .double(let value): try append(Self.text(of: value))
    case .string(let text): try append(Self.quoted(text))
    case .list(let items): try append(items, open: "[", close: "]")
    case .dict(let dict): try append(dict)
    case .transient(let value): try append(value)
    }
  }

  private mutating func append(_ value: TransientValue) throws(JinjaError) {
    switch value {
    case .undefined: try append("Undefined")
    case .tuple(let items): try append(items, open: "(", close: items.count == 1 ? ",)" : ")")
    case .markup(let text): try append("Markup(\(Self.quoted(text)))")
    case .range(let range):
      try append("range(\(range.start), \(range.stop)\(range.step == 1 ? "" : ", \(range.step)"))")
    case .view(let kind, let dict):
      let items =
        switch kind {
        case .keys: dict.entries.map(\.key)
        case .values: dict.entries.map(\.value)
        case .items: dict.items
        }
      try append(items, open: "dict_\(kind.rawValue)([", close: "])")
    case .iterator, .namespace, .macro, .loop, .function, .method:
      throw meter.unsupported(.operation, "text of a \(JinjaValue.transient(value).typeName)")
    }
  }

  private mutating func append(_ items: [JinjaValue], open: String, close: String) throws(JinjaError) {
    try append(open)
    for (i, item) in items.enumerated() {
      if i > 0 { try append(", ") }
      try append(item)
    }
    try append(close)
  }

  private mutating func append(_ dict: JinjaDict) throws(JinjaError) {
    try append("{")
    for (i, entry) in dict.entries.enumerated() {
      if i > 0 { try append(", ") }
      try append(entry.key)
      try append(": ")
      try append(entry.value)
    }
    try append("}")
  }

  /// The shortest decimal that reads as this number, with an exponent below 1e-4 and from 1e16.
  static func text(of value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
    let sign = value < 0 ? "-" : ""
    let parts = value.magnitude.description.split(separator: "e")
    let decimal = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    let whole = String(decimal[0])
    let fraction = decimal.count > 1 ? String(decimal[1]) : ""
    var digits = whole + fraction
    // The number is 0.digits · 10^point.
    var point = whole.count + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
    let leading = digits.prefix { $0 == "0" }.count
    digits.removeFirst(leading)
    point -= leading
    while digits.count > 1, digits.last == "0" { digits.removeLast() }
    if point > 16 || point < -3 {
      let exponent = point - 1
      let tail = digits.dropFirst()
      let magnitude = String(exponent.magnitude)
      return sign + digits.prefix(1) + (tail.isEmpty ? "" : "." + tail) + "e" + (exponent < 0 ? "-" : "+")
        + (magnitude.count < 2 ? "0" : "") + magnitude
    }
    if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + digits }
    if digits.count <= point { return sign + digits + String(repeating: "0", count: point - digits.count) + ".0" }
    return sign + digits.prefix(point) + "." + digits.dropFirst(point)
  }

  /// The text in quotation marks, with escapes for what does not print.
  static func quoted(_ text: String) -> String {
    let quote: Unicode.Scalar = text.utf8.contains(0x27) && !text.utf8.contains(0x22) ? "\"" : "'"
    var result = String.UnicodeScalarView([quote])
    for scalar in text.unicodeScalars {
      switch scalar {
      case quote, "\\":
        result.append("\\")
        result.append(scalar)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      default:
        if isPrintable(scalar) {
          result.append(scalar)
        } else {
          result.append(contentsOf: ("\\" + escape(scalar)).unicodeScalars)
        }
      }
    }
    result.append(quote)
    return String(result)
  }

  /// The escape sequence of a character, without its backslash.
  static func escape(_ scalar: Unicode.Scalar) -> String {
    let (letter, width) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
    let digits = String(scalar.value, radix: 16)
    return letter + String(repeating: "0", count: width - digits.count) + digits
  }

  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value < 0x7F { return scalar.value >= 0x20 }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
      return false
    default: return true
    }
  }
}
