import Grammar
import Storage
import Testing

/// Random answers to random schemas.
@Suite struct WalkTests {
  /// An answer of uniformly random tokens of the masks, completed on the shortest way after `limit` tokens.
  private func answer(
    _ grammar: Grammar, _ vocabulary: TokenVocabulary, limit: Int, _ generator: inout SeededGenerator,
    check: (GrammarState) -> Void = { _ in }
  ) throws -> [UInt8] {
    var state = GrammarState(grammar, vocabulary)
    var bytes: [UInt8] = []
    for _ in 0..<limit where !state.mustEnd {
      check(state)
      let tokens = state.mask().tokens
      if state.canEnd, generator.chance(1 / Double(tokens.count + 1)) { return bytes }
      let token = try #require(tokens.isEmpty ? nil : generator.element(tokens))
      let isAccepted = state.accept(token)
      #expect(isAccepted)
      bytes += vocabulary.bytes(of: token) ?? []
    }
    let completion = state.shortestCompletion()
    #expect(completion.count == state.shortestCompletionLength)
    for token in try #require(state.shortestCompletionTokens()) {
      let isAccepted = state.mask().contains(token) && state.accept(token)
      #expect(isAccepted)
    }
    #expect(state.canEnd)
    return bytes + completion
  }

  @Test(arguments: 0..<150)
  func `random answers are valid`(seed: UInt64) throws {
    var schemas = SchemaGenerator(seed: seed)
    let text = schemas.schema()
    let schema = try json(text)
    let grammar: Grammar
    do throws(GrammarError) {
      grammar = try Grammar(.jsonSchema(schema))
    } catch {
      // References may lead to themselves, and bounds may exclude every number.
      #expect(
        error.description.contains("infinite") || error.description.contains("refers to itself"), "\(text): \(error)")
      return
    }
    let vocabulary = Vocabularies.mixed(seed: seed)
    let validator = SchemaValidator(root: schema)
    var generator = SeededGenerator(seed: seed)
    for limit in [0, 5, 40, 40, 300] {
      let bytes = try answer(grammar, vocabulary, limit: limit, &generator)
      let value = try #require(try? JSONParser.parse(bytes), "\(text): \(String(decoding: bytes, as: UTF8.self))")
      #expect(validator.isValid(value, schema), "\(text): \(String(decoding: bytes, as: UTF8.self))")
    }
  }

  @Test(arguments: 0..<60)
  func `a mask contains the tokens that the automaton reads`(seed: UInt64) throws {
    var schemas = SchemaGenerator(seed: seed)
    guard let grammar = try? Grammar(.jsonSchema(try json(schemas.schema())), leadingSpace: seed.isMultiple(of: 2))
    else {
      return
    }
    let vocabulary = Vocabularies.mixed(seed: seed)
    var generator = SeededGenerator(seed: seed)
    _ = try answer(grammar, vocabulary, limit: 60, &generator) { state in
      let mask = state.mask()
      for token in 0..<vocabulary.count {
        if state.allows(token) != mask.contains(token) {
          Issue.record("token \(token) \(String(decoding: vocabulary.bytes(of: token) ?? [], as: UTF8.self))")
        }
      }
    }
  }

  @Test func `a copy is not changed by what follows`() throws {
    var state = GrammarState(try schema(#"{"items":{"type":"integer"},"minItems":2,"maxItems":2}"#), Vocabularies.bytes)
    for byte in "[1,".utf8 { _ = state.accept(Int(byte)) }
    let copy = state
    let mask = copy.mask()
    for byte in "2]".utf8 { _ = state.accept(Int(byte)) }
    #expect(state.mustEnd)
    #expect(copy.mask() == mask && !copy.canEnd && copy.shortestCompletionLength == 2)
  }
}
