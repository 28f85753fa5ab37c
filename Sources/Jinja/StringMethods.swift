import Storage

// MARK: - Methods of strings

extension Renderer {
  func callMethod(_ name: String, of text: String, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    try meter.charge(text: text.utf8.count)
    switch name {
    case "strip", "lstrip", "rstrip":
      let values = try arguments.bind(["chars"], to: name, meter)
      return .string(try stripped(text, values[0], name, left: name != "rstrip", right: name != "lstrip"))
    case "split", "rsplit": return try split(text, arguments, name)
    case "splitlines":
      let values = try arguments.bind(["keepends"], to: name, meter)
      try meter.charge(text.utf8.count)
      return .list(Lines.split(text, keepsEnds: values[0]?.isTrue ?? false).map { .string($0) })
    case "startswith", "endswith": return try hasAffix(text, arguments, name)
    case "removeprefix", "removesuffix":
      let affix = try positional(arguments, name).requireText(of: name, meter)
      let bytes = text.utf8
      if name == "removeprefix" {
        return .string(bytes.starts(with: affix.utf8) ? String(Array(text.utf8).dropFirst(affix.utf8.count)) : text)
      }
      return .string(
        bytes.reversed().starts(with: affix.utf8.reversed())
          ? String(Array(text.utf8).dropLast(affix.utf8.count)) : text)
    case "replace":
      guard arguments.named.isEmpty else { throw meter.evaluation("'replace' takes no named arguments") }
      let values = try arguments.bind(["old", "new", "count"], required: 2, to: name, meter)
      let old = try (values[0] ?? JinjaValue.none).requireText(of: name, meter)
      let new = try (values[1] ?? JinjaValue.none).requireText(of: name, meter)
      let count = try values[2]?.requireInteger(of: name, meter) ?? -1
      return .string(try replaced(text, old, new, count))
    case "join":
      let items = try elements(of: try positional(arguments, name))
      for item in items where item.text == nil {
        throw meter.evaluation("'join' of an element of type \(item.typeName)")
      }
      return .string(try joined(items, text))
    case "format": return .string(try FieldFormat.text(text, arguments, meter))
    case "find", "rfind", "index", "rindex", "count": return try search(text, arguments, name)
    case "partition", "rpartition": return try partition(text, try positional(arguments, name), name)
    case "ljust", "rjust", "center", "zfill": return .string(try padded(text, arguments, name))
    default:
      try arguments.requireNone(of: name, meter)
      return Self.simpleMethod(name, of: text)
    }
  }

  private static func simpleMethod(_ name: String, of text: String) -> JinjaValue {
    let scalars = text.unicodeScalars
    switch name {
    case "upper": return .string(text.pythonUpper)
    case "lower": return .string(text.pythonLower)
    case "title": return .string(text.pythonTitle)
    case "capitalize": return .string(text.pythonCapitalized)
    case "swapcase": return .string(text.pythonSwappedCase)
    case "isupper": return .bool(text.isCased(upper: true))
    case "islower": return .bool(text.isCased(upper: false))
    case "isascii": return .bool(text.utf8.allSatisfy { $0 < 0x80 })
    case "isspace": return .bool(!text.isEmpty && scalars.allSatisfy(Whitespace.contains))
    case "isdigit": return .bool(!text.isEmpty && scalars.allSatisfy(\.isPythonDigit))
    case "isnumeric": return .bool(!text.isEmpty && scalars.allSatisfy { $0.properties.numericType != nil })
    case "isalpha": return .bool(!text.isEmpty && scalars.allSatisfy(\.isPythonLetter))
    default:
      return .bool(!text.isEmpty && scalars.allSatisfy { $0.isPythonLetter || $0.properties.numericType != nil })
    }
  }

  /// The only argument, which Python takes without name.
  private func positional(_ arguments: Arguments, _ name: String) throws(JinjaError) -> JinjaValue {
    guard arguments.named.isEmpty else { throw meter.evaluation("'\(name)' takes no named arguments") }
    return try arguments.single(of: name, meter)
  }

  func stripped(
    _ text: String, _ characters: JinjaValue?, _ name: String, left: Bool = true, right: Bool = true
  ) throws(JinjaError) -> String {
    var bytes = Array(text.utf8)[...]
    if let characters, case .none = characters {
    } else if let characters {
      let listed = try characters.requireText(of: name, meter)
      try meter.charge(listed.utf8.count)
      let set = Set(listed.unicodeScalars)
      var scalars = text.unicodeScalars[...]
      while left, let first = scalars.first, set.contains(first) { scalars.removeFirst() }
      while right, let last = scalars.last, set.contains(last) { scalars.removeLast() }
      return String(scalars)
    }
    if left { bytes = bytes[Whitespace.start(of: bytes)...] }
    if right { bytes = bytes[..<Whitespace.end(of: bytes)] }
    return String(bytes)
  }

