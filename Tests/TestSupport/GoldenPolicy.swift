public import TokenDropping

extension GoldenCase.Policy {
  /// The policy of the golden.
  public var policy: any TokenDroppingPolicy {
    switch method {
    case "pyramiddrop": PyramidDrop(.listed(layers: layers ?? [], ratios: keep ?? []))
    case "fastv": FastV(k: k ?? 0, r: r ?? 0)
    default: NoDropping()
    }
  }
}
