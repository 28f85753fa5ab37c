import ArgumentParser
import CommandLineSupport
import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop

/// Where a model to be measured comes from.
enum ModelSource {
  case directory(String)
  /// Random weights of a published shape.
  case synthetic(ModelPreset)
}

/// Which models to measure, in which arithmetic.
struct ModelSourceOptions: ParsableArguments {
  @Option(
    name: [.short, .long], help: "Model directory; repeat it for several. (default: the bundled tiny-textvqa)")
  var model: [String] = []

  @Option(help: "Shapes of published models, to be measured with random weights.")
  var synthetic = NameList<ModelPreset>([])

  @Option(help: "With --synthetic: decoder layers, for a quick look. (default: all)")
  var layers: Int?

  @Flag(help: "With --synthetic: weights of its own for each layer; else one layer's serve all, in less memory.")
  var distinctLayers = false

  @Option(help: "Arithmetic, one or several to compare.")
  var precision = NameList<PDrop.Precision>([.auto])

  @Option(
    name: .customLong("precision-vision"),
    help: "Arithmetic of the vision encoder. (default: as --precision, but not int8)")
  var visionPrecision = PDrop.Precision.auto

  @Option(
    name: .customLong("vision-tower"),
    help: "CLIP directory of an original LLaVA checkpoint. (default: looked for beside the model)")
  var visionTower: String?

  func validate() throws {
    guard layers.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--layers must be 1 to 1024, found \(layers ?? 0)")
    }
    if synthetic.names.isEmpty, layers != nil || distinctLayers {
      throw ValidationError("--layers and --distinct-layers shape random weights; give --synthetic too")
    }
  }

  /// The models, the bundled one if none is given.
  func sources() throws -> [ModelSource] {
    let sources = model.map(ModelSource.directory) + synthetic.names.map(ModelSource.synthetic)
    return try sources.isEmpty ? [.directory(BundledModel.directory())] : sources
  }

  /// A model's name and shape, without its weights.
  func shape(_ source: ModelSource) throws -> (name: String, configuration: LLaVAConfiguration) {
    switch source {
    case .directory(let path):
      do {
        let configuration = try ModelDirectory(path, visionTower: visionTower).configuration
        return (URL(filePath: path).standardizedFileURL.lastPathComponent, configuration)
      } catch { throw FileArgumentError("\(error)") }
    case .synthetic(let shape): return synthetic(shape, layers: nil)
    }
  }

  /// A published shape, with fewer layers where that is asked for.
  private func synthetic(_ shape: ModelPreset, layers: Int?) -> (name: String, configuration: LLaVAConfiguration) {
    var configuration = shape.configuration
    let published = configuration.text.layerCount
    configuration.text.layerCount = self.layers ?? layers ?? published
    let name = shape.rawValue + (configuration.text.layerCount == published ? "" : ":\(configuration.text.layerCount)")
    return (name, configuration)
  }

  /// Loads a model, or makes one up.
  ///
  /// - Parameter layers: How many layers a made-up one has unless `--layers` says; `nil` for the published number.
  func load(
    _ source: ModelSource, _ precision: PDrop.Precision, threads: Int, layers: Int? = nil
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    options.visionPrecision = visionPrecision
    options.visionTower = visionTower
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
  /// An image to measure by: a square view, or a photograph of 640 x 480 for models that spread it over several.
  var imageForMeasuring: (tokens: Int, views: Int) {
    let tiles = anyResolution.map { rules in
      AnyResolutionGeometry(PixelSize(height: 480, width: 640), rules).tiles
    }
    return (visualTokenCount(tiles), 1 + (tiles?.tileCount ?? 0))
  }
}
