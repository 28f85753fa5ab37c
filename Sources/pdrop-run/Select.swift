import ArgumentParser
import CommandLineSupport
import Verification

/// `pdrop-run select`: a selection of visual tokens by given features, without a model.
struct Select: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Selects visual tokens by the features in a safetensors file, to compare methods without a model.",
    discussion: """
      The tensors are, as the method needs them: tower_features [N, C], projected [N, D], class_attention [N], \
      local_attention [N], question_embeddings [Q, D], clip_image [N, E] and clip_text [M, E]. With a leading dimension \
      of projected and clip_image, cdpruner selects in each view.

      If NAME.json is beside NAME.safetensors, the member params of its object has the parameters (K, alpha, lambda, \
      tau_text, tau_vision, grid, window, exclude, relevance); options replace them.
      """)

  @Option(name: .customLong("case"), help: "Safetensors file with the features.")
  var file: String

  @Option(help: "class-attention, scope, divprune, local-global (vscan), mmtok, cdpruner or tops.")
  var method: String

  @Option(help: "Number of tokens to select.")
  var tokens: Int?

  @Option(help: "Share of the tokens to select, instead of a number; rounded to nearest, halves to even.")
  var share: Double?

  @Option(help: "Exponent of the attention in scope; weight of the image in mmtok, of diversity in tops.")
  var alpha: Double?

  @Option(help: "Weight of coverage in tops.")
  var lambda: Double?

  @Option(name: .customLong("tau-text"), help: "Temperature of the question in mmtok. (default: 0.02)")
  var textTemperature: Double?

  @Option(name: .customLong("tau-vision"), help: "Temperature of the image in mmtok. (default: 0.2)")
  var visionTemperature: Double?

  @Option(help: "Rows and columns of the tokens in local-global, such as 24,24. (default: a square)")
  var grid: NumberList<Int>?

  @Option(help: "Side of a window in local-global. (default: a quarter of the grid)")
  var window: Int?

  @Option(help: "Indices of tokens that mmtok does not select, such as 0,1,2.")
  var exclude: NumberList<Int>?

  @Option(help: "Relevance in cdpruner: clip or question. (default: clip if there is clip_text)")
  var relevance: Relevance?

  @Option(help: "Output: text, a line of indices in the order of selection for each view, or json.")
  var format = Format.text

  @Option(name: [.short, .long], help: "Number of threads. (default: all cores)")
  var threads: Int?

  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }
  enum Relevance: String, ExpressibleByArgument, CaseIterable { case clip, question }

  func validate() throws {
    guard SelectionCase.methods.contains(method) else {
      throw ValidationError("\(SelectionCaseError.method(method))")
    }
    guard tokens == nil || share == nil else { throw ValidationError("give --tokens or --share, not both") }
    try checkRange("--threads", threads, 1...1024)
  }

  func run() throws {
    var parameters = SelectionCase.Parameters()
    (parameters.tokens, parameters.share) = (tokens, share)
    (parameters.alpha, parameters.lambda) = (alpha, lambda)
    (parameters.textTemperature, parameters.visionTemperature) = (textTemperature, visionTemperature)
    (parameters.grid, parameters.window, parameters.excluded) = (grid?.numbers, window, exclude?.numbers)
    parameters.relevance = relevance?.rawValue
    let result = try SelectionCase(file, method: method, parameters)
      .run(threads: ThreadCount(requested: threads).count)
    switch format {
    case .text:
      for order in result.orders { print(order.map(String.init).joined(separator: " ")) }
    case .json:
      if result.hasViews {
        try JSONLine.print(Selected(method: method, order: result.orders, sorted: result.orders.map { $0.sorted() }))
      } else {
        try JSONLine.print(Selected(method: method, order: result.orders[0], sorted: result.orders[0].sorted()))
      }
    }
  }

  /// The selection as JSON.
  private struct Selected<Indices: Encodable>: Encodable {
    var method: String
    /// Indices in the order of selection.
    var order: Indices
    /// The same, ascending.
    var sorted: Indices
  }
}
