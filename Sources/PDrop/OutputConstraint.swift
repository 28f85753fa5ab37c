import Grammar
public import Storage
import Synchronization
import Tokenizers

/// The form that an answer must have: tokens that would leave it are never chosen.
///
///     request.options.constraint = .jsonSchema(#"{"type": "object", "properties": {"total": {"type": "number"}}}"#)
public enum OutputConstraint: Sendable, Hashable {
  /// JSON that validates against a schema, given as JSON text.
  case jsonSchema(String)
  /// Any JSON object.
  case jsonObject
  /// One of these texts.
  case choices([String])
  /// A text that a regular expression matches as a whole.
  case regex(String)
}

/// An error of an output constraint.
public enum ConstraintError: UserFacingError, Equatable {
  /// A schema that is not JSON.
  case notJSON(offset: Int, expected: String)
  /// A schema, list of choices or regular expression that is not supported, in one line that names the part.
  case unsupported(String)
  /// The shortest answer has more tokens than may be generated.
  case tooLong(needed: Int, limit: Int)
  /// No tokens of the vocabulary make the shortest answer.
  case unwritable
  /// Stop strings, which could cut an answer anywhere.
  case stopStrings

  public var category: ErrorCategory { .input }
  public var remedies: [Remedy] {
    if case .tooLong(let needed, _) = self { [.raiseMaxTokens(needed)] } else { [] }
  }
  public var problem: String {
    switch self {
    case .notJSON(let offset, let expected): "schema: not JSON: expected \(expected) at byte \(offset)"
    case .unsupported(let problem): problem
    case .tooLong(let needed, let limit):
      "the shortest answer that the constraint allows has \(needed) tokens, and at most \(limit) may be generated"
    case .unwritable: "the vocabulary has no tokens for the answers that the constraint allows"
    case .stopStrings: "stop strings could cut an answer that must have a form; leave out one of the two"
    }
  }
}

/// The compiled constraints of a model, which its sequences share, and the bytes of its tokens.
final class GrammarCache: Sendable {
  private struct State {
    var vocabulary: TokenVocabulary?
    var grammars: [OutputConstraint: Grammar] = [:]
    /// The memory of the grammars.
    var byteCount = 0
  }

  /// The number of constraints after which the cache starts over, as a batch may have another one in each record.
  private static let limit = 64
  /// The memory in bytes after which it does.
  private static let byteLimit = 64 << 20
  private let state = Mutex(State())

  /// The state before the first token of an answer.
  func start(_ constraint: OutputConstraint, _ tokenizer: Tokenizer) throws(ConstraintError) -> GrammarState {
    let (known, vocabulary) = state.withLock { state in
      let vocabulary = state.vocabulary ?? TokenVocabulary(tokenizer)
      state.vocabulary = vocabulary
      return (state.grammars[constraint], vocabulary)
    }
    if let known { return GrammarState(known, vocabulary) }
    let grammar = try Self.compiled(constraint, leadingSpace: tokenizer.stripsLeadingSpace)
    state.withLock { state in
      if state.grammars.count >= Self.limit || state.byteCount > Self.byteLimit - grammar.byteCount {
        state.grammars.removeAll()
        state.byteCount = 0
      }
      // Another thread may have compiled the same constraint.
      if state.grammars.updateValue(grammar, forKey: constraint) == nil { state.byteCount += grammar.byteCount }
    }
    return GrammarState(grammar, vocabulary)
  }

  private static func compiled(
    _ constraint: OutputConstraint, leadingSpace: Bool
  ) throws(ConstraintError) -> Grammar {
    let parsed: Constraint
    switch constraint {
    case .jsonSchema(let text):
      do throws(JSONParser.ParseError) { parsed = .jsonSchema(try JSONParser.parse(Array(text.utf8))) } catch {
        throw .notJSON(offset: error.offset, expected: error.expected)
      }
    case .jsonObject: parsed = .jsonObject
    case .choices(let choices): parsed = .choices(choices)
    case .regex(let pattern): parsed = .regex(pattern)
    }
    do throws(GrammarError) { return try Grammar(parsed, leadingSpace: leadingSpace) } catch {
      throw .unsupported(error.problem)
    }
  }
}

extension TokenVocabulary {
  /// The bytes of all tokens; special tokens have none and are never allowed.
  fileprivate convenience init(_ tokenizer: Tokenizer) {
    self.init(
      tokens: (0..<tokenizer.vocabularySize).map { id in
        let bytes = tokenizer.bytes(of: Int32(id))
        return bytes.isEmpty ? nil : bytes
      })
  }
}
