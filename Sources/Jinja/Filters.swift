import Storage

/// The filters after `|`.
enum Filter: String, Sendable {
  case abs, capitalize, center, count, d, `default`, dictsort, first, float, format, indent, int, items, join, last
  case length, list, lower, map, max, min, reject, rejectattr, replace, reverse, round, safe, select, selectattr, sort
  case string, sum, title, tojson, trim, unique, upper
}

extension Renderer {
  func apply(_ filter: Filter, to value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    switch filter {
    case .map, .select, .reject, .selectattr, .rejectattr, .sort, .unique, .min, .max, .sum, .dictsort, .join, .list,
      .first, .last, .reverse, .items, .length, .count:
      return try applyToElements(filter, value, arguments)
    case .abs, .int, .float, .round: return try applyToNumber(filter, value, arguments)
    case .d, .default:
      let values = try bind(arguments, ["default_value", "boolean"], filter)
      let isMissing = value.isUndefined || values[1]?.isTrue ?? false && !value.isTrue
      return isMissing ? values[0] ?? "" : value
    case .tojson: return .string(try JSONText.text(of: value, try jsonOptions(arguments), meter))
    case .safe:
      try arguments.requireNone(of: filter.rawValue, meter)
      return .transient(.markup(try PythonText.string(of: value, meter)))
    default: return try applyToText(filter, value, arguments)
    }
  }

  func bind(
    _ arguments: Arguments, _ names: [String], required: Int = 0, _ filter: Filter
  ) throws(JinjaError) -> [JinjaValue?] {
    try arguments.bind(names, required: required, to: filter.rawValue, meter)
  }

  // MARK: - Text

  private func applyToText(
    _ filter: Filter, _ value: JinjaValue, _ arguments: Arguments
  ) throws(JinjaError) -> JinjaValue {
    if filter == .indent { return .string(try indented(value, arguments)) }
    let text = try PythonText.string(of: value, meter)
    try meter.charge(text: text.utf8.count)
    let result: String
    switch filter {
    case .trim:
      result = try stripped(text, try bind(arguments, ["chars"], filter)[0], filter.rawValue)
    case .replace:
      let values = try bind(arguments, ["old", "new", "count"], required: 2, filter)
      let count = values[2] ?? JinjaValue.none
      result = try replaced(
        text, try PythonText.string(of: values[0] ?? JinjaValue.none, meter),
        try PythonText.string(of: values[1] ?? JinjaValue.none, meter),
        count.isNone ? -1 : try count.requireInteger(of: filter.rawValue, meter))
      return .string(result)
    case .format:
      guard arguments.named.isEmpty else { throw meter.unsupported(.operation, "format with named arguments") }
      return .string(try PercentFormat.text(text, .tuple(arguments.positional), meter))
    case .center:
      let width = try bind(arguments, ["width"], filter)[0] ?? .int(80)
      return .string(try padded(text, Arguments(positional: [width]), filter.rawValue))
    default:
      try arguments.requireNone(of: filter.rawValue, meter)
      switch filter {
      case .upper: result = text.pythonUpper
      case .lower: result = text.pythonLower
      case .capitalize: result = text.pythonCapitalized
      case .title: result = text.jinjaTitle
      default: result = text
      }
    }
    // What passed through `safe` keeps that mark.
    if case .transient(.markup) = value { return .transient(.markup(result)) }
    return .string(result)
  }

  private func indented(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> String {
    let values = try bind(arguments, ["width", "first", "blank"], .indent)
    guard case .string(let text) = value else {
      throw meter.evaluation("'indent' of a value of type \(value.typeName)")
    }
    let width = values[0] ?? .int(4)
    var indentation: String
    if let text = width.text {
      indentation = text
    } else {
      let count = max(0, try width.requireInteger(of: "indent", meter))
      try meter.charge(text: count)
      indentation = String(repeating: " ", count: count)
    }
    let indentsBlank = values[2]?.isTrue ?? false
    try meter.charge(text.utf8.count)
    let lines = Lines.split(text + "\n")
    try meter.charge(text: indentation.utf8.count, times: lines.count)
    try meter.charge(text: indentation.utf8.count * lines.count + text.utf8.count)
    var result = values[1]?.isTrue ?? false ? indentation : ""
    for (i, line) in lines.enumerated() {
      if i > 0 {
        result += "\n"
        if indentsBlank || !line.isEmpty { result += indentation }
      }
      result += line
    }
    return result
  }

  private func jsonOptions(_ arguments: Arguments) throws(JinjaError) -> JSONText.Options {
    let values = try bind(arguments, ["ensure_ascii", "indent", "separators", "sort_keys"], .tojson)
    var options = JSONText.Options()
    options.isASCII = values[0]?.isTrue ?? false
    options.sortsKeys = values[3]?.isTrue ?? false
    if let indent = values[1], !indent.isNone {
      if let text = indent.text {
        options.indent = text
      } else {
        let count = max(0, try indent.requireInteger(of: "tojson", meter))
        try meter.charge(text: count)
        options.indent = String(repeating: " ", count: count)
      }
      options.itemSeparator = ","
    }
    if let separators = values[2], !separators.isNone {
      guard let items = separators.sequence, items.count == 2 else {
        throw meter.evaluation("'tojson' expects two separators")
      }
      options.itemSeparator = try items[0].requireText(of: "tojson", meter)
      options.keySeparator = try items[1].requireText(of: "tojson", meter)
    }
    return options
  }

  // MARK: - Numbers

  private func applyToNumber(
    _ filter: Filter, _ value: JinjaValue, _ arguments: Arguments
  ) throws(JinjaError) -> JinjaValue {
    switch filter {
    case .int: return try integer(value, arguments)
    case .float:
      let fallback = try bind(arguments, ["default"], filter)[0] ?? .double(0)
      if case .transient(.undefined(let reason)) = value { throw .undefined(reason, line: meter.line) }
      if let number = value.number { return .double(number) }
      try meter.charge(value.text?.utf8.count ?? 0)
      guard let number = value.text.flatMap(PythonNumber.double) else { return fallback }
      return try Operators.finite(number, meter)
    case .abs:
      try arguments.requireNone(of: filter.rawValue, meter)
      if case .double(let number) = value { return .double(number.magnitude) }
      guard let integer = value.integer else { throw meter.evaluation("'abs' of a value of type \(value.typeName)") }
      return try Operators.sign(.int(integer), isNegative: integer < 0, meter)
    default: return try rounded(value, arguments)
    }
  }

  private func integer(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["default", "base"], .int)
    let fallback = values[0] ?? .int(0)
    if let base = values[1], base.integer != 10 { throw meter.unsupported(.operation, "int with a base") }
    if case .transient(.undefined(let reason)) = value { throw .undefined(reason, line: meter.line) }
    if let integer = value.integer { return .int(integer) }
    let number: Double
    switch value {
    case .double(let value):
      if value.isInfinite { throw meter.evaluation("an infinite number is no integer") }
      number = value
    default:
      guard let text = value.text else { return fallback }
      try meter.charge(text: text.utf8.count)
      if let digits = PythonNumber.digits(text) {
        guard let integer = Int(digits) else {
          throw .limit("an integer that does not fit 64 bits", line: meter.line)
        }
        return .int(integer)
      }
      guard let value = PythonNumber.double(text) else { return fallback }
      number = value
    }
    guard number.isFinite else { return fallback }
    guard let integer = Int(exactly: number.rounded(.towardZero)) else {
      throw .limit("an integer that does not fit 64 bits", line: meter.line)
    }
    return .int(integer)
  }

