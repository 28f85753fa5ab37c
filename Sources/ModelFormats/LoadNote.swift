import Storage

/// A remark about a model directory that was loaded.
package enum LoadNote: Sendable, Equatable {
  /// A value that another file contradicts, and that is not used.
  ///
  /// - Parameters:
  ///   - found: The value for a message.
  ///   - used: The value that is used, with its file.
  case contradiction(file: String, key: String, found: String, used: String)
  case cappedContext(slidingWindow: Int, positions: Int)
  /// The embeddings are tied at the top level of `config.json` only.
  case tiedAtTop(hasHead: Bool)
  /// Weight files that are not read.
  case otherWeights(used: String, ignored: [String])
  case shardsWithoutIndex(count: Int)
  /// A prefix of all tensor names that a training program added.
  case removedPrefix(String)
  /// A patch embedding in the layout of MLX.
  case channelsLast(tensor: String)
  /// An adapter next to weights, which is not applied.
  case adapterNotApplied(file: String)
  /// An option of `generation_config.json` that changes greedy answers of transformers.
  case generationOption(key: String, value: String)
  /// Tensors within the decoder's layers that the model does not have.
  case unexpectedTensors(count: Int, first: String)
  /// A CLIP directory that was found but cannot be used, and why.
  case unusedCLIP(String)
  case unusedTensor(String)
  case moreUnusedTensors(count: Int)

  /// Remarks about tensors that the model does not use, up to 8 by name.
  package static func notes(unusedTensors names: [String], layerCount: Int) -> [LoadNote] {
    let layers = "language_model.model.layers."
    let unexpected = names.filter { name in
      guard name.hasPrefix(layers), let index = Int(name.dropFirst(layers.count).prefix { $0 != "." }) else {
        return false
      }
      return index < layerCount
    }
    return (unexpected.first.map { [.unexpectedTensors(count: unexpected.count, first: $0)] } ?? [])
      + names.prefix(8).map(LoadNote.unusedTensor)
      + (names.count > 8 ? [.moreUnusedTensors(count: names.count - 8)] : [])
  }

  /// Whether answers may differ from those that the model's author expects.
  package var isWarning: Bool {
    switch self {
    case .adapterNotApplied, .unexpectedTensors, .generationOption: true
    default: false
    }
  }
}

extension LoadNote: CustomStringConvertible {
  package var description: String {
    switch self {
    case .contradiction(let file, let key, let found, let used):
      "\(file): \(key) \(found) contradicts \(used), and is not used"
    case .cappedContext(let window, let positions):
      "the sliding window of \(window) tokens limits the context, which config.json gives as \(positions)"
    case .tiedAtTop(hasHead: true):
      "config.json: tie_word_embeddings true is not in text_config and is not used; the output head is lm_head.weight"
    case .tiedAtTop(hasHead: false):
      "config.json: tie_word_embeddings true is not in text_config but used, since there is no lm_head.weight"
    case .otherWeights(let used, let ignored):
      "the weights are \(used); \(ignored.joined(separator: ", ")) \(ignored.count == 1 ? "is" : "are") not read"
    case .shardsWithoutIndex(let count):
      "the weights are \(count) shards without an index"
    case .removedPrefix(let prefix):
      "all tensor names begin with '\(prefix)', which was removed"
    case .channelsLast(let tensor):
      "\(tensor.excerpt) is stored with channels last, as by MLX, and was turned"
    case .adapterNotApplied(let file):
      "\(file) lies next to the weights and is not applied; merge the adapter if it is not part of them"
    case .generationOption(let key, let value):
      "generation_config.json: \(key) \(value), which transformers applies, is not applied; answers may differ"
    case .unexpectedTensors(let count, let first):
      "\(count) tensors of the decoder are not part of this kind of model and not used, such as \(first.excerpt)"
    case .unusedCLIP(let problem):
      "\(problem); it is not used for the relevance of cdpruner"
    case .unusedTensor(let name):
      "the tensor \(name.excerpt) is not used"
    case .moreUnusedTensors(let count):
      "\(count) more tensors are not used"
    }
  }
}
