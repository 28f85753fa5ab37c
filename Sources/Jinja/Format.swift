/// The operator `%` of strings: `%s`, `%r`, `%d`, `%i` and `%%`.
enum PercentFormat {
  static func text(_ format: String, _ value: JinjaValue, _ meter: Meter) throws(JinjaError) -> String {
    var values = [value]
    if case .transient(.tuple(let items)) = value { values = items }
    var next = 0
    var result = ""
    var scalars = format.unicodeScalars.makeIterator()
    try meter.charge(format.utf8.count)
    while let scalar = scalars.next() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      guard let conversion = scalars.next() else { throw meter.evaluation("'%' at the end of a format") }
      if conversion == "%" {
        result += "%"
        continue
      }
      guard ["s", "r", "d", "i"].contains(conversion) else {
        throw meter.unsupported(.operation, "%\(conversion) in a format")
      }
      guard next < values.count else { throw meter.evaluation("a format with too few values") }
      let part = try text(of: values[next], conversion, meter)
      next += 1
      try meter.charge(text: result.utf8.count + part.utf8.count, adding: part.utf8.count)
      result += part
    }
    guard next == values.count || hasNames(value) else { throw meter.evaluation("a format with too many values") }
    return result
  }

  /// Whether Python takes the value for a mapping, of which a format may use nothing.
  private static func hasNames(_ value: JinjaValue) -> Bool {
    switch value {
    case .list, .dict, .transient(.undefined), .transient(.range): true
    default: false
    }
  }

  private static func text(
    of value: JinjaValue, _ conversion: Unicode.Scalar, _ meter: Meter
  ) throws(JinjaError) -> String {
    switch conversion {
    case "s": return try PythonText.string(of: value, meter)
    case "r": return try PythonText.representation(of: value, meter)
    default:
      if let integer = value.integer { return String(integer) }
      guard case .double(let number) = value, let integer = Int(exactly: number.rounded(.towardZero)) else {
        throw meter.evaluation("%d of a value of type \(value.typeName)")
      }
      return String(integer)
    }
  }
}

/// Python's `str.format` with fields of a number, a name or nothing, and `!s` and `!r`.
enum FieldFormat {
  static func text(_ format: String, _ arguments: Arguments, _ meter: Meter) throws(JinjaError) -> String {
    var result = ""
    var next = 0
    var isNumbered: Bool?
    var scalars = format.unicodeScalars[...]
    try meter.charge(format.utf8.count)
    while let scalar = scalars.popFirst() {
      guard scalar == "{" || scalar == "}" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      if scalars.first == scalar {
        scalars.removeFirst()
        result.unicodeScalars.append(scalar)
        continue
      }
      guard scalar == "{", let end = scalars.firstIndex(of: "}") else {
        throw meter.evaluation("a single '\(scalar)' in a format")
      }
      var field = String(scalars[..<end])
      scalars = scalars[scalars.index(after: end)...]
      let isRepresentation = field.hasSuffix("!r")
      if isRepresentation || field.hasSuffix("!s") { field.removeLast(2) }
      guard field.unicodeScalars.allSatisfy({ $0.properties.isXIDContinue }) else {
        throw meter.unsupported(.operation, "{\(field)} in a format")
      }
      let isIndex = field.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
      if isIndex {
        if let isNumbered, isNumbered == field.isEmpty {
          throw meter.evaluation("a format with numbered and other fields")
        }
        isNumbered = !field.isEmpty
      }
      let value: JinjaValue?
      if isIndex {
        let place = field.isEmpty ? next : Int(field) ?? .max
        next += 1
        value = place < arguments.positional.count ? arguments.positional[place] : nil
      } else {
        value = arguments.named.first { $0.name == field }?.value
      }
      guard let value else { throw meter.evaluation("a format with a field that has no value") }
      let part =
        try isRepresentation ? PythonText.representation(of: value, meter) : PythonText.string(of: value, meter)
      try meter.charge(text: result.utf8.count + part.utf8.count, adding: part.utf8.count)
      result += part
    }
    return result
  }
}
