/// A parser of Python lists of strings and numbers, `['a', "it's", 3]`, as VLMEvalKit's tables store several reference
/// answers.
///
/// Source: the lexical analysis of string literals in the Python language reference.
package struct PythonList {
  private let text: [Unicode.Scalar]
  private var position = 0

  /// The items of a list, with numbers as texts; `nil` for any other text.
  package static func strings(_ text: String) -> [String]? {
    var parser = PythonList(text: Array(text.unicodeScalars))
    return parser.list()
  }

  private init(text: [Unicode.Scalar]) { self.text = text }

  private var next: Unicode.Scalar? { position < text.count ? text[position] : nil }

  private mutating func skipSpace() { while let scalar = next, PythonText.isSpace(scalar) { position += 1 } }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard next == scalar else { return false }
    position += 1
    return true
  }

  private mutating func list() -> [String]? {
    var items: [String] = []
    skipSpace()
    guard take("[") else { return nil }
    skipSpace()
    while !take("]") {
      guard let item = strings() ?? number() else { return nil }
      items.append(item)
      skipSpace()
      if take(",") { skipSpace() } else if next != "]" { return nil }
    }
    skipSpace()
    return next == nil ? items : nil
  }

  /// One string literal, or several in a row, which Python joins.
  private mutating func strings() -> String? {
    let start = position
    guard var joined = string() else {
      position = start
      return nil
    }
    skipSpace()
    while let literal = string() {
      joined += literal
      skipSpace()
    }
    return joined
  }

  private mutating func string() -> String? {
    let start = position
    let isRaw = next == "r" || next == "R"
    if isRaw || next == "u" || next == "U" { position += 1 }
    guard let quote = next, quote == "'" || quote == "\"" else {
      position = start
      return nil
    }
    position += 1
    var scalars: [Unicode.Scalar] = []
    while let scalar = next {
      position += 1
      switch scalar {
      case quote: return PythonText.string(scalars)
      case "\n", "\r":
        position = start
        return nil
      case "\\":
        guard let escaped = isRaw ? rawEscape() : escape() else {
          position = start
          return nil
        }
        scalars += escaped
      default: scalars.append(scalar)
      }
    }
    position = start
    return nil
  }

  private mutating func rawEscape() -> [Unicode.Scalar]? {
    guard let scalar = next else { return nil }
    position += 1
    return ["\\", scalar]
  }

  /// The rest of an escape sequence after the backslash; an unknown one keeps its backslash.
  private mutating func escape() -> [Unicode.Scalar]? {
    guard let scalar = next else { return nil }
    position += 1
    switch scalar {
    case "\n": return []
    case "\\", "'", "\"": return [scalar]
    case "a": return ["\u{7}"]
    case "b": return ["\u{8}"]
    case "f": return ["\u{C}"]
    case "n": return ["\n"]
    case "r": return ["\r"]
    case "t": return ["\t"]
    case "v": return ["\u{B}"]
    case "x": return code(digits: 2...2, radix: 16)
    case "u": return code(digits: 4...4, radix: 16)
    case "U": return code(digits: 8...8, radix: 16)
    case "0"..."7":
      position -= 1
      return code(digits: 1...3, radix: 8)
    // The name of a character.
    case "N": return nil
    default: return ["\\", scalar]
    }
  }

  private mutating func code(digits: ClosedRange<Int>, radix: UInt32) -> [Unicode.Scalar]? {
    var (value, count): (UInt32, Int) = (0, 0)
    while count < digits.upperBound, let scalar = next, scalar.isASCII,
      let digit = Character(scalar).hexDigitValue, digit < Int(radix)
    {
      guard value < 1 << 24 else { return nil }
      value = value * radix + UInt32(digit)
      position += 1
      count += 1
    }
    guard count >= digits.lowerBound, let scalar = Unicode.Scalar(value) else { return nil }
    return [scalar]
  }

  /// A decimal number, spelled as Python prints it.
  private mutating func number() -> String? {
    let start = position
    while let scalar = next, scalar != ",", scalar != "]", !PythonText.isSpace(scalar) { position += 1 }
    let literal = PythonText.string(text[start..<position])
    guard literal.wholeMatch(of: /-?(0|[1-9][0-9]*)(\.[0-9]+)?/) != nil else { return nil }
    guard literal.contains("."), let number = Double(literal) else { return literal }
    return "\(number)"
  }
}
