import Storage

/// Parses the subset of regular expressions on which Python and ECMAScript agree.
///
/// Literals, escapes, `.`, classes, `\d`, `\w`, `\s` and their complements, groups, alternatives and quantifiers; `^` and
/// `$` at the ends of the expression or of its alternatives. Where the two languages differ, such as `\w` beyond ASCII,
/// an expression stands for the texts that match in both. Everything else is refused.
struct RegexParser {
  /// Writes a set of characters: `CodePointSet.utf8`, or `.json` within a JSON string.
  private let encoder: (CodePointSet) -> ByteExpression
  private let scalars: [Unicode.Scalar]
  /// The sets so far, as most expressions have few different ones.
  private var encoded: [CodePointSet: (expression: ByteExpression, byteSetCount: Int)] = [:]
  private var byteSetCount = 0
  private var position = 0
  private var depth = 0

  /// The texts that match.
  ///
  /// - Parameter searches: Whether a text matches if a part of it does, as in the keyword `pattern` of JSON Schema.
  static func parse(
    _ pattern: String, searches: Bool, encode: @escaping (CodePointSet) -> ByteExpression
  ) throws(GrammarError) -> ByteExpression {
    guard pattern.utf8.count <= GrammarLimits.sourceBytes else {
      throw .limit("a regular expression of \(pattern.utf8.count) bytes; expected at most \(GrammarLimits.sourceBytes)")
    }
    var parser = RegexParser(encoder: encode, scalars: Array(pattern.unicodeScalars))
    var alternatives: [ByteExpression] = []
    let anything = ByteExpression.repeated(try parser.encode(.all), minimum: 0, maximum: nil)
    repeat {
      let isStart = parser.take("^")
      let sequence = try parser.sequence()
      let isEnd = parser.take("$")
      if isEnd, let next = parser.next, next != "|" { throw parser.anchorError(at: parser.position - 1) }
      let parts = (searches && !isStart ? [anything] : []) + [sequence] + (searches && !isEnd ? [anything] : [])
      alternatives.append(.sequence(parts))
    } while parser.take("|")
    guard parser.next == nil else { throw parser.error("an unmatched )") }
    return .choice(alternatives)
  }

  private init(encoder: @escaping (CodePointSet) -> ByteExpression, scalars: [Unicode.Scalar]) {
    self.encoder = encoder
    self.scalars = scalars
  }

  /// The texts of one character of a set.
  private mutating func encode(_ set: CodePointSet) throws(GrammarError) -> ByteExpression {
    let result: (expression: ByteExpression, byteSetCount: Int)
    if let known = encoded[set] {
      result = known
    } else {
      let expression = encoder(set)
      result = (expression, expression.byteSetCount)
      encoded[set] = result
    }
    // Each is a state later; refused here, they do not take memory first.
    byteSetCount += result.byteSetCount
    guard byteSetCount <= GrammarLimits.nfaStates else { throw GrammarBudget.tooLarge }
    return result.expression
  }

