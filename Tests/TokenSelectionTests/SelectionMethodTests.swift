import Kernels
import TestSupport
import Testing
import TokenSelection

/// Selections against plain implementations, with ties and degenerate features.
@Suite struct SelectionMethodTests {
  /// Inputs of all methods.
  struct Inputs: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// `[36, 8]`.
    var features: [Float]
    /// `[36, 12]`.
    var embeddings: [Float]
    var attention: [Float]
    var local: [Float]
    /// `[3, 12]`.
    var question: [Float]

    static let tokens = 36
    static let columns = (features: 8, embeddings: 12)

    init(_ name: String, seed: UInt64, change: (inout Inputs) -> Void = { _ in }) {
      var generator = SeededGenerator(seed)
      testDescription = name
      features = generator.floats(Self.tokens * 8)
      embeddings = generator.floats(Self.tokens * 12)
      attention = generator.floats(Self.tokens, in: 0...1)
      local = generator.floats(Self.tokens, in: 0...1)
      question = generator.floats(3 * 12)
      change(&self)
    }

    static let all = [
      Inputs("random", seed: 1), Inputs("random", seed: 2), Inputs("random", seed: 3),
      Inputs("every vector twice", seed: 4) {
        for i in stride(from: 0, to: tokens, by: 2) {
          for d in 0..<8 { $0.features[(i + 1) * 8 + d] = $0.features[i * 8 + d] }
          for d in 0..<12 { $0.embeddings[(i + 1) * 12 + d] = $0.embeddings[i * 12 + d] }
          ($0.attention[i + 1], $0.local[i + 1]) = ($0.attention[i], $0.local[i])
        }
      },
      Inputs("all equal", seed: 5) {
        $0.features = (0..<tokens).flatMap { _ in (0..<8).map { Float($0) - 3 } }
        $0.embeddings = (0..<tokens).flatMap { _ in (0..<12).map { Float($0) - 5 } }
        $0.attention = Array(repeating: 0.5, count: tokens)
        $0.local = $0.attention
      },
      Inputs("equal attention", seed: 6) {
        $0.attention = Array(repeating: 0.25, count: tokens)
        $0.local = $0.attention
      },
      Inputs("zeros", seed: 7) {
        for i in 0..<5 * 8 { $0.features[i] = 0 }
        for i in 0..<5 * 12 { $0.embeddings[i] = 0 }
        for i in 0..<3 { $0.attention[i] = 0 }
      },
      Inputs("no attention at all", seed: 8) { $0.attention = Array(repeating: 0, count: tokens) },
      Inputs("large and small numbers", seed: 9) {
        for i in 0..<6 * 8 { $0.features[i] *= 1e30 }
        for i in 0..<6 * 12 { $0.embeddings[i] *= 1e-30 }
      },
    ]

