package import Kernels
package import ModelFormats
package import TokenDropping
package import TokenSelection

/// The selection of the visual tokens of an image that enter the decoder.
///
/// Newline tokens show no patch, so they are not selected themselves: the newline of a row, of a view or of a video enters
/// with the first token before it, and both count. So the number of tokens is known before the image is encoded. Class tokens of views always
/// enter.
struct VisualTokenSelection {
  private let selection: Preselection
  private let places: [VisualTokenPlace]
  /// Indices of the patches of each view, or of all views together; of all tokens, if newlines are among them.
  private let groups: [[Int]]
  private let layout: ViewLayout
  private let vision: VisionConfiguration
  private let clip: CLIPConfiguration?
  /// The row of each token's patch in `SelectionInputs`, in a map that is reduced the nearest patch; `nil` for other
  /// tokens.
  private let inputRows: [Int?]
  /// The number of patches of a view, or of tokens after a pixel shuffle.
  private let tokensPerView: Int

  /// - Parameter layout: The views of the image or the video.
  init(
    _ selection: Preselection, _ layout: ViewLayout, _ configuration: LLaVAConfiguration, _ vision: VisionConfiguration
  ) {
    (self.selection, self.layout, self.vision, clip) = (selection, layout, vision, configuration.clip)
    let side = configuration.tokensPerSide
    let tokensPerView = side * side
    self.tokensPerView = tokensPerView
    let places = configuration.visualTokenPlaces(layout)
    let maps = configuration.reducedMaps(layout) { view, patch in view * tokensPerView + patch }
    let inputRows: [Int?] = places.map { place in
      switch place {
      case .patch(let view, let row, let column): view * tokensPerView + row * side + column
      case .reduced(let map, let row, let column): maps[map].nearest(row, column)
      case .wholeView, .newline: nil
      }
    }
    (self.places, self.inputRows) = (places, inputRows)
    var views = [[Int]](repeating: [], count: layout.viewCount)
    for (index, row) in inputRows.enumerated() {
      if let row { views[row / tokensPerView].append(index) }
    }
    let isByView = selection.budget == .view || selection.method == .localGlobal
    groups =
      selection.packing == .sequence
      ? [Array(places.indices)] : isByView ? views.filter { !$0.isEmpty } : [views.flatMap(\.self)]
  }

  private var count: Int { selection.tokenCount(of: places.count) }

  /// Row of a patch in `SelectionInputs`.
  private func inputRow(_ token: Int) -> Int {
    guard let row = inputRows[token] else { preconditionFailure("not a patch") }
    return row
  }

  /// Numbers of tokens to select from each group: equal parts, or all of a group that has fewer.
  private var shares: [Int] {
    var (shares, left) = (groups.map { _ in 0 }, min(count, groups.reduce(0) { $0 + $1.count }))
    while left > 0 {
      let open = groups.indices.filter { shares[$0] < groups[$0].count }
      for (place, group) in open.enumerated() {
        let part = left / open.count + (place < left % open.count ? 1 : 0)
        shares[group] += min(part, groups[group].count - shares[group])
      }
      left = min(count, groups.reduce(0) { $0 + $1.count }) - shares.reduce(0, +)
    }
    return shares
  }

  private var patchCount: Int { groups.reduce(0) { $0 + $1.count } }

  /// Multiply-adds of the selection: the attention of the class token, and cosines of all pairs in each group.
  ///
  /// Cosines of `n` vectors of size `C` cost `n² C`, their norms `n C`. The greedy choice adds and compares; only that of
  /// CDPruner multiplies.
  ///
  /// - Parameters:
  ///   - columns: `D` of the decoder.
  ///   - question: The question, for methods that use it.
  func multiplyAdds(columns: Int, question: SelectionQuestion) -> Int {
    guard count < places.count else { return 0 }
    func cosines(_ count: Int, _ columns: Int) -> Int { count * (count + 1) * columns }
    func withQuestion(_ count: Int, _ columns: Int) -> Int {
      (count + question.rowCount + count * question.rowCount) * columns
    }
    let attention = (1 + vision.patchCount) * vision.hiddenSize
    let viewCount = groups.map { group in Set(group.compactMap { inputRows[$0].map { $0 / tokensPerView } }).count }
    var total = 0
    if selection.method == .cdPruner {
      if case .clip(let pieces) = question, let clip {
        total = clip.multiplyAdds(text: pieces) + clip.multiplyAdds(patches: patchCount)
      }
      total += withQuestion(patchCount, clip?.embeddingSize ?? columns)
    }
    return groups.indices.reduce(total) { total, index in
      let count = groups[index].count
      switch selection.method {
      case .classAttention: return total + viewCount[index] * attention
      case .scope: return total + viewCount[index] * attention + cosines(count, vision.hiddenSize)
      case .divPrune: return total + cosines(count, columns)
      case .localGlobal: return total + 2 * attention
      case .mmTok: return total + withQuestion(count, columns) + cosines(count, vision.hiddenSize)
      case .cdPruner:
        let share = shares[index]
        return total + cosines(count, columns) + count * share * (share - 1) / 2
      case .tops: return total + viewCount[index] * attention + cosines(count, columns)
      }
    }
  }

