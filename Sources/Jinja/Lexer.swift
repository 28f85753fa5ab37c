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
    if Literal.isDigit(byte) { return take(try Literal.number(source, at: position, line: line)) }
    if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") {
      return take(try Literal.string(source, at: position, line: line))
    }
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

  private mutating func take(_ literal: Literal) {
    append(literal.kind)
    line += source[position..<literal.end].count { $0 == UInt8(ascii: "\n") }
    position = literal.end
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
          Literal.isDigit(byte) && end > position || byte == UInt8(ascii: "_")
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
}