    func rows(_ values: [Float], _ columns: Int) -> [[Double]] {
      stride(from: 0, to: values.count, by: columns).map { values[$0..<$0 + columns].map(Double.init) }
    }
  }

  /// A method, in order of choice, and its plain implementation.
  struct Method: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let run: @Sendable (Inputs, Int, ComputeContext) throws -> [Int]
    let plain: @Sendable (Inputs, Int) -> [Int]

    static let all = [
      Method(testDescription: "class attention") { inputs, count, _ in
        try selectByClassAttention(inputs.attention, count: count)
      } plain: { inputs, count in
        PlainSelection.classAttention(inputs.attention.map(Double.init), count)
      },
      Method(testDescription: "SCOPE") { inputs, count, compute in
        try selectByScope(
          Matrix(inputs.features, columns: 8), attention: inputs.attention, alpha: 0.5, count: count, on: compute)
      } plain: { inputs, count in
        PlainSelection.scope(inputs.rows(inputs.features, 8), inputs.attention.map(Double.init), alpha: 0.5, count)
      },
      Method(testDescription: "DivPrune") { inputs, count, compute in
        try selectByDiversity(Matrix(inputs.embeddings, columns: 12), count: count, on: compute)
      } plain: { inputs, count in
        PlainSelection.divPrune(inputs.rows(inputs.embeddings, 12), count)
      },
      Method(testDescription: "VScan") { inputs, count, _ in
        let chosen = try selectLocalAndGlobal(
          local: inputs.local, global: inputs.attention, rows: 6, columns: 6, window: 2, count: count)
        return chosen.local + chosen.global
      } plain: { inputs, count in
        PlainSelection.localGlobal(
          inputs.local.map(Double.init), inputs.attention.map(Double.init), side: 6, window: 2, count)
      },
      Method(testDescription: "MMTok") { inputs, count, compute in
        try MMTok().select(
          Matrix(inputs.embeddings, columns: 12), features: Matrix(inputs.features, columns: 8),
          question: Matrix(inputs.question, columns: 12), count: count, on: compute)
      } plain: { inputs, count in
        PlainSelection.mmTok(
          inputs.rows(inputs.embeddings, 12), inputs.rows(inputs.features, 8), inputs.rows(inputs.question, 12), count)
      },
      Method(testDescription: "CDPruner") { inputs, count, compute in
        let relevance = try CDPruner.relevance(
          Matrix(inputs.embeddings, columns: 12), "projected", question: Matrix(inputs.question, columns: 12),
          "question_embeddings", sign: 1, on: compute)
        return try CDPruner.select(
          Matrix(inputs.embeddings, columns: 12), relevance: relevance, count: count, on: compute)
      } plain: { inputs, count in
        PlainSelection.cdPruner(inputs.rows(inputs.embeddings, 12), inputs.rows(inputs.question, 12), count)
      },
      Method(testDescription: "TOPS") { inputs, count, compute in
        var tops = Tops()
        tops.lambda = 1
        return try tops.select(
          Matrix(inputs.embeddings, columns: 12), relevance: inputs.attention, count: count, on: compute)
      } plain: { inputs, count in
        PlainSelection.tops(
          inputs.rows(inputs.embeddings, 12), inputs.attention.map(Double.init), alpha: 0.5, lambda: 1, count)
      },
    ]
  }

  private func context(_ threads: Int = 2) -> ComputeContext { ComputeContext(workers: Workers(count: threads)) }

  @Test(arguments: Method.all, Inputs.all)
  func `the order is that of the definition`(method: Method, inputs: Inputs) throws {
    // The rank of the embeddings bounds what CDPruner can order; with equal or zero vectors it is smaller.
    let counts = method.testDescription == "CDPruner" ? [0, 1, 2, 4] : [0, 1, 2, 9, 20]
    for count in counts {
      let found = try method.run(inputs, count, context())
      if method.testDescription == "CDPruner", inputs.testDescription == "all equal", count > 1 {
        #expect(found == Array(0..<count))
      } else {
        #expect(found == method.plain(inputs, count), "\(count) of \(Inputs.tokens)")
      }
    }
  }

  @Test(arguments: Method.all, Inputs.all)
  func `no token is chosen twice, and all are if there are not more`(method: Method, inputs: Inputs) throws {
    for count in [35, 36, 40] {
      let order = try method.run(inputs, count, context())
      #expect(Set(order).count == order.count)
      if count >= 36 { #expect(order.sorted() == Array(0..<36)) }
    }
  }

  @Test(arguments: Method.all)
  func `one thread and three give the same order`(method: Method) throws {
    for inputs in Inputs.all {
      #expect(try method.run(inputs, 20, context(1)) == method.run(inputs, 20, context(3)))
    }
  }

  @Test(arguments: Method.all, [Float.nan, .infinity, -.infinity])
  func `values that are not numbers are refused`(method: Method, value: Float) {
    var inputs = Inputs.all[0]
    (inputs.features[17], inputs.embeddings[30], inputs.attention[3]) = (value, value, value)
    let error = #expect(throws: SelectionError.self) { _ = try method.run(inputs, 4, context()) }
    #expect(error.map { "\($0)".contains("row 2") || "\($0)".contains("row 3") } == true)
  }

  @Test func `attention below zero and of another length is refused`() {
    let features = Matrix(Inputs.all[0].features, columns: 8)
    let cases: [([Float], String)] = [([-0.5] + Array(repeating: 1, count: 35), "negative"), ([1, 2, 3], "36")]
    for (attention, words) in cases {
      let error = #expect(throws: SelectionError.self) {
        _ = try selectByScope(features, attention: attention, alpha: 1, count: 3, on: context())
      }
      #expect(error.map { "\($0)".contains(words) } == true)
    }
  }

  @Test func `a number of tokens that the windows do not divide gives fewer`() throws {
    let attention = (0..<576).map { Float($0 * 37 % 577) }
    for (asked, kept) in [(80, 72), (96, 96), (31, 16), (575, 272 + 288)] {
      let chosen = try selectLocalAndGlobal(
        local: attention, global: attention, rows: 24, columns: 24, window: 6, count: asked)
      #expect(chosen.local.count + chosen.global.count == kept)
    }
  }

  @Test func `a selection counts its cosines`() throws {
    let compute = context()
    _ = try selectByDiversity(Matrix(Inputs.all[0].embeddings, columns: 12), count: 5, on: compute)
    #expect(compute.ledger.multiplyAdds.values.reduce(0, +) == 36 * 37 * 12)
  }
}
