import Foundation
import Kernels
import ModelFormats
package import Storage
import TokenSelection

/// A method of selecting visual tokens, with its inputs in a safetensors file: a test case that needs no model.
package struct SelectionCase {
  /// Names of methods, with their papers' names.
  package static let methods = [
    "class-attention", "scope", "divprune", "local-global", "vscan", "mmtok", "cdpruner", "tops",
  ]

  /// Parameters of the methods; `nil` for those of the case's JSON file, or the method's defaults.
  package struct Parameters {
    package var tokens: Int?
    package var share: Double?
    package var alpha: Double?
    package var lambda: Double?
    package var textTemperature: Double?
    package var visionTemperature: Double?
    package var grid: [Int]?
    package var window: Int?
    package var excluded: [Int]?
    /// `clip` or `question`.
    package var relevance: String?

    package init() {}
  }

  /// The result of a selection.
  package struct Result: Sendable {
    /// Indices in the order of choice, for each view.
    package let orders: [[Int]]
    /// Whether the inputs have views.
    package let hasViews: Bool
  }

  /// The largest number of rows: similarities of all pairs take 1 GiB.
  private static let maxTokens = 1 << 14

  private let file: SafetensorsFile
  private let method: String
  private var parameters: Parameters

  /// - Parameters:
  ///   - path: A safetensors file. `NAME.json` beside `NAME.safetensors`, if it exists, has parameters in `params`.
  ///   - method: One of `methods`.
  /// - Throws: `CheckpointError` for the file, `SelectionCaseError` for the parameters.
  package init(_ path: String, method: String, _ given: Parameters) throws {
    file = try SafetensorsFile(path)
    self.method = method == "vscan" ? "local-global" : method
    parameters = given
    let description = (path as NSString).deletingPathExtension + ".json"
    guard FileManager.default.fileExists(atPath: description) else { return }
    let fields = try JSONParser.parse([UInt8](Data(contentsOf: URL(fileURLWithPath: description))))["params"]
    func integers(_ name: String) -> [Int]? { fields[name].array?.compactMap(\.integer) }
    parameters.tokens = parameters.tokens ?? (parameters.share == nil ? fields["K"].integer : nil)
    parameters.alpha = parameters.alpha ?? fields["alpha"].double
    parameters.lambda = parameters.lambda ?? fields["lambda"].double
    parameters.textTemperature = parameters.textTemperature ?? fields["tau_text"].double
    parameters.visionTemperature = parameters.visionTemperature ?? fields["tau_vision"].double
    parameters.grid = parameters.grid ?? integers("grid")
    parameters.window = parameters.window ?? fields["window"].integer
    parameters.excluded = parameters.excluded ?? integers("exclude")
    parameters.relevance = parameters.relevance ?? fields["relevance"].string
  }

  /// Runs the method.
  ///
  /// - Throws: `CheckpointError` for tensors, `SelectionCaseError` for shapes and parameters, `SelectionError` for
  ///   values.
  package func run(threads: Int) throws -> Result {
    let compute = ComputeContext(workers: Workers(count: threads))
    switch method {
    case "class-attention":
      let attention = try classAttention()
      return one(try selectByClassAttention(attention, count: try count(attention.count)))
    case "scope":
      let features = try matrix("tower_features")
      return one(
        try selectByScope(
          features, attention: try classAttention(), alpha: parameters.alpha ?? 1, count: try count(features.rows),
          on: compute))
    case "divprune":
      let embeddings = try matrix("projected")
      return one(try selectByDiversity(embeddings, count: try count(embeddings.rows), on: compute))
    case "local-global":
      let local = try vector("local_attention")
      let side = Int(Double(local.count).squareRoot())
      let grid = parameters.grid ?? [side, side]
      guard grid.count == 2, grid.allSatisfy({ $0 > 0 }), grid[0] <= local.count,
        grid[0].multipliedReportingOverflow(by: grid[1]) == (local.count, false)
      else {
        throw SelectionCaseError.grid(grid, tokens: local.count)
      }
      let window = parameters.window ?? max(1, grid[0] / 4)
      guard (1...max(grid[0], grid[1])).contains(window) else { throw SelectionCaseError.window(window, grid: grid) }
      let chosen = try selectLocalAndGlobal(
        local: local, global: try classAttention(), rows: grid[0], columns: grid[1], window: window,
        count: try count(local.count))
      return one(chosen.local + chosen.global)
    case "mmtok":
      let embeddings = try matrix("projected")
      var method = MMTok()
      method.textTemperature = try positive(parameters.textTemperature, "--tau-text") ?? method.textTemperature
      method.visionTemperature = try positive(parameters.visionTemperature, "--tau-vision") ?? method.visionTemperature
      method.alpha = parameters.alpha ?? method.alpha
      return one(
        try method.select(
          embeddings, features: try matrix("tower_features"),
          question: try matrix("question_embeddings", columns: embeddings.columns),
          excluded: Set(parameters.excluded ?? []), count: try count(embeddings.rows), on: compute))
    case "cdpruner": return try cdPruner(on: compute)
    case "tops":
      let states = try matrix("projected")
      var method = Tops()
      (method.alpha, method.lambda) = (parameters.alpha ?? method.alpha, parameters.lambda ?? method.lambda)
      return one(
        try method.select(states, relevance: try classAttention(), count: try count(states.rows), on: compute))
    default: throw SelectionCaseError.method(method)
    }
  }

  private func one(_ order: [Int]) -> Result { Result(orders: [order], hasViews: false) }

  private func cdPruner(on compute: ComputeContext) throws -> Result {
    let projected = try tensor("projected", dimensions: [2, 3])
    let isClip = (parameters.relevance ?? (file.records["clip_text"] == nil ? "question" : "clip")) == "clip"
    let embeddings = try matrix("projected", dimensions: [2, 3])
    let (name, questionName) = isClip ? ("clip_image", "clip_text") : ("projected", "question_embeddings")
    let compared = try matrix(name, dimensions: [2, 3])
    guard compared.rows == embeddings.rows else {
      throw SelectionError.differentCounts(input: name, found: compared.rows, expected: embeddings.rows)
    }
    let relevance = try CDPruner.relevance(
      compared, name, question: try matrix(questionName, columns: compared.columns), questionName,
      sign: isClip ? -1 : 1, on: compute)
    let views = projected.count == 3 ? projected[0] : 1
    let perView = embeddings.rows / max(1, views)
    let count = try count(perView)
    let orders = try (0..<views).map { view in
      let rows = view * perView..<(view + 1) * perView
      var part = Matrix(rows: 0, columns: embeddings.columns)
      part.assign(embeddings, rows: rows)
      return try CDPruner.select(part, relevance: Array(relevance[rows]), count: count, on: compute)
    }
    return Result(orders: orders, hasViews: projected.count == 3)
  }

  /// The number of tokens to choose of `tokens`.
  private func count(_ tokens: Int) throws -> Int {
    if let share = parameters.share {
      guard (0...1).contains(share) else { throw SelectionCaseError.parameter("--share", "0 to 1", "\(share)") }
      return Int((share * Double(tokens)).rounded(.toNearestOrEven))
    }
    guard let count = parameters.tokens else { throw SelectionCaseError.noCount }
    guard count >= 0 else { throw SelectionCaseError.parameter("--tokens", "0 or more", "\(count)") }
    return min(count, tokens)
  }

  private func positive(_ value: Double?, _ option: String) throws -> Double? {
    guard let value else { return nil }
    guard value > 0, value.isFinite else { throw SelectionCaseError.parameter(option, "more than 0", "\(value)") }
    return value
  }

  // MARK: - Tensors

  /// The attention of the class token, or its mean over heads.
  private func classAttention() throws -> [Float] {
    guard file.records["class_attention"] == nil, file.records["class_attention_heads"] != nil else {
      return try vector("class_attention")
    }
    return columnMeans(try matrix("class_attention_heads"))
  }

  /// The shape of a tensor, which must have one of these numbers of dimensions.
  private func tensor(_ name: String, dimensions: [Int]) throws -> [Int] {
    let shape = try file.tensor(name).shape
    guard dimensions.contains(shape.count), shape.last ?? 0 > 0 else {
      throw SelectionCaseError.shape(name, dimensions, found: shape)
    }
    return shape
  }

  private func vector(_ name: String) throws -> [Float] {
    _ = try tensor(name, dimensions: [1])
    return try file.tensor(name).floats()
  }

  /// A tensor as a matrix whose columns are its last dimension.
  private func matrix(_ name: String, dimensions: [Int] = [2], columns: Int? = nil) throws -> Matrix {
    let shape = try tensor(name, dimensions: dimensions)
    let width = shape[shape.count - 1]
    let rows = shape.dropLast().reduce(1, *)
    guard rows <= Self.maxTokens else { throw SelectionCaseError.tooMany(name, rows: rows, limit: Self.maxTokens) }
    guard columns ?? width == width else { throw SelectionCaseError.width(name, expected: columns ?? 0, found: width) }
    return Matrix(try file.tensor(name).floats(), columns: width)
  }
}

