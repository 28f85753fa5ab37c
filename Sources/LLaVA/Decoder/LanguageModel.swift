package import Kernels
internal import ModelFormats

/// The language model: a stack of layers between which visual tokens may be dropped, and the output head.
package struct LanguageModel: Sendable {
  let embedding: Tensor
  let layers: [DecoderLayer]
  let outputNorm: [Float]
  let head: Linear
  let epsilon: Float

  init(
    _ checkpoint: Checkpoint, _ configuration: LLaVAConfiguration, layers conversion: LinearConversion,
    head headConversion: LinearConversion
  ) throws(CheckpointError) {
    let text = configuration.text
    let model = checkpoint.scope("language_model.model", conversion)
    embedding = try model.scope("embed_tokens").tensor("weight", shape: [text.vocabularySize, text.hiddenSize])
    var layers: [DecoderLayer] = []
    for i in 0..<text.layerCount { layers.append(try DecoderLayer(model.scope("layers.\(i)"), text)) }
    self.layers = layers
    outputNorm = try model.scope("norm").vector("weight", count: text.hiddenSize)
    head =
      configuration.tiesWordEmbeddings
      ? headConversion(Linear(weight: embedding), named: "language_model.model.embed_tokens.weight")
      : try checkpoint.scope("language_model", headConversion)
        .linear("lm_head", inputs: text.hiddenSize, outputs: text.vocabularySize)
    epsilon = text.rmsNormEpsilon
  }

  /// Runs a prompt's rows in `state.hidden` through all layers, dropping visual tokens as planned.
  ///
  /// - Parameters:
  ///   - layout: Describes the rows; shrinks with them.
  ///   - room: Rows to come later, for which the caches make room at once.
  /// - Returns: What each drop did.
  package func prefill(
    _ state: inout DecoderState, _ layout: inout SequenceLayout, _ plan: DropPlan, room: Int = 0, on compute: Compute
  ) -> [DropRecord] {
    compute.during(.prefill) { run(&state, &layout, plan, room: room, on: compute) }
  }

  /// Runs generated tokens in `state.hidden` through all layers.
  package func decode(_ state: inout DecoderState, _ layout: inout SequenceLayout, on compute: Compute) {
    compute.during(.decode) { _ = run(&state, &layout, .none, room: 0, on: compute) }
  }

  /// The one loop over the layers, for a prompt and for a generated token alike.
  ///
  /// Positions go on from each layer's own cache, so after a compact drop they differ from layer to layer.
  private func run(
    _ state: inout DecoderState, _ layout: inout SequenceLayout, _ plan: DropPlan, room: Int, on compute: Compute
  ) -> [DropRecord] {
    var records: [DropRecord] = []
    compute.ledger.stage = 0
    state.recordLastRow()
    for index in layers.indices {
      compute.ledger.layer = index
      if let drop = plan.drops.first(where: { $0.afterLayer == index }) {
        records.append(dropAndProject(drop, &state, &layout, on: compute))
      } else {
        layers[index].project(&state, on: compute)
      }
      let cache = state.cache.layers[index]
      cache.reserve(rows: cache.length + layout.rowCount + room)
      state.place(layout.positions, after: cache)
      layers[index].finish(&state, cache, at: state.positions, on: compute)
      state.recordLastRow()
    }
    return records
  }

  /// Drops visual tokens in front of a layer, and makes that layer's queries, keys and values of the others.
  ///
  /// Only a ranking by the layer's own keys needs them before the drop.
  private func dropAndProject(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ layout: inout SequenceLayout, on compute: Compute
  ) -> DropRecord {
    let layer = layers[drop.afterLayer]
    guard drop.scoresWithNextLayer else {
      let record = rankAndDrop(drop, &state, &layout, on: compute)
      layer.project(&state, on: compute)
      return record
    }
    layer.makeKeys(&state, on: compute)
    let record = rankAndDrop(drop, &state, &layout, on: compute)
    layer.makeQueriesAndValues(&state, on: compute)
    return record
  }

  /// Scores all rows, keeps the best visual ones of each picture in their order, and lets the others go.
  private func rankAndDrop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ layout: inout SequenceLayout, on compute: Compute
  ) -> DropRecord {
    compute.during(.rank) {
      let ranker = VisualTokenRanker(layers: layers)
      let scores = ranker.scores(for: drop, before: drop.afterLayer, &state, layout, on: compute)
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      let blockScores = blocks.map { Array(scores[$0.rows]) }
      let kept = zip(blockScores, drop.keepCounts).map { topIndices($0, count: $1) }
      let rows = layout.keep(kept, positions: drop.positions)
      state.hidden.keepRows(rows)
      if drop.scoresWithNextLayer {
        state.normed.keepRows(rows)
        state.keys.keepRows(rows)
        // Keys were made for all rows; those of the dropped ones served the ranking alone.
        let keys = layers[drop.afterLayer].keys
        let extra = (rowsBefore - layout.rowCount) * keys.inputSize * keys.outputSize
        compute.ledger.move(.keys, extra, from: .prefill, to: .rank)
      }
      compute.ledger.stage += 1
      return DropRecord(
        layer: drop.afterLayer, scoringLayer: drop.scoringLayer, tokensBefore: rowsBefore,
        tokensAfter: layout.rowCount,
        pictures: blocks.indices.map { i in
          DropRecord.Picture(
            start: blocks[i].start, count: blocks[i].tokens.count, kept: layout.visualBlocks[i].tokens,
            scores: blockScores[i])
        })
    }
  }

  /// The logits after the last row of `state.hidden`, one per entry of the vocabulary.
  package func logits(_ state: borrowing DecoderState, on compute: Compute) -> [Float] {
    var lastRow = Matrix(rows: 0, columns: state.hidden.columns)
    lastRow.assign(state.hidden, rows: state.hidden.rows - 1..<state.hidden.rows)
    return logits(lastRow, on: compute).values
  }

  /// The logits of every row of `hidden`, `[T, N]`.
  package func logits(_ hidden: borrowing Matrix, on compute: Compute) -> Matrix {
    compute.counting(as: .head) {
      var normed = Matrix(rows: 0, columns: hidden.columns)
      compute.rmsNorm(&normed, hidden, gain: outputNorm, epsilon: epsilon)
      var logits = Matrix(rows: 0, columns: head.outputSize)
      compute.multiply(&logits, normed, by: head, .output)
      return logits
    }
  }
}