  func replaced(_ text: String, _ old: String, _ new: String, _ count: Int) throws(JinjaError) -> String {
    let limit = count < 0 ? Int.max : count
    let bytes = Array(text.utf8)
    try meter.charge(text: text.utf8.count + old.utf8.count)
    var places: [Int]
    if old.isEmpty {
      // Python replaces the places before and after each code point.
      try meter.charge(bytes.count)
      places = bytes.indices.filter { bytes[$0] & 0xC0 != 0x80 } + [bytes.count]
      places = Array(places.prefix(limit))
    } else {
      places = TextSearch(old).places(in: bytes, limit: limit)
    }
    if places.isEmpty { return text }
    let (added, overflow) = new.utf8.count.multipliedReportingOverflow(by: places.count)
    try meter.charge(text: overflow ? .max : bytes.count - places.count * old.utf8.count &+ added)
    var result: [UInt8] = []
    var copied = 0
    for place in places {
      result += bytes[copied..<place]
      result += new.utf8
      copied = place + old.utf8.count
    }
    return String((result + bytes[copied...])[...])
  }

  /// The texts of the items with a separator.
  func joined(_ items: [JinjaValue], _ separator: String) throws(JinjaError) -> String {
    var result = ""
    for (i, item) in items.enumerated() {
      let part = try PythonText.string(of: item, meter)
      let added = part.utf8.count + (i > 0 ? separator.utf8.count : 0)
      try meter.charge(text: result.utf8.count + added, adding: added)
      if i > 0 { result += separator }
      result += part
    }
    return result
  }

  // MARK: - Splitting and searching

  private func split(_ text: String, _ arguments: Arguments, _ name: String) throws(JinjaError) -> JinjaValue {
    let values = try arguments.bind(["sep", "maxsplit"], to: name, meter)
    let count = try values[1]?.requireInteger(of: name, meter) ?? -1
    let limit = count < 0 ? Int.max : count
    let bytes = Array(text.utf8)
    let parts: [ArraySlice<UInt8>]
    if let separator = values[0], !separator.isNone {
      let separator = try separator.requireText(of: name, meter)
      if separator.isEmpty { throw meter.evaluation("'\(name)' with an empty separator") }
      try meter.charge(text: separator.utf8.count)
      parts = Self.parts(of: bytes, separator, limit, fromEnd: name == "rsplit")
    } else {
      parts = name == "split" ? Self.words(of: bytes, limit) : Self.lastWords(of: bytes, limit)
    }
    try meter.charge(parts.count)
    return .list(parts.map { .string(String($0)) })
  }

  private static func parts(
    of bytes: [UInt8], _ separator: String, _ limit: Int, fromEnd: Bool
  ) -> [ArraySlice<UInt8>] {
    var parts: [ArraySlice<UInt8>] = []
    var start = 0
    let search = TextSearch(separator)
    for place in fromEnd ? search.lastPlaces(in: bytes, limit: limit) : search.places(in: bytes, limit: limit) {
      parts.append(bytes[start..<place])
      start = place + search.count
    }
    return parts + [bytes[start...]]
  }

  private static func words(of bytes: [UInt8], _ limit: Int) -> [ArraySlice<UInt8>] {
    var parts: [ArraySlice<UInt8>] = []
    var rest = bytes[Whitespace.start(of: bytes[...])...]
    while !rest.isEmpty {
      if parts.count == limit {
        parts.append(rest)
        break
      }
      var end = rest.startIndex
      while end < rest.endIndex, Whitespace.length(rest, at: end) == 0 { end += 1 }
      parts.append(rest[..<end])
      rest = rest[end...]
      rest = rest[Whitespace.start(of: rest)...]
    }
    return parts
  }

  private static func lastWords(of bytes: [UInt8], _ limit: Int) -> [ArraySlice<UInt8>] {
    var parts: [ArraySlice<UInt8>] = []
    var rest = bytes[..<Whitespace.end(of: bytes[...])]
    while !rest.isEmpty {
      if parts.count == limit {
        parts.append(rest)
        break
      }
      // The start of the last word is after the last whitespace.
      var start = rest.endIndex
      while start > rest.startIndex {
        var character = start - 1
        while character > rest.startIndex, bytes[character] & 0xC0 == 0x80 { character -= 1 }
        if Whitespace.length(rest, at: character) == start - character { break }
        start = character
      }
      parts.append(rest[start...])
      rest = rest[..<start]
      rest = rest[..<Whitespace.end(of: rest)]
    }
    return parts.reversed()
  }