/// A parameter or a tensor of a selection case that the method cannot use.
package enum SelectionCaseError: UserFacingError, Equatable {
  case method(String)
  case noCount
  case parameter(String, String, String)
  case grid([Int], tokens: Int)
  case window(Int, grid: [Int])
  case shape(String, [Int], found: [Int])
  case width(String, expected: Int, found: Int)
  case tooMany(String, rows: Int, limit: Int)

  package var category: ErrorCategory { .usage }

  package var problem: String {
    switch self {
    case .method(let name):
      "--method: expected one of \(SelectionCase.methods.joined(separator: ", ")), found \(name.excerpt)"
    case .noCount: "the number of tokens is missing; give --tokens or --share"
    case .parameter(let option, let expected, let found): "\(option): expected \(expected), found \(found)"
    case .grid(let grid, let tokens):
      "--grid: expected rows and columns of \(tokens) tokens, found \(grid.map(String.init).joined(separator: ","))"
    case .window(let window, let grid):
      "--window: expected a side of 1 to \(grid.max() ?? 1), found \(window)"
    case .shape(let name, let dimensions, let found):
      "tensor \(name): expected \(dimensions.map(String.init).joined(separator: " or ")) dimensions, found the shape "
        + "\(found)"
    case .tooMany(let name, let rows, let limit):
      "tensor \(name): expected at most \(limit) rows, found \(rows); select in parts"
    case .width(let name, let expected, let found):
      "tensor \(name): expected \(expected) columns, found \(found)"
    }
  }
}
