/// A number or a string in the source of a template, as Python reads it.
struct Literal {
  let kind: Token.Kind
  /// The place after the literal.
  let end: Int

  static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  // MARK: - Numbers

  /// The number that begins at a digit.
  static func number(_ source: [UInt8], at start: Int, line: Int) throws(JinjaError) -> Literal {
    let whole = digits(source, from: start)
    var end = whole
    if end + 1 < source.count, source[end] == UInt8(ascii: "."), isDigit(source[end + 1]) {
      end = digits(source, from: end + 1)
    }
    if end < source.count, source[end] | 0x20 == UInt8(ascii: "e") {
      let hasSign = end + 1 < source.count && [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(source[end + 1])
      let exponent = end + (hasSign ? 2 : 1)
      if exponent < source.count, isDigit(source[exponent]) { end = digits(source, from: exponent) }
    }
    if end > whole, start == 0 || source[start - 1] != UInt8(ascii: ".") {
      guard let value = Double(text(source[start..<end])) else {
        throw .syntax("a number that cannot be read", line: line)
      }
      return Literal(kind: .float(value), end: end)
    }
    end = whole
    if source[start] == UInt8(ascii: "0") {
      let prefix = start + 1 < source.count ? source[start + 1] | 0x20 : 0
      if let radix = [UInt8(ascii: "x"): 16, UInt8(ascii: "o"): 8, UInt8(ascii: "b"): 2][prefix] {
        throw .unsupported(.operation, name: "integers of base \(radix)", line: line)
      }
      // As in jinja2, a leading zero is a number of its own, which no expression can continue.
      if source[start..<end].contains(where: { $0 != UInt8(ascii: "0") }) { end = start + 1 }
    }
    guard let value = Int(text(source[start..<end])) else { throw .limit("an integer above \(Int.max)", line: line) }
    return Literal(kind: .integer(value), end: end)
  }

  /// The place after decimal digits with single underscores between them.
  private static func digits(_ source: [UInt8], from place: Int) -> Int {
    var end = place
    while end < source.count {
      if isDigit(source[end]) {
        end += 1
      } else if source[end] == UInt8(ascii: "_"), end > place, end + 1 < source.count, isDigit(source[end + 1]) {
        end += 1
      } else {
        break
      }
    }
    return end
  }

  private static func text(_ number: ArraySlice<UInt8>) -> String {
    String(decoding: number.lazy.filter { $0 != UInt8(ascii: "_") }, as: UTF8.self)
  }

  // MARK: - Strings

  /// The string that begins at a quotation mark.
  static func string(_ source: [UInt8], at place: Int, line: Int) throws(JinjaError) -> Literal {
    let (quote, start) = (source[place], place + 1)
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
    let bytes = isEscaped ? try unescaped(source[start..<end], line: line) : Array(source[start..<end])
    return Literal(kind: .string(String(decoding: bytes, as: UTF8.self)), end: end + 1)
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
