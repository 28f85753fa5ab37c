import Storage

/// Splits a template into tokens, with the whitespace rules of `trim_blocks` and `lstrip_blocks`.
///
/// Every byte is scanned a bounded number of times.
/// Source: the settings that transformers gives jinja2 3.1 for chat templates.
struct Lexer {
  private let source: [UInt8]
  private var position = 0
  private var line = 1
  private var tokens: [Token] = []
  private var brackets: [UInt8] = []
  /// Whether the last tag ended with a line break.
  private var startsLine = true

  static func tokens(of source: String) throws(JinjaError) -> [Token] {
    guard source.utf8.count <= JinjaLimits.sourceBytes else {
      throw .limit("a template of \(source.utf8.count) bytes; expected at most \(JinjaLimits.sourceBytes)", line: 1)
    }
    var lexer = Lexer(source: Self.normalized(source))
    while try lexer.nextTag() {}
    lexer.append(.end)
    return lexer.tokens
  }

  private init(source: [UInt8]) { self.source = source }

  /// The bytes with `\n` for every line break, without the last one.
  private static func normalized(_ source: String) -> [UInt8] {
    var bytes = normalizedLines(Array(source.utf8)[...])
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return bytes
  }

  private static func normalizedLines(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    guard bytes.contains(UInt8(ascii: "\r")) else { return Array(bytes) }
    var result: [UInt8] = []
    var previous: UInt8 = 0
    for byte in bytes {
      if byte == UInt8(ascii: "\r") {
        result.append(UInt8(ascii: "\n"))
      } else if byte != UInt8(ascii: "\n") || previous != UInt8(ascii: "\r") {
        result.append(byte)
      }
      previous = byte
    }
    return result
  }

  // MARK: - Text and tags

  private enum Tag { case comment, block, variable }

  /// Reads the text up to the next tag and the tag; returns false at the end.
  private mutating func nextTag() throws(JinjaError) -> Bool {
    let start = position
    var open = position
    var tag: Tag?
    while open + 1 < source.count {
      if source[open] == UInt8(ascii: "{") {
        switch source[open + 1] {
        case UInt8(ascii: "#"): tag = .comment
        case UInt8(ascii: "%"): tag = .block
        case UInt8(ascii: "{"): tag = .variable
        default: break
        }
        if tag != nil { break }
      }
      open += 1
    }
    guard let tag else {
      appendText(start..<source.count)
      position = source.count
      return false
    }
    position = open + 2
    let sign = takeSign()
    appendText(stripped(start..<open, sign: sign, isVariable: tag == .variable))
    line += source[start..<open].count { $0 == UInt8(ascii: "\n") }
    switch tag {
    case .comment: try comment()
    case .block:
      if let content = rawContent() {
        position = content
        try raw()
      } else {
        append(.blockBegin)
        try tagContent(isBlock: true)
      }
    case .variable:
      append(.variableBegin)
      try tagContent(isBlock: false)
    }
    startsLine = position > 0 && source[position - 1] == UInt8(ascii: "\n")
    return true
  }

  /// The sign after an opening delimiter.
  private mutating func takeSign() -> UInt8? {
    guard position < source.count, [UInt8(ascii: "-"), UInt8(ascii: "+")].contains(source[position]) else { return nil }
    position += 1
    return source[position - 1]
  }

