package import Kernels

/// The types and sizes of a model's weights as stored, from which its precision is chosen.
package struct StoredWeights: Sendable, Equatable {
  /// Bytes of all weights.
  package var byteCount: Int
  /// Number of values of all weights.
  package var valueCount: Int
  /// Bytes of the weights of the decoder's layers in each type.
  package var layerBytes: [StoredType: Int] = [:]
  /// Whether the output head, or the embedding that it is tied to, has blocks.
  package var headHasBlocks = false

  /// Weights that are floats.
  package init(byteCount: Int, valueCount: Int) {
    self.byteCount = byteCount
    self.valueCount = valueCount
  }

  /// The weights of checkpoints, the model's own first.
  package init(_ checkpoints: [Checkpoint]) {
    self.init(byteCount: 0, valueCount: 0)
    for checkpoint in checkpoints {
      for (name, entry) in checkpoint.tensors {
        guard let info = entry.file.records[entry.storedName] else { continue }
        byteCount += info.bytes.count
        // A shape may promise more values than there are bits, by strides or in a type that is not read.
        valueCount += min(TensorInfo.bitCount(shape: info.shape, width: 1) ?? 0, 8 * info.bytes.count)
        guard let type = StoredType(name: info.elementName) else { continue }
        // Norms and biases stay floats in every file.
        if name.hasPrefix("language_model.model.layers."), info.shape.count == 2 {
          layerBytes[type, default: 0] += info.bytes.count
        }
      }
    }
    if let model = checkpoints.first {
      let head = "language_model.lm_head.weight"
      headHasBlocks = model.hasBlocks(model.contains(head) ? head : "language_model.model.embed_tokens.weight")
    }
  }

  /// The types of block in the decoder's layers, that with the most bytes first.
  package var blockTypes: [BlockType] {
    var bytes: [(type: BlockType, count: Int)] = []
    for case (.blocks(let type), let count) in layerBytes { bytes.append((type, count)) }
    bytes.sort { $0.count != $1.count ? $0.count > $1.count : $0.type.rawValue < $1.type.rawValue }
    return bytes.map(\.type)
  }

  /// Whether most bytes of the decoder's layers are blocks.
  package var isBlockQuantized: Bool {
    var blocks = 0
    for case (.blocks, let count) in layerBytes { blocks += count }
    return blocks > layerBytes.values.reduce(0, +) - blocks
  }
}

extension Checkpoint {
  /// Whether a tensor is stored in blocks.
  fileprivate func hasBlocks(_ name: String) -> Bool {
    guard let entry = tensors[name], let info = entry.file.records[entry.storedName] else { return false }
    return BlockType(rawValue: info.elementName) != nil
  }
}
