import ArgumentParser
import CommandLineSupport
import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// The source of a model: a directory, or random weights.
enum ModelSource {
  case directory(String)
  /// Random weights in the shape of a published model.
  case synthetic(ModelPreset)
}

/// The models to measure, and their compute types.
struct ModelSourceOptions: ParsableArguments {
  @Option(
    name: [.short, .long], help: "Model directory; may be repeated. (default: the bundled tiny-textvqa)")
  var model: [String] = []

  @Option(help: "Published models to measure with random weights.")
  var synthetic = NameList<ModelPreset>([])

  @Option(help: "With --synthetic: number of decoder layers. (default: all)")
  var layers: Int?

  @Flag(help: "With --synthetic: separate weights per layer. The default shares one layer's weights to save memory.")
  var distinctLayers = false

  @Option(help: "Compute precisions of the language model to compare.")
  var precision = NameList<Precision>([.auto])

  @Option(
    name: .customLong("precision-vision"),
    help: "Compute precision of the vision encoder. (default: as --precision, but not to 4 bits)")
  var visionPrecision = Precision.auto

  @Option(name: .customLong("kv"), help: "KV cache data type.")
  var cachePrecision = CachePrecision.auto

  @Option(
    name: .customLong("attention-scores"),
    help: "Data type of attention scores in prompts and in the vision encoder.")
  var scorePrecision = ScorePrecision.auto

  @Option(help: "GGUF file of the vision encoder, for a model in GGUF. (default: the only one beside the model)")
  var mmproj: String?

  @Option(
    name: .customLong("vision-tower"),
    help: "CLIP or SigLIP directory of an original LLaVA checkpoint. (default: a directory next to the model)")
  var visionTower: String?

  @Option(
    name: .customLong("clip-model"),
    help: """
      CLIP directory with a text encoder, for --preselect cdpruner; none for the language model's embeddings. (default: \
      that of the vision encoder, or clip in or beside the model's directory)
      """)
  var clipModel: String?

  func validate() throws {
    try checkRange("--layers", layers, 1...1024)
    if synthetic.names.isEmpty, layers != nil || distinctLayers {
      throw ValidationError("--layers and --distinct-layers apply to random weights; add --synthetic")
    }
  }

  /// The models; the bundled one by default.
  func sources() throws -> [ModelSource] {
    let sources = model.map(ModelSource.directory) + synthetic.names.map(ModelSource.synthetic)
    return try sources.isEmpty ? [.directory(BundledModel.directory())] : sources
  }

  /// The name and configuration of a model, without loading weights.
  func shape(_ source: ModelSource) throws -> (name: String, configuration: LLaVAConfiguration) {
    switch source {
    case .directory(let path):
      let configuration = try ModelSearch.open(path, visionTower: visionTower, mmproj: mmproj).configuration
      return (URL(filePath: path).standardizedFileURL.lastPathComponent, configuration)
    case .synthetic(let shape): return synthetic(shape, layers: nil)
    }
  }

  /// The configuration of a published model, with the requested number of layers.
  private func synthetic(_ shape: ModelPreset, layers: Int?) -> (name: String, configuration: LLaVAConfiguration) {
    var configuration = shape.configuration
    let published = configuration.text.layerCount
    configuration.text.layerCount = self.layers ?? layers ?? published
    let name = shape.rawValue + (configuration.text.layerCount == published ? "" : ":\(configuration.text.layerCount)")
    return (name, configuration)
  }

  /// Loads a model, or creates one with random weights.
  ///
  /// - Parameter layers: The layers of a synthetic model without `--layers`; `nil` for the published number.
  func load(
    _ source: ModelSource, _ precision: Precision, threads: Int, layers: Int? = nil
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    options.visionPrecision = visionPrecision
    options.cachePrecision = cachePrecision
    options.scorePrecision = scorePrecision
    options.visionTower = visionTower
    options.mmproj = mmproj
    options.clipModel = CLIPSource(option: clipModel)
    options.threads = threads
    switch source {
    case .directory(let path):
      return try VisionLanguageModel(directory: path, options: options)
    case .synthetic(let shape):
      let (name, configuration) = synthetic(shape, layers: layers)
      return try VisionLanguageModel(
        synthetic: configuration, name: name, distinctLayers: distinctLayers, options: options)
    }
  }
}

