package import Kernels

/// Weights that are made up as they are asked for: random, of any shape, the same for a name and a seed.
///
/// Products cost the same whatever the numbers are; so a model of a published shape can be measured without its weights.
/// Numbers are scaled so that a layer's output is as large as its input and activations stay finite through any number of
/// layers: a linear layer's weights deviate by 1 / √inputs, norms multiply by about one.
package struct SyntheticWeights: Sendable {
  /// How tensors are stored, `f32` or `bf16`.
  package let element: ElementType
  /// Whether all layers of a stack have the weights of its first one, which costs the same time and a fraction of the memory.
  package let sharesLayers: Bool
  package let seed: UInt64
  package let workers: Workers

  package init(element: ElementType, sharesLayers: Bool, seed: UInt64 = 0, workers: Workers) {
    self.element = element
    self.sharesLayers = sharesLayers
    self.seed = seed
    self.workers = workers
  }

  /// A tensor of the shape that a model expects of this name.
  func tensor(_ name: String, shape: [Int]) -> Tensor {
    let name = sharedName(name) ?? name
    let isVector = shape.count == 1
    let isGain =
      isVector && name.hasSuffix(".weight") && name.split(separator: ".").dropLast().last?.contains("norm") == true
    let inputs = shape.dropFirst().reduce(1, *)
    return Tensor(
      randomShape: shape, mean: isGain ? 1 : 0, deviation: isVector ? 0.02 : 1 / Float(inputs).squareRoot(),
      element: element, seed: seed ^ Self.hash(name), workers: workers)
  }

  /// The first layer's name for a name within any layer of a stack, `layers.7.mlp` → `layers.0.mlp`; `nil` where layers do
  /// not share or the name is not a layer's.
  func sharedName(_ name: String) -> String? {
    guard sharesLayers else { return nil }
    var parts = name.split(separator: ".")
    guard let stack = parts.firstIndex(of: "layers"), stack + 1 < parts.count else { return nil }
    parts[stack + 1] = "0"
    return parts.joined(separator: ".")
  }

  /// Source: the FNV-1a hash of Fowler, Noll and Vo, 64 bits; the standard library's differs from run to run.
  private static func hash(_ name: String) -> UInt64 {
    name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
