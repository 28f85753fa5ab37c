/// How a LLaVA-NeXT model spreads pictures over several views (anyres).
package struct AnyResolution: Sendable, Equatable {
  /// Whose numbers decide where the two differ: on ties between canvases and where a product just misses an integer.
  package enum Arithmetic: Sendable, CaseIterable {
    /// Canvases are listed as height and width; sizes are rounded to seven decimals before they are cut to integers.
    case huggingFace

    /// Canvases are listed as width and height; sizes are cut to integers as they come.
    case original
  }

  /// How the features of a picture's views become one run of tokens.
  package enum Merge: Sendable, Equatable {
    /// The tiles as one map without its padding, a newline behind each of its rows.
    case spatialUnpad

    /// All features of all views, one view after the other.
    case flat
  }

  /// What a picture may be put on, in the order of the file: of two that fit equally well the first is taken.
  package var canvases: [PixelSize]
  /// The side `S` of a view; the canvases' sides are multiples of it.
  package var viewSize: Int
  /// How many patches the tower cuts a view's side into.
  package var patchesPerSide: Int
  package var arithmetic: Arithmetic
  package var merge = Merge.spatialUnpad

  /// - Parameter pinpoints: The canvases as the file lists them.
  package init(
    pinpoints: [(Int, Int)], viewSize: Int, patchesPerSide: Int, arithmetic: Arithmetic, merge: Merge = .spatialUnpad
  ) {
    canvases = pinpoints.map { first, second in
      switch arithmetic {
      case .huggingFace: PixelSize(height: first, width: second)
      case .original: PixelSize(height: second, width: first)
      }
    }
    self.viewSize = viewSize
    self.patchesPerSide = patchesPerSide
    self.arithmetic = arithmetic
    self.merge = merge
  }

  /// What the reference library takes when the file is silent: the canvases of the released models.
  static let releasedPinpoints = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]

  /// Checks that a file's canvases are few and made of whole views.
  init(
    checking pinpoints: [(Int, Int)], _ vision: VisionConfiguration, arithmetic: Arithmetic,
    merge: Merge = .spatialUnpad, _ check: ValueCheck
  ) throws(CheckpointError) {
    guard (1...64).contains(pinpoints.count) else {
      throw check.fault("image_grid_pinpoints", "1 to 64 pairs", "\(pinpoints.count)")
    }
    let side = vision.imageSize
    for (first, second) in pinpoints where !first.isMultiple(of: side) || !second.isMultiple(of: side) {
      throw check.fault("image_grid_pinpoints", "multiples of the tower's \(side)", "[\(first), \(second)]")
    }
    self.init(
      pinpoints: pinpoints, viewSize: side, patchesPerSide: vision.patchesPerSide, arithmetic: arithmetic, merge: merge)
  }
}

extension ConfigurationFile {
  /// LLaVA-NeXT's way with pictures, or `nil` for models that look at a picture once.
  func checkedAnyResolution(
    _ vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> AnyResolution? {
    guard model_type == "llava_next" else { return nil }
    guard use_image_newline_parameter ?? true else {
      throw check.fault("use_image_newline_parameter", "true", "false, which is not supported")
    }
    // The class row has no place in a grid of features.
    guard vision_feature_select_strategy ?? "default" == "default" else {
      throw check.fault(
        "vision_feature_select_strategy", "'default' for llava_next", "'\(vision_feature_select_strategy ?? "")'")
    }
    let pinpoints = image_grid_pinpoints?.pairs ?? AnyResolution.releasedPinpoints
    return try AnyResolution(checking: pinpoints, vision, arithmetic: .huggingFace, check)
  }
}