  /// Bytes of the largest matrices of cosines, of the question's embeddings and of CLIP's.
  ///
  /// - Parameters:
  ///   - columns: `D` of the decoder.
  ///   - question: The question, for methods that use it.
  func workingByteCount(columns: Int, question: SelectionQuestion) -> Int {
    guard count < places.count else { return 0 }
    let largest = groups.map(\.count).max() ?? 0
    switch selection.method {
    case .classAttention, .localGlobal: return 0
    case .mmTok:
      // The cosines with the image and with the question, and both as columns to cover.
      let rows = question.rowCount
      return (2 * largest * (largest + rows) + rows * columns) * ElementType.f32.byteCount
    case .scope, .divPrune, .cdPruner, .tops:
      let embeddings = selection.method == .cdPruner ? clip?.workingByteCount(patches: patchCount) ?? 0 : 0
      return largest * largest * ElementType.f32.byteCount + embeddings
    }
  }

  // MARK: - Selection

  /// The relevance of the patches of all groups to the question by CDPruner; nothing for other methods.
  ///
  /// - Parameters:
  ///   - features: The image's features, `[V, D]`.
  ///   - inputs: Needed for a question of CLIP.
  /// - Throws: `SelectionError` for features that are not numbers.
  func relevance(
    _ features: borrowing Matrix, _ inputs: SelectionInputs, question: SelectionQuestion, in model: LLaVAModel,
    on compute: ComputeContext
  ) throws(SelectionError) -> [Float] {
    guard selection.method == .cdPruner, count < places.count else { return [] }
    let patches = groups.flatMap(\.self)
    switch question {
    case .languageModel(let tokens):
      var embeddings = Matrix(rows: 0, columns: features.columns)
      model.languageModel.embed(tokens, into: &embeddings)
      return try CDPruner.relevance(
        rows(features, patches), "projected", question: embeddings, "question_embeddings", sign: 1, on: compute)
    case .clip(let pieces):
      guard let clip = model.clip else { preconditionFailure("relevance: the model has no CLIP") }
      return try CDPruner.relevance(
        clip.image(patchFeatures(patches, inputs), on: compute), "clip_image",
        question: clip.text(pieces, on: compute), "clip_text", sign: -1, on: compute)
    }
  }

  /// Indices of the selected tokens, ascending.
  ///
  /// - Parameters:
  ///   - features: The image's features, `[V, D]`.
  ///   - inputs: Needed by all methods but `.divPrune` and `.cdPruner`.
  ///   - padding: Indices of the tokens that show only padding, which MMTok does not select.
  ///   - question: Embeddings of the question's tokens, `[Q, D]`.
  ///   - relevance: The result of `relevance`.
  /// - Throws: `SelectionError` for features that are not numbers.
  func selected(
    _ features: borrowing Matrix, _ inputs: SelectionInputs, padding: [Int], question: borrowing Matrix,
    relevance: [Float], on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    guard count < places.count else { return Array(places.indices) }
    var orders: [[Int]] = []
    var first = 0
    for (group, share) in zip(groups, shares) {
      let scores = relevance.isEmpty ? [] : Array(relevance[first..<first + group.count])
      orders.append(
        try order(
          group, share, features, inputs, padding: Set(padding), question: question, relevance: scores, on: compute))
      first += group.count
    }
    return completed(orders)
  }

