package import Storage

/// A chat template that cannot be parsed or rendered.
package enum JinjaError: UserFacingError, Equatable {
  /// A template that is not Jinja.
  case syntax(String, line: Int)
  /// A statement, filter, test, function or method that this interpreter does not have.
  case unsupported(Feature, name: String, line: Int)
  /// An operation on a value that the conversation does not have.
  case undefined(String, line: Int)
  /// An operation that Python refuses for these values.
  case evaluation(String, line: Int)
  /// The template refused the conversation with `raise_exception`.
  case raised(String)
  case limit(String, line: Int)

  package enum Feature: String, Sendable {
    case statement, filter, test, function, method, attribute, operation
  }

  package var category: ErrorCategory { .model }

  package var problem: String {
    switch self {
    case .syntax(let message, let line), .undefined(let message, let line), .evaluation(let message, let line),
      .limit(let message, let line):
      "line \(line): \(message)"
    case .unsupported(let feature, let name, let line):
      "line \(line): the \(feature.rawValue) \(Self.quoted(name)) is not supported"
    case .raised(let message): "the template refuses this conversation: \(message.excerpt)"
    }
  }

  /// A name in single quotation marks if it is plain, otherwise as an excerpt.
  static func quoted(_ name: String) -> String {
    let isPlain = name.utf8.count <= 40 && name.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F && $0 != 0x27 && $0 != 0x5C }
    return isPlain ? "'\(name)'" : name.excerpt
  }
}

/// Limits that keep the cost of an untrusted template proportional to them.
package struct JinjaLimits: Sendable, Equatable {
  /// Steps of evaluation; copying 16 bytes of text is one step.
  package var steps: Int
  /// Bytes of the rendered text, and of every text made on the way.
  package var outputBytes: Int

  package init(steps: Int = 4_000_000, outputBytes: Int = 4 << 20) {
    self.steps = steps
    self.outputBytes = outputBytes
  }

  /// The largest source that is parsed, in bytes.
  package static let sourceBytes = 256 << 10
  /// The maximum nesting of statements and expressions. With the next one it keeps the stack below 512 KiB.
  static let nesting = 64
  /// The maximum nesting of evaluation, through macros.
  static let evaluationDepth = 200
  /// The maximum nesting of values; JSON has at most 100 levels.
  static let valueNesting = 120
  /// The maximum number of integers in a `range`, as in Jinja's sandbox.
  static let rangeCount = 100_000
}

/// The steps that remain in one rendering, and the line for errors.
final class Meter {
  private var remaining: Int
  private var depth = 0
  let outputBytes: Int
  var line = 1

  init(_ limits: JinjaLimits) {
    remaining = limits.steps
    outputBytes = limits.outputBytes
  }

  /// Accounts for `steps`, before the work is done.
  func charge(_ steps: Int) throws(JinjaError) {
    remaining -= steps
    if remaining < 0 { throw .limit("the template takes too many steps", line: line) }
  }

  /// Accounts for text of `bytes` bytes, before it is made.
  func charge(text bytes: Int) throws(JinjaError) {
    if bytes > outputBytes { throw .limit("the template makes a text above \(outputBytes) bytes", line: line) }
    try charge(1 + bytes / 16)
  }

  /// Accounts for `added` bytes that make a text of `bytes` bytes.
  func charge(text bytes: Int, adding added: Int) throws(JinjaError) {
    if bytes > outputBytes { try charge(text: bytes) }
    try charge(1 + added / 16)
  }

  /// Accounts for text of `count` pieces of `bytes` bytes each, before it is made.
  func charge(text bytes: Int, times count: Int) throws(JinjaError) {
    let (total, overflow) = bytes.multipliedReportingOverflow(by: count)
    try charge(text: overflow ? Int.max : total)
  }

  func enter() throws(JinjaError) {
    depth += 1
    if depth > JinjaLimits.evaluationDepth {
      throw .limit("the template nests deeper than \(JinjaLimits.evaluationDepth) levels", line: line)
    }
  }

  func leave() { depth -= 1 }

  func evaluation(_ message: String) -> JinjaError { .evaluation(message, line: line) }

  func unsupported(_ feature: JinjaError.Feature, _ name: String) -> JinjaError {
    .unsupported(feature, name: name, line: line)
  }
}
