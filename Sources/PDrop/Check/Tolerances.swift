extension Allowance {
  // The tolerances that the goldens' README gives, for a plain float32 engine on any CPU.

  /// Levels of a pixel: one, where a resize rounds differently; of a JPEG on average, since decoders differ.
  static func pixels(isJPEG: Bool) -> Allowance { isJPEG ? .mean(1) : .absolute(1) }
  static let pixelValues = absolute(1e-6)
  static let features = absolute(2e-4)
  static let scores = relative(2e-3)
  static let hiddenStates = absolute(3e-3)
  static let logits = absolute(3e-3)
}
