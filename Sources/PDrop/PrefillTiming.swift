import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
public import TokenDropping

extension VisionLanguageModel {
  /// The policy with measured times of this machine if its target is in seconds, otherwise the policy unchanged.
  public func timed(_ policy: any TokenDroppingPolicy, threads: Int) -> any TokenDroppingPolicy {
    policy.timed(by: prefillTiming(threads: threads))
  }

  /// Measured times of the vision encoder on one view, of two decoder layers over four prompt lengths, and of the head.
  ///
  /// Each measurement follows a warm-up run.
  package func prefillTiming(threads: Int) -> PrefillTiming {
    let compute = ComputeContext(workers: Workers(count: threads))
    let (text, decoder) = (llava.configuration.text, llava.languageModel)
    let view = preprocessor.map { preprocessor in
      let pixels = [Float](repeating: 0, count: 3 * preprocessor.size * preprocessor.size)
      return Self.warmSeconds { _ = llava.viewFeatures(pixels, views: 1, on: compute) }
    }

    var state = DecoderState(text)
    let depth = min(2, text.layerCount)
    var measured: [(rows: Int, milliseconds: Double)] = []
    for part in [8, 4, 2, 1] {
      let rows = max(1, longestPrompt / part)
      let seconds = Self.warmSeconds {
        state.hidden = Matrix(
          [Float](repeating: 0.5, count: rows * text.hiddenSize), columns: text.hiddenSize)
        let cache = KVCache(text, type: precision.cacheType)
        _ = decoder.prefix(&state, cache, depth: depth, reservedRows: 0, on: compute)
      }
      measured.append((rows, 1e3 * seconds / Double(depth)))
    }
    let head = Self.warmSeconds { _ = decoder.logits(state, on: compute) }
    return PrefillTiming(secondsPerView: view ?? 0, layer: Self.layerSeconds(measured), headSeconds: head)
  }

  /// Rows of a prompt with an image of the maximum number of tiles.
  private var longestPrompt: Int {
    let configuration = llava.configuration
    let tiles = configuration.anyResolution.map { rules in
      rules.canvases.map { $0.width / rules.viewSize * ($0.height / rules.viewSize) }
    }
    let tileCount = tiles?.max() ?? configuration.imageSplitting?.maxTileCount ?? 0
    let rows = configuration.visualTokensPerView * (1 + tileCount) + 64
    return min(configuration.text.contextLength, rows)
  }

  /// Coefficients of a layer's time by its rows; a line through the longest measurement if the fit fails.
  private static func layerSeconds(_ measured: [(rows: Int, milliseconds: Double)]) -> [Double] {
    if let fit = LayerCostFit(measured) { return [fit.a, fit.b, fit.c].map { $0 / 1e3 } }
    let longest = measured[measured.count - 1]
    return [0, longest.milliseconds / 1e3 / Double(longest.rows), 0]
  }

  /// Seconds of the second of two runs.
  private static func warmSeconds(_ body: () -> Void) -> Double {
    body()
    let start = ContinuousClock.now
    body()
    return (ContinuousClock.now - start).milliseconds / 1e3
  }
}
