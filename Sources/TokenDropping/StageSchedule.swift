/// After which layers to drop, and the share of the original tokens to keep from there on.
public enum StageSchedule: Sendable, Hashable {
  /// Layers and ratios as listed, as in the paper's scripts: `[8, 16, 24]` and `[0.5, 0.25, 0.125]`.
  case listed(layers: [Int], ratios: [Double])
  /// Equal stages, each keeping `lambda` of the stage before it.
  case geometric(lambda: Double = 0.5, stages: Int = 4)

  /// The powers of a share from the first on, as written out in decimals, so that 0.6³ is 0.216 and not the number just below it
  /// that three products give.
  static func powers(of share: Double, count: Int) -> [Double] {
    (0..<count).map { last in
      let power = (0...last).reduce(1.0) { power, _ in power * share }
      return (power * 1e15).rounded() / 1e15
    }
  }

  /// The layers and ratios for a model, checked.
  public func resolved(layerCount: Int) throws(DropPolicyError) -> (layers: [Int], ratios: [Double]) {
    let layers: [Int]
    let ratios: [Double]
    switch self {
    case .listed(let listedLayers, let listedRatios): (layers, ratios) = (listedLayers, listedRatios)
    case .geometric(let lambda, let stages):
      guard (0...1).contains(lambda) else { throw .ratioOutOfRange(ratio: lambda) }
      guard (1...max(1, layerCount)).contains(stages) else {
        throw .stageCountOutOfRange(stages: stages, layerCount: layerCount)
      }
      layers = (1..<stages).map { $0 * layerCount / stages }
      ratios = Self.powers(of: lambda, count: stages - 1)
    }
    guard layers.count == ratios.count else { throw .differentLengths(layers: layers.count, ratios: ratios.count) }
    if let layer = layers.first(where: { !(1..<max(layerCount, 1)).contains($0) }) {
      throw .layerOutOfRange(layer: layer, layerCount: layerCount)
    }
    guard zip(layers, layers.dropFirst()).allSatisfy(<) else { throw .layersNotIncreasing(layers: layers) }
    if let ratio = ratios.first(where: { !(0...1).contains($0) }) { throw .ratioOutOfRange(ratio: ratio) }
    guard zip(ratios, ratios.dropFirst()).allSatisfy(>=) else { throw .ratiosIncreasing(ratios: ratios) }
    return (layers, ratios)
  }

  /// The drops of one picture; counts are truncated products with the original number, as in the authors' code.
  func stages(
    _ layerCount: Int, _ visualTokenCount: Int, _ positions: PositionRule, _ ranking: Ranking, masksPadding: Bool
  ) throws(DropPolicyError) -> [DropStage] {
    let (layers, ratios) = try resolved(layerCount: layerCount)
    return zip(layers, ratios).map { layer, ratio in
      DropStage(
        afterLayer: layer, scoringLayer: layer, keepCount: Int(Double(visualTokenCount) * ratio),
        positions: positions, ranking: ranking, masksPadding: masksPadding)
    }
  }
}