  /// Tokens of a group in the order of choice.
  private func order(
    _ group: [Int], _ share: Int, _ features: borrowing Matrix, _ inputs: SelectionInputs, padding: Set<Int>,
    question: borrowing Matrix, relevance: [Float], on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    func attention() -> [Float] {
      let inputRows = group.map(inputRow)
      chargeAttention(views: Set(inputRows.map { $0 / tokensPerView }).count, layers: 1, on: compute)
      return inputRows.map { inputs.classAttention[$0] }
    }
    let order: [Int]
    switch selection.method {
    case .classAttention: order = try selectByClassAttention(attention(), count: share)
    case .scope(let alpha):
      order = try selectByScope(
        patchFeatures(group, inputs), attention: attention(), alpha: alpha, count: share, on: compute)
    case .divPrune: order = try selectByDiversity(rows(features, group), count: share, on: compute)
    case .localGlobal: return try localAndGlobal(group, share, inputs, on: compute)
    case .mmTok:
      let excluded = Set(group.indices.filter { padding.contains(group[$0]) })
      order = try MMTok().select(
        rows(features, group), features: patchFeatures(group, inputs), question: question, excluded: excluded,
        count: share,
        on: compute)
    case .cdPruner:
      order = try CDPruner.select(rows(features, group), relevance: relevance, count: share, on: compute)
    case .tops(let alpha, let lambda):
      var tops = Tops()
      (tops.alpha, tops.lambda) = (alpha, lambda)
      order = try tops.select(rows(features, group), relevance: attention(), count: share, on: compute)
    }
    return order.map { group[$0] }
  }

  /// The tokens of a view by VScan's rule on the whole view; those whose patches are cut off as padding are left out.
  private func localAndGlobal(
    _ group: [Int], _ share: Int, _ inputs: SelectionInputs, on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    let patches = vision.patchCount
    let view = group.first.map { inputRow($0) / patches } ?? 0
    chargeAttention(views: 1, layers: 2, on: compute)
    // Of an image in one view, what was asked for, from which the number of all follows.
    let asked: Int =
      switch selection.size {
      case .tokens(let tokens) where groups.count == 1: tokens
      case .share(let part) where groups.count == 1: Int((part * Double(places.count)).rounded(.toNearestOrEven))
      default: share
      }
    let side = vision.patchesPerSide
    let chosen = try selectLocalAndGlobal(
      local: Array(inputs.localAttention[view * patches..<(view + 1) * patches]),
      global: Array(inputs.classAttention[view * patches..<(view + 1) * patches]),
      rows: side, columns: side, window: max(1, side / 4), count: asked)
    // Both halves in turns, as newlines may take the places of the last ones.
    let turns = (0..<max(chosen.local.count, chosen.global.count)).flatMap { i in
      [chosen.local, chosen.global].compactMap { i < $0.count ? $0[i] : nil }
    }
    let tokens = Dictionary(uniqueKeysWithValues: group.map { (inputRow($0) - view * patches, $0) })
    return turns.compactMap { tokens[$0] }
  }

  /// The vision encoder's features of tokens, `[tokens, C]`.
  private func patchFeatures(_ tokens: [Int], _ inputs: SelectionInputs) -> Matrix {
    let columns = vision.hiddenSize
    return Matrix(
      tokens.flatMap { token in
        let row = inputRow(token)
        return inputs.patchFeatures[row * columns..<(row + 1) * columns]
      }, columns: columns)
  }

  private func rows(_ features: borrowing Matrix, _ tokens: [Int]) -> Matrix {
    var result = Matrix(rows: tokens.count, columns: features.columns)
    let source = features.span
    var target = result.mutableSpan
    for (i, token) in tokens.enumerated() {
      let from = source.row(token, columns: features.columns)
      var to = target.row(i, columns: features.columns)
      for d in from.indices { to[d] = from[d] }
    }
    return result
  }

  /// Charges the attention of the class token, which the vision encoder has recorded.
  private func chargeAttention(views: Int, layers: Int, on compute: ComputeContext) {
    compute.ledger.add(.attention, views * layers * (1 + vision.patchCount) * vision.hiddenSize)
  }

  // MARK: - Newlines