  private func rounded(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["precision", "method"], .round)
    if let precision = values[0], precision.integer != 0 { throw meter.unsupported(.operation, "round to digits") }
    let method = values[1]?.text ?? "common"
    guard ["common", "ceil", "floor"].contains(method), values[1]?.text != nil || values[1] == nil else {
      throw meter.evaluation("'round' expects the method common, ceil or floor")
    }
    if let integer = value.integer {
      return method == "common" ? .int(integer) : .double(Double(integer))
    }
    guard case .double(let number) = value, number.isFinite || method == "common" else {
      throw meter.evaluation("'round' of a value of type \(value.typeName)")
    }
    switch method {
    case "ceil": return .double(number.rounded(.up) + 0)
    case "floor": return .double(number.rounded(.down) + 0)
    default: return .double(number.rounded(.toNearestOrEven))
    }
  }
}

/// Python's `int` and `float` of strings.
enum PythonNumber {
  private static func trimmed(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    let end = Whitespace.end(of: bytes[...])
    return Array(bytes[Whitespace.start(of: bytes[..<end])..<end])
  }

  /// The sign and digits of a decimal integer, without underscores; nil if the text is none.
  static func digits(_ text: String) -> String? {
    let bytes = trimmed(text)
    let digits = bytes.dropFirst(bytes.first == UInt8(ascii: "-") || bytes.first == UInt8(ascii: "+") ? 1 : 0)
    guard isRun(digits) else { return nil }
    return String(bytes.filter { $0 != UInt8(ascii: "_") }[...])
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  /// Whether the bytes are digits with single underscores between them.
  private static func isRun(_ bytes: ArraySlice<UInt8>) -> Bool {
    var previous: UInt8 = UInt8(ascii: "_")
    for byte in bytes {
      guard isDigit(byte) || byte == UInt8(ascii: "_") && isDigit(previous) else { return false }
      previous = byte
    }
    return isDigit(previous)
  }

  static func double(_ text: String) -> Double? {
    let bytes = trimmed(text)
    let unsigned = bytes.dropFirst(bytes.first == UInt8(ascii: "-") || bytes.first == UInt8(ascii: "+") ? 1 : 0)
    let lower = String(unsigned).lowercased()
    let sign: Double = bytes.first == UInt8(ascii: "-") ? -1 : 1
    switch lower {
    case "inf", "infinity": return sign * .infinity
    case "nan": return .nan
    default: break
    }
    // digits [. digits] [e [sign] digits], with digits on one side of the point at least.
    let parts = unsigned.split(separator: UInt8(ascii: "e"), maxSplits: 1, omittingEmptySubsequences: false)
    let exponentParts =
      parts.count > 1
      ? parts
      : unsigned.split(
        separator: UInt8(ascii: "E"), maxSplits: 1, omittingEmptySubsequences: false)
    if exponentParts.count > 1 {
      let exponent = exponentParts[1]
      let hasSign = exponent.first == UInt8(ascii: "-") || exponent.first == UInt8(ascii: "+")
      guard isRun(exponent.dropFirst(hasSign ? 1 : 0)) else { return nil }
    }
    let decimal = exponentParts[0].split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard decimal.count <= 2, decimal.allSatisfy({ $0.isEmpty || isRun($0) }), decimal.contains(where: { !$0.isEmpty })
    else { return nil }
    let whole = decimal[0].isEmpty ? "0" : String(decimal[0])
    let fraction = decimal.count > 1 && !decimal[1].isEmpty ? String(decimal[1]) : "0"
    let exponent = exponentParts.count > 1 ? "e" + String(exponentParts[1]) : ""
    return Double((whole + "." + fraction + exponent).filter { $0 != "_" }).map { sign * $0 }
  }
}