extension LLaVAConfiguration {
  /// The visual tokens and views of the measured image: one square view, or 640 x 480 for models with image tiles.
  func imageForMeasuring(
    _ packing: Preselection.Packing = .unpadded
  ) -> (tokens: Int, views: Int, layout: ViewLayout) {
    var layout =
      anyResolution.map { rules in
        ViewLayout.tiled(AnyResolutionGeometry(PixelSize(height: 480, width: 640), rules).tiles)
      } ?? imageSplitting?.geometry(PixelSize(height: 480, width: 640)).layout ?? .single
    if packing == .patches, let vision, anyResolution?.merge == .spatialUnpad {
      layout = layout.keepingAllPatches(side: vision.patchesPerSide)
    }
    return (visualTokenCount(layout), layout.viewCount, layout)
  }
}

// MARK: - Schedules

extension TokenDroppingPolicy {
  /// The short name in tables and charts, such as `no dropping`, `FastV K=2 R=0.5` or `PyramidDrop λ=0.5`.
  var title: String {
    switch self {
    case let policy as TargetedPreselection:
      return policy.selection.labelWithoutSize + (policy.policy is NoDropping ? "" : " + \(policy.policy.title)")
        + " \(policy.target.title)"
    case let policy as Preselected:
      return "\(policy.selection.label)" + (policy.policy is NoDropping ? "" : " + \(policy.policy.title)")
    case let policy as FastV: return "\(method) K=\(policy.k) R=\(policy.r)"
    case let policy as TargetedDrop: return "\(method) \(policy.layersTitle)\(policy.target.title)"
    case let policy as any StagedPolicy:
      switch policy.schedule {
      case .geometric(let lambda, let stages): return "\(method) λ=\(lambda)" + (stages == 4 ? "" : " S=\(stages)")
      case .listed(let layers, let ratios), .scaled(let layers, _, let ratios):
        func list(_ numbers: [some Any]) -> String { numbers.map { "\($0)" }.joined(separator: ",") }
        return "\(method) layer \(list(layers)) keep \(list(ratios))"
      }
    default: return method
    }
  }

  /// The name of the method as in its paper.
  var method: String {
    switch name {
    case "none": "no dropping"
    case "pyramiddrop": "PyramidDrop"
    case "fastv": "FastV"
    default: name
    }
  }
}

extension TargetedDrop {
  /// The layers of the drops, or their number if it is not the default, before the target: `layer 2,10,20 `.
  fileprivate var layersTitle: String {
    switch (policy as? any StagedPolicy)?.schedule {
    case .listed(let layers, _), .scaled(let layers, _, _):
      "layer \(layers.map(String.init).joined(separator: ",")) "
    case .geometric(_, let stages) where stages != 4: "S=\(stages) "
    default: ""
    }
  }
}

extension CostTarget {
  /// Such as `45.0% FLOPs`.
  fileprivate var title: String {
    switch self {
    case .averageTokens(let tokens): "\(tokens.significant(4)) tokens"
    case .flops(let ratio): "\(percent(ratio)) FLOPs"
    case .cacheBytes(let bytes): "\((Double(bytes) / 0x1p20).significant(4)) MiB KV"
    case .firstToken(let seconds): "\(seconds.significant(3)) s TTFT"
    }
  }
}

extension NamedSchedule {
  /// The title of the policy, followed by options that it does not contain: `PyramidDrop λ=0.5 rank key-norm`.
  var title: String {
    let inTitle: Set<String> = [
      "lambda", "stages", "layer-list", "image-token-ratio-list", "fastv-k", "fastv-r", "target-tokens", "target-flops",
      "target-kv", "target-ttft", "preselect", "preselect-tokens", "preselect-share", "preselect-budget",
      "preselect-packing",
    ]
    let words = name.split(separator: " ").dropFirst().flatMap { $0.split(separator: "=", maxSplits: 1) }
    var title = policy.title
    var isInTitleAlready = false
    for word in words {
      let option = word.hasPrefix("--") ? word.dropFirst(2).replacing("_", with: "-") : nil
      if let option { isInTitleAlready = inTitle.contains(String(option)) }
      if !isInTitleAlready { title += " \(option ?? word)" }
    }
    return title
  }
}