  /// The part of the text before a tag that is kept.
  private func stripped(_ text: Range<Int>, sign: UInt8?, isVariable: Bool) -> Range<Int> {
    if sign == UInt8(ascii: "-") {
      return text.lowerBound..<Whitespace.end(of: source[text])
    }
    guard sign == nil, !isVariable else { return text }
    let lastLine = source[text].lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 }
    guard lastLine != nil || startsLine else { return text }
    let start = lastLine ?? text.lowerBound
    return Whitespace.end(of: source[start..<text.upperBound]) == start ? text.lowerBound..<start : text
  }

  private mutating func appendText(_ range: Range<Int>) {
    if !range.isEmpty { append(.text(String(decoding: source[range], as: UTF8.self))) }
  }

  private mutating func append(_ kind: Token.Kind) { tokens.append(Token(kind: kind, line: line)) }

  private func hasPrefix(_ text: StaticString, at place: Int) -> Bool {
    let bytes = "\(text)".utf8
    return source[min(place, source.count)...].starts(with: bytes)
  }

  /// Moves past whitespace and counts its lines.
  private mutating func skipWhitespace() {
    while position < source.count {
      let length = Whitespace.length(source, at: position)
      if length == 0 { return }
      if source[position] == UInt8(ascii: "\n") { line += 1 }
      position += length
    }
  }

  private mutating func skipLineBreak() {
    if position < source.count, source[position] == UInt8(ascii: "\n") {
      position += 1
      line += 1
    }
  }

  private mutating func comment() throws(JinjaError) {
    let start = position
    while position + 1 < source.count {
      if source[position] == UInt8(ascii: "\n") { line += 1 }
      if source[position] == UInt8(ascii: "#"), source[position + 1] == UInt8(ascii: "}") {
        let sign = position > start ? source[position - 1] : 0
        position += 2
        if sign == UInt8(ascii: "-") {
          skipWhitespace()
        } else if sign != UInt8(ascii: "+") {
          skipLineBreak()
        }
        return
      }
      position += 1
    }
    // As in jinja2, a tag that the template ends with is no error.
    if start == source.count { return }
    throw .syntax("a comment without '#}'", line: line)
  }

  /// The place after `raw %}` if the tag that begins here is raw.
  private func rawContent() -> Int? {
    var scan = self
    scan.skipWhitespaceOnly()
    guard scan.hasPrefix("raw", at: scan.position) else { return nil }
    scan.position += 3
    scan.skipWhitespaceOnly()
    if scan.hasPrefix("%}", at: scan.position) { return scan.position + 2 }
    guard scan.hasPrefix("-%}", at: scan.position) else { return nil }
    scan.position += 3
    scan.skipWhitespaceOnly()
    return scan.position
  }

  private mutating func skipWhitespaceOnly() {
    while position < source.count {
      let length = Whitespace.length(source, at: position)
      if length == 0 { return }
      position += length
    }
  }

  private mutating func raw() throws(JinjaError) {
    let start = position
    startsLine = source[position - 1] == UInt8(ascii: "\n")
    var open = position
    while open + 1 < source.count {
      guard source[open] == UInt8(ascii: "{"), source[open + 1] == UInt8(ascii: "%") else {
        open += 1
        continue
      }
      position = open + 2
      let sign = takeSign()
      skipWhitespaceOnly()
      if hasPrefix("endraw", at: position) {
        position += 6
        skipWhitespaceOnly()
        if endsBlock() {
          appendText(stripped(start..<open, sign: sign, isVariable: false))
          return
        }
      }
      open += 2
    }
    if start == source.count {
      position = start
      return
    }
    throw .syntax("'raw' without 'endraw'", line: line)
  }

  /// Moves past the end of a block and the whitespace that belongs to it.
  private mutating func endsBlock() -> Bool {
    if hasPrefix("%}", at: position) {
      position += 2
      skipLineBreak()
    } else if hasPrefix("-%}", at: position) {
      position += 3
      skipWhitespace()
    } else if hasPrefix("+%}", at: position) {
      position += 3
    } else {
      return false
    }
    return true
  }

  // MARK: - Inside tags

  private mutating func tagContent(isBlock: Bool) throws(JinjaError) {
    brackets = []
    while true {
      skipWhitespace()
      guard position < source.count else {
        append(.end)
        return
      }
      if brackets.isEmpty {
        let tagLine = line
        if isBlock, endsBlock() {
          tokens.append(Token(kind: .blockEnd, line: tagLine))
          return
        }
        if !isBlock, hasPrefix("}}", at: position) || hasPrefix("-}}", at: position) {
          let strips = source[position] == UInt8(ascii: "-")
          append(.variableEnd)
          position += strips ? 3 : 2
          if strips { skipWhitespace() }
          return
        }
      }
      try token()
    }
  }

  private mutating func token() throws(JinjaError) {
    let byte = source[position]
    if Self.isDigit(byte) { return try number() }
    if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") { return try string(quote: byte) }
    if let length = identifierLength() {
      append(.name(String(decoding: source[position..<position + length], as: UTF8.self)))
      position += length
      return
    }
    for length in [2, 1] where position + length <= source.count {
      let text = String(decoding: source[position..<position + length], as: UTF8.self)
      guard let symbol = Token.Symbol(rawValue: text) else { continue }
      try balance(byte)
      append(.symbol(symbol))
      position += length
      return
    }
    let scalar = String(decoding: source[position..<min(position + 4, source.count)], as: UTF8.self).unicodeScalars
      .first
    throw .syntax("the unexpected character \(String(scalar.map(Character.init) ?? "?").excerpt)", line: line)
  }

  private mutating func balance(_ byte: UInt8) throws(JinjaError) {
    switch byte {
    case UInt8(ascii: "("): brackets.append(UInt8(ascii: ")"))
    case UInt8(ascii: "["): brackets.append(UInt8(ascii: "]"))
    case UInt8(ascii: "{"): brackets.append(UInt8(ascii: "}"))
    case UInt8(ascii: ")"), UInt8(ascii: "]"), UInt8(ascii: "}"):
      guard brackets.popLast() == byte else {
        throw .syntax("an unexpected '\(Character(Unicode.Scalar(byte)))'", line: line)
      }
    default: break
    }
  }

  private func identifierLength() -> Int? {
    var end = position
    while end < source.count {
      if source[end] < 0x80 {
        let byte = source[end]
        guard
          Self.isDigit(byte) && end > position || byte == UInt8(ascii: "_")
            || (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z")
        else { break }
        end += 1
      } else {
        let length = source[end] < 0xE0 ? 2 : source[end] < 0xF0 ? 3 : 4
        let scalar = String(decoding: source[end..<end + length], as: UTF8.self).unicodeScalars.first
        guard let properties = scalar?.properties, end > position ? properties.isXIDContinue : properties.isXIDStart
        else { break }
        end += length
      }
    }
    return end > position ? end - position : nil
  }

  // MARK: - Literals

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  /// The place after decimal digits with single underscores between them.
  private func digits(from place: Int) -> Int {
    var end = place
    while end < source.count {
      if Self.isDigit(source[end]) {
        end += 1
      } else if source[end] == UInt8(ascii: "_"), end > place, end + 1 < source.count, Self.isDigit(source[end + 1]) {
        end += 1
      } else {
        break
      }
    }
    return end
  }

  private func literal(_ range: Range<Int>) -> String {
    String(decoding: source[range].lazy.filter { $0 != UInt8(ascii: "_") }, as: UTF8.self)
  }

  private mutating func number() throws(JinjaError) {
    let start = position
    let whole = digits(from: start)
    var end = whole
    if end + 1 < source.count, source[end] == UInt8(ascii: "."), Self.isDigit(source[end + 1]) {
      end = digits(from: end + 1)
    }
    if end < source.count, source[end] | 0x20 == UInt8(ascii: "e") {
      let hasSign = end + 1 < source.count && [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(source[end + 1])
      let exponent = end + (hasSign ? 2 : 1)
      if exponent < source.count, Self.isDigit(source[exponent]) { end = digits(from: exponent) }
    }
    if end > whole, start == 0 || source[start - 1] != UInt8(ascii: ".") {
      guard let value = Double(literal(start..<end)) else { throw .syntax("a number that cannot be read", line: line) }
      append(.float(value))
      position = end
      return
    }
    var radix = 10
    end = whole
    if source[start] == UInt8(ascii: "0"), start + 1 < source.count {
      switch source[start + 1] | 0x20 {
      case UInt8(ascii: "x"): radix = 16
      case UInt8(ascii: "o"): radix = 8
      case UInt8(ascii: "b"): radix = 2
      default: break
      }
    }
    var text = start..<end
    if radix != 10 {
      throw .unsupported(.operation, name: "integers of base \(radix)", line: line)
    }
    if source[start] == UInt8(ascii: "0"), source[text].contains(where: { $0 != UInt8(ascii: "0") }) {
      // As in jinja2, a leading zero is a number of its own, which no expression can continue.
      text = start..<start + 1
    }
    guard let value = Int(literal(text)) else {
      throw .limit("an integer above \(Int.max)", line: line)
    }
    append(.integer(value))
    position = text.upperBound
  }

  private mutating func string(quote: UInt8) throws(JinjaError) {
    let start = position + 1
    let first = line
    var end = start
    var isEscaped = false
    while end < source.count, source[end] != quote {
      if source[end] == UInt8(ascii: "\\") {
        isEscaped = true
        end += 1
      }
      end += 1
    }
    guard end < source.count else { throw .syntax("a string without its end", line: line) }
    line += source[start..<end].count { $0 == UInt8(ascii: "\n") }
    let bytes = isEscaped ? try Self.unescaped(source[start..<end], line: first) : Array(source[start..<end])
    tokens.append(Token(kind: .string(String(decoding: bytes, as: UTF8.self)), line: first))
    position = end + 1
  }

  /// Python's escape sequences, without `\N`.
  private static func unescaped(_ bytes: ArraySlice<UInt8>, line: Int) throws(JinjaError) -> [UInt8] {
    var result: [UInt8] = []
    var i = bytes.startIndex
    while i < bytes.endIndex {
      guard bytes[i] == UInt8(ascii: "\\") else {
        result.append(bytes[i])
        i += 1
        continue
      }
      let escape = bytes[i + 1]
      i += 2
      var code: UInt32?
      switch escape {
      case UInt8(ascii: "\n"): break
      case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): result.append(escape)
      case UInt8(ascii: "a"): result.append(7)
      case UInt8(ascii: "b"): result.append(8)
      case UInt8(ascii: "t"): result.append(9)
      case UInt8(ascii: "n"): result.append(10)
      case UInt8(ascii: "v"): result.append(11)
      case UInt8(ascii: "f"): result.append(12)
      case UInt8(ascii: "r"): result.append(13)
      case UInt8(ascii: "0")...UInt8(ascii: "7"):
        var value = UInt32(escape - UInt8(ascii: "0"))
        var count = 1
        while count < 3, i < bytes.endIndex, (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(bytes[i]) {
          value = value * 8 + UInt32(bytes[i] - UInt8(ascii: "0"))
          i += 1
          count += 1
        }
        code = value
      case UInt8(ascii: "x"), UInt8(ascii: "u"), UInt8(ascii: "U"):
        let count = escape == UInt8(ascii: "x") ? 2 : escape == UInt8(ascii: "u") ? 4 : 8
        let digits = bytes[i..<min(i + count, bytes.endIndex)]
        guard digits.count == count, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
          let value = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw .syntax("an escape sequence without its \(count) digits", line: line) }
        code = value
        i += count
      case UInt8(ascii: "N"): throw .unsupported(.operation, name: "\\N in a string", line: line)
      case 0x80...:
        // Python reads the backslash as one, and the character as the escape that stands for it.
        let length = escape < 0xE0 ? 2 : escape < 0xF0 ? 3 : 4
        let scalar = String(bytes[i - 1..<min(i - 1 + length, bytes.endIndex)]).unicodeScalars.first ?? "?"
        result += Array(("\\" + PythonText.escape(scalar)).utf8)
        i += length - 1
      default: result += [UInt8(ascii: "\\"), escape]
      }
      if let code {
        guard let scalar = Unicode.Scalar(code) else { throw .syntax("half of a surrogate pair", line: line) }
        result += Array(String(Character(scalar)).utf8)
      }
    }
    return result
  }
}