  private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private func peek(_ text: String) -> Bool { scalars[position...].starts(with: text.unicodeScalars) }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard next == scalar else { return false }
    position += 1
    return true
  }

  private func error(_ problem: String, at position: Int? = nil) -> GrammarError {
    .regex(position: position ?? self.position, problem: problem)
  }

  private func anchorError(at position: Int) -> GrammarError {
    error("^ and $ are supported only at the ends of the expression or of its alternatives", at: position)
  }

  // MARK: - Structure

  private mutating func alternatives() throws(GrammarError) -> ByteExpression {
    var alternatives = [try sequence()]
    while take("|") { alternatives.append(try sequence()) }
    return alternatives.count == 1 ? alternatives[0] : .choice(alternatives)
  }

  /// Parses until `|`, `)`, a final `$` or the end.
  private mutating func sequence() throws(GrammarError) -> ByteExpression {
    var parts: [ByteExpression] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      if scalar == "$" {
        if depth > 0 { throw anchorError(at: position) }
        break
      }
      let part = try atom()
      parts.append(try quantified(part))
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func atom() throws(GrammarError) -> ByteExpression {
    guard let scalar = next else { throw error("an expression is missing") }
    switch scalar {
    case "(": return try group()
    case "[": return try encode(try characterClass())
    case "\\": return try encode(try escape().least)
    case ".":
      position += 1
      return try encode(CodePointSet("\n", "\r", "\u{2028}", "\u{2029}").complement)
    case "^": throw anchorError(at: position)
    case "*", "+", "?": throw error("\(scalar) has nothing to repeat")
    case "{": throw error("{ has nothing to repeat; \\{ is the character")
    default:
      position += 1
      return try encode(CodePointSet(scalar))
    }
  }

  private mutating func group() throws(GrammarError) -> ByteExpression {
    let start = position
    position += 1
    if take("?") {
      if take(":") {
      } else if take("P") || peek("<") {
        guard take("<"), let first = next, first == "_" || first.properties.isAlphabetic else {
          throw error("lookbehind and other groups of this kind are not supported", at: start)
        }
        while let scalar = next, scalar != ">" {
          guard scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil else { break }
          position += 1
        }
        guard take(">") else { throw error("a group's name does not end") }
      } else {
        let kind = peek("=") || peek("!") ? "lookahead" : "flags and other groups of this kind"
        throw error("\(kind) \(kind == "lookahead" ? "is" : "are") not supported", at: start)
      }
    } else if peek("*") {
      throw error("* has nothing to repeat")
    }
    depth += 1
    guard depth <= GrammarLimits.groupDepth else {
      throw error("groups nest deeper than \(GrammarLimits.groupDepth) levels", at: start)
    }
    let expression = try alternatives()
    depth -= 1
    guard take(")") else { throw error("a group does not end", at: start) }
    return expression
  }

  private mutating func quantified(_ part: ByteExpression) throws(GrammarError) -> ByteExpression {
    let (minimum, maximum): (Int, Int?)
    if take("*") {
      (minimum, maximum) = (0, nil)
    } else if take("+") {
      (minimum, maximum) = (1, nil)
    } else if take("?") {
      (minimum, maximum) = (0, 1)
    } else if peek("{") {
      (minimum, maximum) = try counts()
    } else {
      return part
    }
    // A lazy quantifier admits the same texts.
    _ = take("?")
    if let next, ["*", "+", "?", "{"].contains(next) { throw error("\(next) has nothing to repeat") }
    return .repeated(part, minimum: minimum, maximum: maximum)
  }

  /// Parses `{m}`, `{m,}` or `{m,n}`.
  private mutating func counts() throws(GrammarError) -> (Int, Int?) {
    let start = position
    position += 1
    guard let minimum = try number() else { throw error("expected a number; \\{ is the character {") }
    var maximum: Int? = minimum
    if take(",") { maximum = try number() }
    guard take("}") else { throw error("expected }") }
    if let maximum, maximum < minimum { throw error("the second number is less than the first", at: start) }
    return (minimum, maximum)
  }

  private mutating func number() throws(GrammarError) -> Int? {
    let start = position
    while let scalar = next, ("0"..."9").contains(scalar) { position += 1 }
    if position == start { return nil }
    let digits = String(String.UnicodeScalarView(scalars[start..<position]))
    guard digits.utf8.count <= 9, let value = Int(digits) else { throw error("the number is too large", at: start) }
    return value
  }

  // MARK: - Characters

  /// Characters that match in both languages, and those that match in one of them.
  private struct Characters {
    var least: CodePointSet
    var most: CodePointSet
    var isSingle = false

    init(_ scalar: Unicode.Scalar) {
      least = CodePointSet(scalar)
      most = least
      isSingle = true
    }

    init(least: CodePointSet, most: CodePointSet) { (self.least, self.most) = (least, most) }

    /// Python's classes also have members beyond ASCII.
    init(ascii: CodePointSet, least: CodePointSet) {
      self.least = least
      most = ascii.union(CodePointSet.ascii.complement)
    }
  }

  private mutating func characterClass() throws(GrammarError) -> CodePointSet {
    let start = position
    position += 1
    let isNegated = take("^")
    if peek("]") { throw error("an empty class is not supported; \\] is the character") }
    var least: [ClosedRange<UInt32>] = []
    var most: [ClosedRange<UInt32>] = []
    while let scalar = next, scalar != "]" {
      let itemStart = position
      let first = try classItem()
      if peek("-"), position + 1 < scalars.count, scalars[position + 1] != "]" {
        position += 1
        let last = try classItem()
        guard first.isSingle, last.isSingle, let low = first.least.ranges.first?.lowerBound,
          let high = last.least.ranges.first?.lowerBound, low <= high
        else { throw error("a range of the class is not from a lower to a higher character", at: itemStart) }
        least.append(low...high)
        most.append(low...high)
      } else {
        least += first.least.ranges
        most += first.most.ranges
      }
    }
    guard take("]") else { throw error("a class does not end", at: start) }
    let set = isNegated ? CodePointSet(most).complement : CodePointSet(least)
    if set.isEmpty { throw error("a class without characters", at: start) }
    return set
  }

  private mutating func classItem() throws(GrammarError) -> Characters {
    guard let scalar = next else { throw error("a class does not end") }
    if scalar == "\\" { return try escape(isInClass: true) }
    position += 1
    return Characters(scalar)
  }

  private mutating func escape(isInClass: Bool = false) throws(GrammarError) -> Characters {
    let start = position
    position += 1
    guard let scalar = next else { throw error("a backslash at the end", at: start) }
    position += 1
    switch scalar {
    case "n": return Characters("\n")
    case "t": return Characters("\t")
    case "r": return Characters("\r")
    case "f": return Characters("\u{C}")
    case "v": return Characters("\u{B}")
    case "x": return Characters(try hexadecimal(digits: 2, at: start))
    case "u": return Characters(try hexadecimal(digits: 4, at: start))
    case "d": return Characters(ascii: Self.digits, least: Self.digits)
    case "D":
      let others = CodePointSet.ascii.subtracting(Self.digits)
      return Characters(ascii: others, least: others)
    case "w": return Characters(ascii: Self.words, least: Self.words)
    case "W":
      let others = CodePointSet.ascii.subtracting(Self.words)
      return Characters(ascii: others, least: others)
    case "s": return Characters(ascii: Self.spaces.union(Self.separators), least: Self.spaces)
    case "S":
      let others = CodePointSet.ascii.subtracting(Self.spaces)
      return Characters(ascii: others, least: others.subtracting(Self.separators))
    case "b" where isInClass: return Characters("\u{8}")
    case "b", "B": throw error("the word boundary \\\(scalar) is not supported", at: start)
    case "1"..."9", "k": throw error("backreferences are not supported", at: start)
    case "p", "P": throw error("Unicode properties \\\(scalar) are not supported", at: start)
    default:
      guard scalar.isASCII, !scalar.properties.isAlphabetic, scalar.properties.numericType == nil else {
        throw error("the escape \("\\\(scalar)".excerpt) is not supported", at: start)
      }
      return Characters(scalar)
    }
  }

  private mutating func hexadecimal(digits: Int, at start: Int) throws(GrammarError) -> Unicode.Scalar {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let digit = next.flatMap({ $0.isASCII ? Character($0).hexDigitValue : nil }) else {
        throw error("expected \(digits) hexadecimal digits", at: position)
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    guard let scalar = Unicode.Scalar(value) else { throw error("surrogates are not supported", at: start) }
    return scalar
  }

  private static let digits = CodePointSet([0x30...0x39])
  private static let words = CodePointSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
  private static let spaces = CodePointSet([0x09...0x0D, 0x20...0x20])
  /// Whitespace in Python alone.
  private static let separators = CodePointSet([0x1C...0x1F])
}