  /// Exactly `count` tokens: class tokens, then the groups' tokens in turns, each with the newline of its row.
  private func completed(_ orders: [[Int]]) -> [Int] {
    if selection.packing == .sequence { return orders.joined().sorted() }
    var newlines: [Int?: Int] = [:]
    for (index, place) in places.enumerated() {
      if case .newline(let row) = place { newlines.updateValue(index, forKey: row) }
    }
    func newline(of token: Int) -> Int? {
      switch (places[token], layout.tiles) {
      case (.wholeView, _), (.newline, _), (.patch(view: 0, _, _), .some): nil
      case (.patch, nil), (.reduced, nil): newlines[Int?.none]
      case (.patch(let view, let row, _), let tiles?):
        newlines[(view - 1) / tiles.columns * vision.patchesPerSide + row]
      case (.reduced(_, let row, _), .some): newlines[row]
      }
    }
    var taken = Set(places.indices.filter { if case .wholeView = places[$0] { true } else { false } }.prefix(count))
    func take(_ tokens: some Sequence<Int>) {
      for token in tokens where taken.count < count && !taken.contains(token) {
        let newline = newline(of: token).flatMap { taken.contains($0) ? nil : $0 }
        guard taken.count + (newline == nil ? 1 : 2) <= count else { continue }
        taken.insert(token)
        if let newline { taken.insert(newline) }
      }
    }
    let longest = orders.map(\.count).max() ?? 0
    take((0..<longest).flatMap { i in orders.compactMap { i < $0.count ? $0[i] : nil } })
    // Where the last place is too small for a token with its newline, or padding was left out.
    take(groups.joined())
    take(newlines.values.sorted())
    return taken.sorted()
  }
}

extension LLaVAConfiguration {
  /// Bytes of working memory of selecting tokens of images, which is used for one after the other.
  ///
  /// - Parameters:
  ///   - layouts: The views of each image.
  ///   - question: The question, for methods that use it.
  package func selectionByteCount(
    _ selection: Preselection, _ layouts: [ViewLayout], question: SelectionQuestion
  ) -> Int {
    guard let vision else { return 0 }
    return layouts.map {
      VisualTokenSelection(selection, $0, self, vision)
        .workingByteCount(columns: text.hiddenSize, question: question)
    }.max() ?? 0
  }

  /// Bytes of what a selection needs of an image besides its features.
  package func selectionInputByteCount(_ layout: ViewLayout) -> Int {
    guard let vision else { return 0 }
    let columns = vision.hiddenSize + (vision.hasClassToken ? 2 : 0)
    return layout.viewCount * vision.patchCount * columns * ElementType.f32.byteCount
  }

  /// Multiply-adds of selecting tokens of images, equal to those counted in the kernels.
  ///
  /// - Parameters:
  ///   - layouts: The views of each image.
  ///   - question: The question, for methods that use it.
  package func selectionMultiplyAdds(
    _ selection: Preselection, _ layouts: [ViewLayout], question: SelectionQuestion
  ) -> Int {
    guard let vision else { return 0 }
    return layouts.reduce(0) { total, layout in
      let selection = VisualTokenSelection(selection, layout, self, vision)
      return total + selection.multiplyAdds(columns: text.hiddenSize, question: question)
    }
  }
}

extension LLaVAModel {
  /// Indices of the tokens of an image that a selection lets into the decoder, ascending.
  ///
  /// - Parameters:
  ///   - features: The image's features, `[V, D]`.
  ///   - inputs: What the vision encoder recorded.
  ///   - layout: The image's views.
  ///   - padding: Indices of the tokens that show only padding.
  ///   - question: The question, for methods that use it.
  /// - Throws: `SelectionError` for features that are not numbers.
  package func selectedTokens(
    _ selection: Preselection, _ features: borrowing Matrix, _ inputs: SelectionInputs, _ layout: ViewLayout,
    padding: [Int], question: SelectionQuestion, on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    guard let vision = configuration.vision else { preconditionFailure("selectedTokens: no vision encoder") }
    compute.ledger.stage = 0
    let selection = VisualTokenSelection(selection, layout, configuration, vision)
    let relevance = try selection.relevance(features, inputs, question: question, in: self, on: compute)
    var embeddings = Matrix(rows: 0, columns: features.columns)
    if case .languageModel(let tokens) = question { languageModel.embed(tokens, into: &embeddings) }
    return try selection.selected(
      features, inputs, padding: padding, question: embeddings, relevance: relevance, on: compute)
  }
}