  private func partition(_ text: String, _ separator: JinjaValue, _ name: String) throws(JinjaError) -> JinjaValue {
    let separator = try separator.requireText(of: name, meter)
    if separator.isEmpty { throw meter.evaluation("'\(name)' with an empty separator") }
    try meter.charge(text: separator.utf8.count)
    let bytes = Array(text.utf8)
    let search = TextSearch(separator)
    let isLast = name == "rpartition"
    guard let place = (isLast ? search.lastPlaces(in: bytes, limit: 1) : search.places(in: bytes, limit: 1)).first
    else {
      return .tuple(isLast ? ["", "", .string(text)] : [.string(text), "", ""])
    }
    return .tuple([
      .string(String(bytes[..<place])), .string(separator), .string(String(bytes[(place + search.count)...])),
    ])
  }

  private func search(_ text: String, _ arguments: Arguments, _ name: String) throws(JinjaError) -> JinjaValue {
    guard arguments.named.isEmpty, arguments.positional.count <= 1 else {
      throw meter.unsupported(.operation, "\(name) with these arguments")
    }
    let part = try positional(arguments, name).requireText(of: name, meter)
    try meter.charge(text: part.utf8.count)
    let bytes = Array(text.utf8)
    if name == "count" {
      return .int(part.isEmpty ? text.unicodeScalars.count + 1 : TextSearch(part).places(in: bytes).count)
    }
    let isLast = name.hasPrefix("r")
    let place =
      part.isEmpty
      ? isLast ? bytes.count : 0
      : (isLast
        ? TextSearch(part).lastPlaces(in: bytes, limit: 1) : TextSearch(part).places(in: bytes, limit: 1)).first
    if let place { return .int(bytes[..<place].count { $0 & 0xC0 != 0x80 }) }
    if name.hasSuffix("index") { throw meter.evaluation("'\(name)' of a text that is not found") }
    return .int(-1)
  }

  private func hasAffix(_ text: String, _ arguments: Arguments, _ name: String) throws(JinjaError) -> JinjaValue {
    guard arguments.named.isEmpty, arguments.positional.count <= 1 else {
      throw meter.unsupported(.operation, "\(name) with these arguments")
    }
    let value = try positional(arguments, name)
    var affixes = [value]
    if case .transient(.tuple(let items)) = value { affixes = items }
    for affix in affixes {
      let affix = try affix.requireText(of: name, meter)
      try meter.charge(text: affix.utf8.count)
      let matches =
        name == "startswith"
        ? text.utf8.starts(with: affix.utf8) : text.utf8.reversed().starts(with: affix.utf8.reversed())
      if matches { return true }
    }
    return false
  }

  func padded(_ text: String, _ arguments: Arguments, _ name: String) throws(JinjaError) -> String {
    let values = try arguments.bind(name == "zfill" ? ["width"] : ["width", "fill"], required: 1, to: name, meter)
    let width = try (values[0] ?? JinjaValue.none).requireInteger(of: name, meter)
    let isZero = name == "zfill"
    let fill = try isZero ? "0" : values.count > 1 ? values[1]?.requireText(of: name, meter) ?? " " : " "
    guard fill.unicodeScalars.count == 1 else { throw meter.evaluation("'\(name)' with a fill of several characters") }
    let count = text.unicodeScalars.count
    let missing = max(0, width > count ? width - count : 0)
    try meter.charge(text: fill.utf8.count, times: missing)
    let left: Int
    switch name {
    case "ljust": left = 0
    case "center": left = missing / 2 + (missing & width & 1)
    default: left = missing
    }
    let start = String(repeating: fill, count: left)
    let end = String(repeating: fill, count: missing - left)
    if isZero, let sign = text.unicodeScalars.first, sign == "+" || sign == "-" {
      return String(Character(sign)) + start + String(text.unicodeScalars.dropFirst())
    }
    return start + text + end
  }
}

/// Python's `str.splitlines`.
enum Lines {
  static func split(_ text: String, keepsEnds: Bool = false) -> [String] {
    var lines: [String] = []
    var line = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      let endsPrevious = previous == "\r" && scalar == "\n"
      if endsPrevious {
        if keepsEnds { lines[lines.count - 1].unicodeScalars.append(scalar) }
      } else if isBreak(scalar) {
        if keepsEnds { line.append(scalar) }
        lines.append(String(line))
        line = .init()
      } else {
        line.append(scalar)
      }
      previous = scalar
    }
    return line.isEmpty ? lines : lines + [String(line)]
  }

  private static func isBreak(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 10...13, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
    default: false
    }
  }
}
